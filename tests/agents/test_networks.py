"""Every registered network in both agents: it trains, continues bit for bit, and seeds do not disturb each other."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError
from mtrl.agents.files import read_state, write_state
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.seeds import Seeds
from mtrl.agents.state import split_state
from mtrl.envs import make_vec
from tests.agents.ppo.test_agent import DiscreteEnv
from tests.helpers import fakes

NAMES = [name for name in NETWORKS if name != "mlp"]
ALONE = {"care": "care:metadata=none"}
"""Settings without which a network has to know of other tasks."""
TIED = ("care", "paco", "embedding")
"""Networks that have parameters of actor and critic in common."""
SHORT: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {"width": 16, "rollout_per_task": 40, "epochs": 2, "minibatches": 2},
    MTSAC: {"width": 16, "learning_starts": 8, "batch_per_task": 8, "buffer_per_task": 64},
}
CASES: list[dict[str, Any]] = [
    {},
    {"discrete": True, "aggregator": "cagrad"},
    {"heads": "one-hot", "aggregator": "random"},
    {"heads": "separate"},
    {"aggregator": "upgrad:flat_minima=0.05"},
    {"curriculum": "camrl-shared:warmup=0"},
]


def _agent(kind: type[Agent], seed: int = 1, discrete: bool = False, **settings: Any) -> Any:
    env: Any = DiscreteEnv()
    if discrete:
        seed = 0  # as that environment's
    else:
        env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, seed, "random", 0, 0.0)
    return kind(env, seed=seed, device="cpu", **SHORT[kind] | settings)


def _pairs() -> list[Any]:
    """Every network with every setting; of most networks a third by default, so that the tests end in minutes."""
    pairs = []
    for at, name in enumerate(NAMES):
        for number, settings in enumerate(CASES):
            is_usual = name in ("mlp", "film", "moore") or (at + number) % 3 == 0
            marks = () if is_usual else (pytest.mark.slow,)
            pairs.append(pytest.param(name, settings, marks=marks, id=f"{name}-{number}"))
    return pairs


def _advance(agent: Any) -> None:
    for _ in range(7 if isinstance(agent, MTSAC) else 1):
        agent.advance()


@pytest.mark.parametrize(("name", "settings"), _pairs())
@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_trains_and_continues_bit_for_bit(
    kind: type[Agent], name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    if settings.get("heads") == "separate":
        name = ALONE.get(name, name)
    agent, other = (_agent(kind, network=name, **settings) for _ in range(2))
    start = agent.state["actor"]["params"].clone()
    _advance(agent)
    assert not torch.equal(agent.state["actor"]["params"], start)
    write_state(tmp_path / "state", agent.state_dict())
    saved, env = read_state(tmp_path / "state"), copy.deepcopy(agent.env.state_dict())
    other.env.load_state_dict(env)
    other.load_state_dict(saved)
    for each in (agent, other):
        _advance(each)
    (tensors, values), (others, other_values) = (
        split_state(each.state_dict()) for each in (agent, other)
    )
    assert values == other_values
    assert [key for key in tensors | others if not torch.equal(tensors[key], others[key])] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_saved_agents_act_alike(kind: type[Agent], name: str, tmp_path: Path) -> None:
    critic = name if name in TIED else "mlp"
    agent = _agent(kind, network=name, critic_network=critic)
    _advance(agent)
    agent.save(tmp_path / "agent")
    loaded = kind.load(tmp_path / "agent", device="cpu")
    rows = np.random.default_rng(0).normal(size=(7, agent.spec.obs_dim))
    tasks = np.array([2, 0, 0, 1, 2, 2, 0])
    first, _ = agent.predict(rows, deterministic=True, task_id=tasks)
    second, _ = loaded.predict(rows, deterministic=True, task_id=tasks)
    np.testing.assert_array_equal(first, second)
    one_by_one = [
        loaded.predict(row, deterministic=True, task_id=task)[0]
        for row, task in zip(rows, tasks)
    ]
    np.testing.assert_allclose(one_by_one, first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_stacked_seeds_equal_seeds_alone(kind: type[Agent], name: str) -> None:
    def make(seed: int) -> Any:
        return _agent(kind, seed, network=name, aggregator="cagrad", precision="fp32")

    together = Seeds([make(seed) for seed in (1, 2)], stack=True)
    alone = [make(seed) for seed in (1, 2)]
    for _ in range(10 if kind is MTSAC else 1):
        assert together.advance() == {}
        for agent in alone:
            agent.advance()
    for ours, theirs in zip(together.agents, alone):
        for role in ("actor", "critic"):
            own = ours.state[role]["params"]  # type: ignore[attr-defined]
            torch.testing.assert_close(own, theirs.state[role]["params"], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_trains_on_minigrid_with_and_without_memory(name: str, memory: str) -> None:
    settings = {"channels": 4, "sequence": 10, "rollout_per_task": 80}
    agent = MTPPO(
        make_vec("mg3", 4, seed=0),
        seed=1,
        device="cpu",
        network=name,
        aggregator="cagrad",
        memory=memory,  # type: ignore[arg-type]
        **SHORT[MTPPO] | settings,
    )
    agent.learn(480)
    assert agent.gradient_steps > 0
    agent.check_finite()


def test_names_and_settings_are_checked_at_the_door() -> None:
    with pytest.raises(AgentError, match="network: 'mor' is unknown; did you mean 'moore'"):
        _agent(MTPPO, network="mor")
    with pytest.raises(
        AgentError, match=r"network\.expert: unknown setting; did you mean 'experts'"
    ):
        _agent(MTSAC, network="moore:expert=2")
    with pytest.raises(
        AgentError, match=r"actor_network\.experts: '0' is not a whole number of at least 1"
    ):
        _agent(MTSAC, actor_network="moore:experts=0")
    config = _agent(MTSAC, network="moore:experts=2", critic_network="film:code=4").config
    actor, critic = config.networks
    assert actor.experts == 2 and critic.code == 4
