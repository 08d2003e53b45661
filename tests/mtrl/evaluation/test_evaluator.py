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


def test_result_by_hand() -> None:
    results = evaluator("mt10:fake", 2, 5).evaluate(Script())
    assert list(results) == ["task-0", "task-2", "task-1"]
    assert results["task-0"].successes == 5
    assert results["task-0"].final_step_successes == 5
    assert results["task-1"].final_step_successes == 0
    assert {result.length_mean for result in results.values()} == {float(HORIZON)}
    assert results["task-0"].success_rate == 1.0


def test_any_step_success_counts_what_the_last_step_has_lost() -> None:
    class Passing(FakeEnv):
        def step_wait(self) -> Any:
            first = self.clock == 0
            obs, reward, terminated, truncated, info = super().step_wait()
            return obs, reward, terminated, truncated, info | {"success": first}

    like = make_vec("mt1:fake", 2, seed=0)
    env = Passing(like.suite, 2, 0, "cycle", 0, 0.0)
    assert Evaluator(env, 6).evaluate(Script())["task-0"] == TaskResult(
        6, 0, 6, pytest.approx(19, abs=20), HORIZON
    )


def test_terminated_positive_needs_reward() -> None:
    class Unlucky(FakeEnv):
        def step_wait(self) -> Any:
            obs, reward, *rest = super().step_wait()
            return obs, np.zeros_like(reward), *rest

    like = make_vec("mt1:fake-ends", 1, seed=0)
    results = Evaluator(Unlucky(like.suite, 1, 0, "cycle", 0, 0.0), 4).evaluate(Script())
    assert results["task-0"].successes == 0
    assert results["task-0"].final_step_successes == 4


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
    few = evaluator("mt10:fake", 2, 3)
    few.evaluate(Script())
    assert few.distinct_levels == {"task-0": 3, "task-2": 3, "task-1": 3}


def test_a_backend_that_cannot_tell_leaves_the_count_open(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeEnv, "start_content", TaskVectorEnv.start_content)
    subject = evaluator("mt10:fake", 2, 3)
    subject.evaluate(Script())
    assert subject.distinct_levels is None


def test_fewer_episodes_than_environments(short_config: ShortConfig) -> None:
    config = short_config(eval__envs_per_task=5, eval__episodes_per_task=2)
    assert config.eval == EvalConfig(150, 2, 5, None)
    assert make_evaluator(config).env.envs_per_task == 2
