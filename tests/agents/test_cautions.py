"""Sentences on methods whose warm-up a run does not outlast."""

from __future__ import annotations

from typing import Any

import pytest

from mtrl.agents import MTPPO, MTSAC
from mtrl.agents.aggregators import AGGREGATORS, parse_aggregator
from tests.helpers import fakes

# Three tasks with two environments each.
PPO: dict[str, Any] = {"width": 8, "rollout_per_task": 40, "epochs": 2, "minibatches": 4}
SAC: dict[str, Any] = {"width": 8, "learning_starts": 10}


def cautions(agent_class: Any, total: int, **settings: Any) -> list[str]:
    env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 0, "random", 0, 0.0)
    return agent_class(env, seed=0, device="cpu", **settings).cautions(total)


def test_warm_ups_by_method() -> None:
    """Two epochs of 100 for dwa; four, the nadir's and one more for ega; none for methods that measure nothing."""
    warm = {name: cls().info.warmup for name, cls in AGGREGATORS.items() if cls().info.warmup}
    assert warm == {"dwa": 200, "ega": 600, "igb-v1": 100, "igb-v2": 500}
    assert parse_aggregator("excess-mtl:warmup=50").info.warmup == 50
    assert parse_aggregator("ega:period=10,warmup=1,every=3").info.warmup == 90
    assert parse_aggregator("cagrad:weighting=dwa").info.warmup == 200


@pytest.mark.parametrize(("total", "said"), [(3000, True), (3001, False)])
def test_ppo_counts_minibatches(total: int, said: bool) -> None:
    """A rollout of 120 env steps has eight updates, so 25 rollouts have the 200 that dwa only measures."""
    found = cautions(MTPPO, total, critic_aggregator="dwa", **PPO)
    sentence = (
        "aggregator: 'dwa' only measures for its first 200 updates, and this run has at most 200; "
        "train longer or shorten its epochs"
    )
    assert found == ([sentence] if said else [])


def test_sac_counts_vector_steps_after_the_random_ones() -> None:
    """30 env steps come first, then an update for every six; one more may be due at the end."""
    enough = 30 + 200 * 6
    assert cautions(MTSAC, enough, critic_aggregator="dwa", **SAC) == []
    found = cautions(MTSAC, enough - 6, critic_aggregator="dwa", **SAC)
    assert len(found) == 1
    assert "at most 200" in found[0]


def test_methods_without_warm_up_say_nothing() -> None:
    assert cautions(MTPPO, 120, aggregator="pcgrad", **PPO) == []
    assert cautions(MTSAC, 40, **SAC) == []
