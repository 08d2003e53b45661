"""Seeds in lockstep: alone on a CPU to the bit, stacked to rounding, and none disturbs another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError, DivergedError
from mtrl.agents.seeds import Seeds, Stack
from mtrl.agents.state import split_state
from mtrl.envs import SuiteError
from tests.helpers import fakes

SETTINGS: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {
        "width": 16,
        "rollout_per_task": 40,
        "epochs": 3,
        "minibatches": 4,
        "precision": "fp32",
    },
    MTSAC: {
        "width": 16,
        "learning_starts": 8,
        "batch_per_task": 8,
        "buffer_per_task": 64,
        "precision": "fp32",
    },
}
SEEDS = (3, 1, 2)
FLAT = "cagrad:flat_minima=0.05"


def _agent(kind: type[Agent], seed: int, **settings: Any) -> Any:
    env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, seed, "random", 0, 0.0)
    agent = kind(env, seed=seed, device="cpu", **SETTINGS[kind] | settings)
    agent.begin(480)
    return agent


def _advance(group: Seeds, times: int) -> None:
    for _ in range(times):
        assert group.advance() == {}


def _agents(group: Seeds) -> list[Any]:
    return list(group.agents)


def _alone(kind: type[Agent], seed: int, times: int, **settings: Any) -> Any:
    agent = _agent(kind, seed, **settings)
    for _ in range(times):
        agent.advance()
    return agent


def _equal(first: Agent, second: Agent) -> bool:
    (tensors, values), (others, other_values) = (
        split_state(agent.state_dict()) for agent in (first, second)
    )
    return values == other_values and all(
        torch.equal(tensors[name], others[name]) for name in tensors | others
    )


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MTPPO, {}),
        (MTPPO, {"kl_stop": 1e-5, "aggregator": "pcgrad"}),
        (MTPPO, {"heads": "separate"}),
        (MTPPO, {"curriculum": "success-pacing"}),
        (MTPPO, {"aggregator": "upgrad:flat_minima=0.05"}),
        (MTSAC, {}),
        (MTSAC, {"aggregator": "cagrad", "curriculum": "success-focal"}),
        (MTSAC, {"heads": "separate", "curriculum": "camrl:round_steps=8,warmup=0"}),
    ],
)
def test_every_seed_of_a_group_is_bit_for_bit_what_it_is_alone(
    kind: type[Agent], settings: dict[str, Any]
) -> None:
    times = 3 if kind is MTPPO else 20
    group = Seeds([_agent(kind, seed, **settings) for seed in SEEDS])
    _advance(group, times)
    for seed, agent in zip(SEEDS, _agents(group), strict=True):
        assert agent.gradient_steps > 0
        assert _equal(agent, _alone(kind, seed, times, **settings))
    assert not _equal(_agents(group)[0], _agents(group)[1])


@pytest.mark.parametrize(
    ("kind", "aggregator"),
    [
        (MTPPO, "mean"),
        (MTSAC, "mean"),
        (MTSAC, "pcgrad"),
        (MTPPO, "cagrad"),
        (MTPPO, FLAT),
        (MTSAC, FLAT),
    ],
)
def test_stacked_updates_equal_separate_ones_to_rounding(
    kind: type[Agent], aggregator: str
) -> None:
    times = 2 if kind is MTPPO else 8
    group = Seeds([_agent(kind, seed, aggregator=aggregator) for seed in SEEDS], stack=True)
    _advance(group, times)
    for seed, agent in zip(SEEDS, _agents(group), strict=True):
        own = _alone(kind, seed, times, aggregator=aggregator)
        assert (agent.env_steps, agent.gradient_steps) == (own.env_steps, own.gradient_steps)
        for network in ("actor", "critic"):
            for name, value in own.state[network].items():
                torch.testing.assert_close(
                    agent.state[network][name], value, rtol=1e-3, atol=1e-4
                )


def test_draws_after_the_kl_limit_are_as_if_never_made() -> None:
    settings = {"kl_stop": 1e-4, "learning_rate": 1e-4}
    group = Seeds([_agent(MTPPO, seed, **settings) for seed in SEEDS], stack=True)
    # So that seeds meet the limit at different times.
    _agents(group)[0].state["critic"]["params"].mul_(0)
    _advance(group, 1)
    steps = [agent.gradient_steps for agent in _agents(group)]
    for seed, agent in list(zip(SEEDS, _agents(group), strict=True))[1:]:
        own = _alone(MTPPO, seed, 1, **settings)
        assert agent.gradient_steps == own.gradient_steps
        assert torch.equal(agent.state_dict()["shuffle"], own.state_dict()["shuffle"])
    assert all(0 < count <= 12 for count in steps)


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
@pytest.mark.parametrize("stack", [False, True])
def test_a_seed_that_diverges_leaves_the_others_as_they_are(
    kind: type[Agent], stack: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = 3 if kind is MTPPO else 12
    group = Seeds([_agent(kind, seed) for seed in SEEDS], stack=stack)
    _advance(group, times - 1)
    _agents(group)[1].state["actor"]["params"].fill_(torch.nan)
    if kind is MTSAC:
        _agents(group)[1]._acting = None
    failures = group.advance()
    assert list(failures) == [1] and isinstance(failures[1], SuiteError | DivergedError)
    assert group.advance([0, 2]) == {}
    for index in (0, 2):
        own = _alone(kind, SEEDS[index], times + 1)
        if stack:
            torch.testing.assert_close(
                _agents(group)[index].state["actor"]["params"],
                own.state["actor"]["params"],
                rtol=1e-3,
                atol=1e-3,
            )
        else:
            assert _equal(_agents(group)[index], own)


def test_states_of_a_stack_are_views_that_follow_it() -> None:
    states = [
        {"net": {"params": torch.full((1, 2), float(i)), "step": torch.tensor(float(i))}}
        for i in range(3)
    ]
    stack = Stack(states)
    assert stack.state["net"]["params"].shape == (3, 2) and stack.state["net"][
        "step"
    ].tolist() == [
        0,
        1,
        2,
    ]
    stack.state["net"]["params"] += 1
    stack.state["net"]["step"][2] = 7
    assert (
        states[1]["net"]["params"].tolist() == [[2, 2]] and states[2]["net"]["step"].item() == 7
    )
    stack.state["net"] = {name: value + 1 for name, value in stack.state["net"].items()}
    stack.hand_back()
    assert (
        states[0]["net"]["params"].tolist() == [[2, 2]] and states[2]["net"]["step"].shape == ()
    )
    assert stack.holds(states) and not stack.holds(states[:2])


def test_agents_that_differ_in_more_than_the_seed_are_refused() -> None:
    with pytest.raises(
        AgentError, match=r"agents: config is MTPPOConfig.* only seeds may differ"
    ):
        Seeds([_agent(MTPPO, 0), _agent(MTPPO, 1, width=8)])
