"""MTSAC under curricula: agents of their own per task, loss weights, coupled rounds, exact resume in every mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtrl.agents import MTSAC, AgentError
from mtrl.agents.curricula import CURRICULA
from mtrl.agents.state import join_state, split_state
from tests.helpers import fakes

SMALL: dict[str, Any] = {
    "width": 16,
    "depth": 2,
    "batch_per_task": 8,
    "buffer_per_task": 200,
    "learning_starts": 20,
}
COUPLED = "camrl:round_steps=12,warmup=1,switch=false"


def _env(seed: int = 0, envs_per_task: int = 2, suite: str = "mt10:fake") -> fakes.FakeEnv:
    return fakes.FakeEnv(fakes.get_suite(suite), envs_per_task, seed, "random", 0, 0.0)


def _agent(seed: int = 0, **settings: Any) -> MTSAC:
    return MTSAC(_env(seed), seed=seed, device="cpu", **SMALL | settings)


def _fitting(curriculum: str) -> dict[str, Any]:
    heads = CURRICULA[curriculum.partition(":")[0]]().info.heads
    return {
        "heads": "multi-head" if "multi-head" in heads else "separate",
        "curriculum": curriculum,
    }


def _saved(agent: MTSAC) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors, values = split_state(agent.state_dict())
    return {name: tensor.clone() for name, tensor in tensors.items()}, values


def _unequal(first: MTSAC, second: MTSAC) -> list[str]:
    (ours, our_values), (theirs, their_values) = _saved(first), _saved(second)
    assert ours.keys() == theirs.keys()
    names = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    return names + [name for name in our_values if our_values[name] != their_values[name]]


@pytest.mark.parametrize(
    "curriculum", ["uniform", "success-focal", "mrcl:round_steps=4", "son-goku:recolor=2"]
)
def test_uniform_is_plain_training_and_others_are_not(curriculum: str) -> None:
    plain, other = _agent().learn(300), _agent(curriculum=curriculum).learn(300)
    same = torch.equal(plain.state["actor"]["params"], other.state["actor"]["params"])
    # success-focal starts from equal shares (nothing has succeeded) and asks anew after 500 steps only
    assert same == (curriculum in ("uniform", "success-focal"))
    assert plain.env_steps == other.env_steps == 300


RESUMED = [
    (f"{name}:round_steps=6", 210)
    for name in sorted(CURRICULA)
    if not CURRICULA[name]().info.paces
]
# At different positions of a multi-task round.
RESUMED += [(COUPLED, stop) for stop in (210, 222, 228)]
RESUMED += [
    ("camrl:round_steps=12,warmup=100", 210),  # single-task mode
    ("camrl:round_steps=12,warmup=0,weighting=learned,measure=return", 216),
    ("camrl-shared:round_steps=9,warmup=0,switch=false", 216),
    ("son-goku:recolor=3,anneal=5", 216),
    ("task-grouping:round_steps=4,window=3,regroup=2", 228),
]


@pytest.mark.parametrize(("curriculum", "stop"), RESUMED)
def test_a_restored_agent_continues_bit_for_bit_in_every_mode(
    curriculum: str, stop: int
) -> None:
    settings = _fitting(curriculum)
    agent = _agent(**settings).learn(stop)
    state, env_state = join_state(*_saved(agent)), agent.env.state_dict()
    other = _agent(**settings)
    other.env.load_state_dict(env_state)
    other.load_state_dict(state)
    assert _unequal(agent, other) == []
    assert _unequal(agent.learn(300), other.learn(300)) == []
    assert ("curriculum/share/task-0" in agent.metrics()) != curriculum.startswith("uniform")


def test_separate_agents_learn_like_agents_that_never_met() -> None:
    """One batched update of three agents is three updates of one agent each."""
    batched = _agent(heads="separate").learn(120)
    batch = batched._buffer.sample(8) if batched._buffer is not None else None
    assert batch is not None
    lone = [MTSAC(_env(suite="mt1:fake"), seed=0, device="cpu", **SMALL) for _ in range(3)]
    for task, agent in enumerate(lone):
        for net, tensors in agent.state.items():
            for name, tensor in tensors.items():
                tensor.copy_(
                    batched.state[net][name][task if name == "step" else slice(task, task + 1)]
                )
    shape = (2, *batch.reward.shape, 2)
    normal = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    generators = [torch.Generator() for _ in range(4)]
    batched._noise = _Fixed(normal)
    batched.update(batch)
    for task, (agent, _) in enumerate(zip(lone, generators)):
        agent._noise = _Fixed(normal[:, :, task : task + 1])
        own = [None if part is None else part[:, task : task + 1] for part in batch]
        agent.update(type(batch)(*own))
        for net in ("actor", "critic", "log_alpha", "target_critic"):
            ours, theirs = batched.state[net]["params"][task], agent.state[net]["params"][0]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class _Fixed:
    """Stands for a generator: draws come from a tensor."""

    def __init__(self, normal: torch.Tensor) -> None:
        self.normal = normal


@pytest.fixture(autouse=True)
def _fixed_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.randn

    def randn(*args: Any, generator: Any = None, **more: Any) -> torch.Tensor:
        return (
            generator.normal
            if isinstance(generator, _Fixed)
            else draw(*args, generator=generator, **more)
        )

    monkeypatch.setattr(torch, "randn", randn)


def test_all_agents_start_from_one_initialization_and_drift_apart() -> None:
    agent = _agent(heads="separate")
    params = agent.state["actor"]["params"]
    assert torch.equal(params[0], params[1]) and torch.equal(params[0], params[2])
    agent.learn(240)
    assert not torch.equal(params[0], params[1])


def test_prediction_asks_each_row_of_its_own_agent() -> None:
    agent = _agent(heads="separate").learn(240)
    obs = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    tasks = np.array([2, 0, 0, 1, 2, 2, 0])
    together, _ = agent.predict(obs, deterministic=True, task_id=tasks)
    for row, task, action in zip(obs, tasks, together):
        alone, _ = agent.predict(row, deterministic=True, task_id=np.array([task]))
        np.testing.assert_allclose(action, alone, rtol=1e-5, atol=1e-6)


def test_coupled_rounds_give_every_agent_as_many_updates_as_single_task_rounds() -> None:
    single, coupled = (
        _agent(heads="separate").learn(300),
        _agent(heads="separate", curriculum=COUPLED).learn(300),
    )
    rounds = coupled._rounds.metrics()
    assert rounds["curriculum/multi_task_mode"] == 1 and rounds["curriculum/round"] > 3
    assert single.gradient_steps == coupled.gradient_steps
    assert single.state["actor"]["step"].tolist() == [40, 40, 40]
    steps = coupled.state["actor"]["step"]  # the last round may be under way
    assert steps.sum() == 120 and (steps - 40).abs().max() <= 12 / 2 * 2


def test_only_the_agent_whose_turn_it_is_changes() -> None:
    agent = _agent(
        heads="separate", curriculum="camrl:round_steps=24,warmup=0,switch=false"
    ).learn(120)
    before = agent.state["critic"]["params"].clone()
    agent.learn(126)
    changed = [not torch.equal(a, b) for a, b in zip(agent.state["critic"]["params"], before)]
    turn = agent._rounds._turn
    assert turn is not None and changed == [task == turn.task for task in range(3)]


def test_coupling_draws_agents_together() -> None:
    def spread(pull: float) -> float:
        settings = f"camrl:round_steps=12,warmup=1,switch=false,pull={pull}"
        params = (
            _agent(heads="separate", curriculum=settings).learn(420).state["actor"]["params"]
        )
        return float((params - params.mean(0)).norm())

    assert spread(20.0) < 0.9 * spread(0.0)


def test_the_matrix_is_shown_as_an_image() -> None:
    agent = _agent(heads="separate", curriculum=COUPLED).learn(300)
    image = agent.images()["curriculum/transfer"]
    assert image.shape == (3, 3) and 0 <= image.min() <= image.max() <= 1
    assert not np.array_equal(image, np.eye(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"curriculum": "camrl"}, "'camrl' does not fit heads=multi-head; use heads=separate"),
        ({"curriculum": "mrcl", "heads": "separate"}, "'mrcl' does not fit heads=separate"),
        ({"curriculum": "camrl-shared", "heads": "one-hot"}, "use heads=multi-head"),
        ({"heads": "separate", "aggregator": "pcgrad"}, "'pcgrad' has no shared gradient"),
        (
            {"curriculum": "camrl:prior=task-0/task-7", "heads": "separate"},
            "prior: 'task-7' is unknown",
        ),
        ({"curriculum": "nope"}, "curriculum: 'nope' is unknown"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AgentError, match=message):
        _agent(**settings)


def test_coupling_needs_two_tasks() -> None:
    with pytest.raises(AgentError, match="couples tasks; the suite has only 1"):
        MTSAC(_env(suite="mt1:fake"), device="cpu", heads="separate", curriculum="camrl")
