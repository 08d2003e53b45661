from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mtrl.agents.agent import State
from mtrl.envs import TaskVectorEnv
from mtrl.evaluation.evaluator import (
    EvaluationStopped,
    Evaluator,
    evaluation_seed,
    goal_seed,
    make_evaluator,
)
from mtrl.records.record import TaskResult
from mtrl.settings.config import EvalConfig
from mtrl.settings.presets import resolve
from tests.helpers import fakes
from tests.helpers.fakes import HORIZON, FakeAgent, FakeEnv, make_vec
from tests.mtrl.conftest import ShortConfig


class Script:
    """Pushes toward the goal in task 0, away from it in the others; remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, NDArray]] = []

    def predict(
        self,
        observation: NDArray,
        state: Any = None,
        episode_start: NDArray | None = None,
        deterministic: bool = False,
        *,
        task_id: NDArray | None = None,
    ) -> tuple[NDArray, Any]:
        assert deterministic
        assert task_id is not None
        assert episode_start is not None
        self.calls.append((state, episode_start.copy()))
        push = (observation[:, 1] - observation[:, 0]) * np.where(task_id == 0, 2, -2)
        return np.stack([push, push], 1).clip(-1, 1).astype(np.float32), len(self.calls)


def evaluator(suite: str, envs_per_task: int, episodes: int) -> Evaluator:
    env = make_vec(suite, envs_per_task, seed=3, goals="cycle", goal_seed=0)
    return Evaluator(env, episodes)


@pytest.mark.parametrize("suite", ["mt10:fake", "mt10:fake-ends"])
@pytest.mark.parametrize("episodes", [1, 7, 50])
def test_counts_do_not_depend_on_how_many_run_in_parallel(suite: str, episodes: int) -> None:
    reference = evaluator(suite, 1, episodes).evaluate(Script())
    assert all(result.episodes == episodes for result in reference.values())
    for envs_per_task in (2, 3, 5):
        if envs_per_task <= episodes:
            other = evaluator(suite, envs_per_task, episodes).evaluate(Script())
            for name, result in reference.items():
                assert dataclasses.astuple(other[name]) == pytest.approx(
                    dataclasses.astuple(result)
                )


class Played(FakeEnv):
    """Two environments a task play these steps: reward, success, terminated, truncated. The second task is paid ten
    times as much and the third nothing; only the first succeeds."""

    STEPS = (
        ((1, 1, 0, 0), (16, 1, 0, 1)),
        ((2, 0, 0, 1), (100, 1, 0, 1)),
        ((4, 0, 0, 0), (100, 1, 0, 1)),
        ((8, 0, 1, 0), (100, 1, 0, 1)),
    )

    def rebase(self, boundary: int) -> NDArray:
        self.played = 0
        return super().rebase(boundary)

    def step_wait(self) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, Any]]:
        step = np.tile(np.array(self.STEPS[self.played]), (3, 1))
        self.played += 1
        reward = step[:, 0] * np.repeat([1.0, 10.0, 0.0], 2)
        flags = step[:, 1:] > 0
        success = flags[:, 0] & (np.arange(6) < 2)
        return self._obs(), reward, flags[:, 1], flags[:, 2], {"success": success}


@pytest.mark.parametrize(
    ("suite", "successes"), [("mt10:fake", [2, 0, 0]), ("mt10:fake-ends", [1, 1, 0])]
)
def test_results_by_hand(suite: str, successes: list[int]) -> None:
    """Three episodes a task: two of the first environment, of 2 steps each, and one of the second, of one step.

    The first loses its success before it is cut off, the second succeeds at the end, the third terminates. Episodes of
    the second environment after its first count nowhere, though they succeed and are paid 100.
    """
    env = Played(fakes.get_suite(suite), 2, 0, "cycle", 0, 0.0)
    results = Evaluator(env, 3).evaluate(Script())
    assert env.boundary == 0
    assert results == {
        "task-0": TaskResult(successes[0], 1, 3, 31 / 3, 5 / 3),
        "task-2": TaskResult(successes[1], 0, 3, 310 / 3, 5 / 3),
        "task-1": TaskResult(successes[2], 0, 3, 0.0, 5 / 3),
    }
    assert list(results) == ["task-0", "task-2", "task-1"]
    assert results["task-0"].success_rate == successes[0] / 3


def test_every_call_repeats_the_same_episodes_and_passes_memory() -> None:
    subject, script = evaluator("mt10:fake", 2, 4), Script()
    first = subject.evaluate(script)
    assert script.calls[0][0] is None
    assert script.calls[1][0] == 1
    assert script.calls[0][1].all()
    assert not script.calls[1][1].any()
    assert script.calls[HORIZON][1].all()
    assert subject.evaluate(Script()) == first


def test_stop() -> None:
    with pytest.raises(EvaluationStopped):
        evaluator("mt1:fake", 1, 4).evaluate(Script(), should_stop=lambda: True)


def _bytes(state: State) -> dict[str, Any]:
    return {
        key: value.numpy().tobytes() if torch.is_tensor(value) else value
        for key, value in state.items()
    }


def test_training_is_untouched(short_config: ShortConfig) -> None:
    config = short_config()
    env = make_vec("mt10:fake", seed=0)
    agent = FakeAgent(env, seed=0).learn(60)
    global_torch, global_numpy = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    before, env_before = _bytes(agent.state_dict()), env.state_dict()
    make_evaluator(config).evaluate(agent)
    assert _bytes(agent.state_dict()) == before
    for name, value in env.state_dict().items():
        np.testing.assert_array_equal(value, env_before[name])
    assert torch.equal(torch.get_rng_state(), global_torch)
    assert np.random.get_state()[1].tobytes() == global_numpy  # noqa: NPY002


def test_same_goal_set_as_training_but_other_streams(short_config: ShortConfig) -> None:
    env = make_evaluator(short_config(seed=4)).env
    assert isinstance(env, FakeEnv)
    assert env.cycle
    np.testing.assert_array_equal(env.goal_set, make_vec("mt10:fake", seed=4).goal_set)
    assert env.seed == evaluation_seed(0)
    other = make_evaluator(short_config(seed=4, goal_seed=5)).env
    assert isinstance(other, FakeEnv)
    assert not np.array_equal(other.goal_set, env.goal_set)


def test_an_explicit_seed_draws_other_goals(short_config: ShortConfig) -> None:
    own = make_evaluator(short_config(seed=4)).env
    found = [make_evaluator(short_config(seed=4, eval__seed=seed)).env for seed in (0, 7, 7)]
    goals = [env.goal_set for env in [own, *found] if isinstance(env, FakeEnv)]
    assert not np.array_equal(goals[0], goals[1])
    assert not np.array_equal(goals[1], goals[2])
    np.testing.assert_array_equal(goals[2], goals[3])
    assert [goal_seed(short_config(seed=4)), goal_seed(short_config(seed=4, eval__seed=7))] == [
        4,
        7,
    ]


@pytest.mark.parametrize("suite", ["mt1:reach-v3", "mg1:SimpleCrossingS9N2"])
def test_goals_and_levels_of_real_suites_follow_an_explicit_seed(suite: str) -> None:
    """What is played, by content: the run's own by default, whatever the run's other streams, and others when asked."""

    def played(seed: int, eval_seed: int | None) -> list[bytes | None]:
        config = resolve({"suite": suite, "seed": seed, "eval.seed": eval_seed})
        env = make_evaluator(config, 5).env
        env.rebase(0)
        return [env.start_content(index) for index in range(env.num_envs)]

    own = played(1, None)
    assert None not in own
    assert played(1, 7) != own
    assert played(1, 7) == played(2, 7)
    assert played(1, 1) == own


def test_an_explicit_seed_leaves_the_pool_of_a_held_out_suite_alone() -> None:
    """It draws other levels outside the pool that training had."""
    config = resolve({"suite": "mg3-held-out", "seed": 4, "eval.seed": 7})
    assert goal_seed(config) == 4
    played = []
    for seed in (None, 7):
        config = resolve({"suite": "mg3-held-out", "seed": 4, "eval.seed": seed})
        env = make_evaluator(config, 5).env
        env.rebase(0)
        played.append({env.start_content(index) for index in range(5, 10)})  # RedBlueDoors
    assert not played[0] & played[1]


def test_distinct_starts_are_counted(short_config: ShortConfig) -> None:
    """The fake has 50 goals a task, so that of 60 episodes 50 differ."""
    subject = evaluator("mt10:fake", 5, 60)
    assert subject.distinct_levels is None
    subject.evaluate(Script())
    assert subject.distinct_levels == {"task-0": 50, "task-2": 50, "task-1": 50}
    # Two environments have no episode to play, and what begins after the last one is not counted.
    few = evaluator("mt10:fake", 5, 3)
    few.evaluate(Script())
    assert few.distinct_levels == {"task-0": 3, "task-2": 3, "task-1": 3}


def test_a_backend_that_cannot_tell_leaves_the_count_open(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def content(env: FakeEnv, index: int) -> bytes | None:
        return b"known" if index else TaskVectorEnv.start_content(env, index)

    monkeypatch.setattr(FakeEnv, "start_content", content)
    subject = evaluator("mt10:fake", 2, 3)
    subject.evaluate(Script())
    assert subject.distinct_levels is None


def test_fewer_episodes_than_environments(short_config: ShortConfig) -> None:
    config = short_config(eval__envs_per_task=5, eval__episodes_per_task=2)
    assert config.eval == EvalConfig(150, 2, 5, None)
    assert make_evaluator(config).env.envs_per_task == 2
