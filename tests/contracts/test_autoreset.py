"""``make_vec(…, autoreset="next_step")``: gymnasium's contract, its observation wrappers, and the same transitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import (
    NormalizeObservation,
    RecordEpisodeStatistics,
    TransformObservation,
)
from numpy.typing import NDArray

from mtrl.agents import MTPPO, AgentError
from mtrl.envs import SuiteError, make_vec

CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "metaworld": ("mt1:reach-v3", {}, 1003),
    "minigrid": ("mg1:Empty-Random-5x5", {}, 400),
    "minigrid-stock": ("mg1:Empty-Random-5x5", {"backend": "stock"}, 250),
}
Transition = tuple[NDArray, float, bool, bool, bool, NDArray]


def actions_of(env: Any, steps: int) -> NDArray:
    """``[steps, num_envs, ...]``: the action of a row's n-th real step, whatever the other rows do."""
    env.action_space.seed(0)
    return np.stack([env.action_space.sample() for _ in range(steps)])


def transitions(name: str, autoreset: Any) -> list[list[Transition]]:
    """Every real step of each row: observation, reward, both ends, success and true next observation."""
    suite, settings, steps = CASES[name]
    env = make_vec(suite, 3, seed=5, autoreset=autoreset, **settings)
    table = actions_of(env, steps)
    rows = np.arange(env.num_envs)
    done_steps, ended = np.zeros(env.num_envs, int), np.zeros(env.num_envs, bool)
    found: list[list[Transition]] = [[] for _ in rows]
    obs, _ = env.reset()
    for _ in range(steps):
        after, reward, terminated, truncated, info = env.step(table[done_steps, rows])
        next_obs = info["final_obs"] if autoreset == "same_step" else after
        for row in rows[~ended]:
            found[row].append(
                (
                    obs[row],
                    reward[row],
                    terminated[row],
                    truncated[row],
                    info["success"][row],
                    next_obs[row],
                )
            )
        for row in rows[ended]:  # only where episodes restart in a step of their own
            assert reward[row] == 0 and not terminated[row] and not truncated[row]
            assert not info["success"][row]
        done_steps += ~ended
        if autoreset == "next_step":
            assert not {"final_obs", "_final_obs", "final_info", "_final_info"} & info.keys()
            ended = terminated | truncated
        obs = after
    env.close()
    return found


@pytest.mark.parametrize("name", CASES)
def test_both_modes_have_the_same_transitions(name: str) -> None:
    ends, apart = 0, set()
    for row, (ours, theirs) in enumerate(
        zip(transitions(name, "next_step"), transitions(name, "same_step"), strict=True)
    ):
        assert len(ours) > 100
        for number, (one, other) in enumerate(zip(ours, theirs)):
            for value, wanted in zip(one, other, strict=True):
                np.testing.assert_array_equal(value, wanted)
            if one[2] or one[3]:
                ends += 1
                apart.add((number, row))
    assert ends >= 6
    if name != "metaworld":  # there, episodes of different rows end at different times
        assert len({number for number, _ in apart}) > 3


@pytest.mark.parametrize("name", ["metaworld", "minigrid"])
def test_gymnasiums_observation_wrappers_work(name: str) -> None:
    suite, settings, _ = CASES[name]
    plain = make_vec(suite, 2, seed=1, autoreset="next_step", **settings)
    env = make_vec(suite, 2, seed=1, autoreset="next_step", **settings)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert env.task_id.tolist() == [0, 0] and env.suite.id == suite
    double = TransformObservation(
        env, lambda obs: 2.0 * obs.astype(np.float32), env.observation_space
    )
    wrapped = RecordEpisodeStatistics(double)
    obs, _ = wrapped.reset(seed=4)
    expected, _ = plain.reset(seed=4)
    np.testing.assert_array_equal(obs, 2.0 * expected.astype(np.float32))
    for actions in actions_of(env, 600):
        obs, reward, *_ = wrapped.step(actions)
        expected, plain_reward, *_ = plain.step(actions)
        np.testing.assert_array_equal(obs, 2.0 * expected.astype(np.float32))
        np.testing.assert_array_equal(reward, plain_reward)
    assert wrapped.episode_count >= 2
    env.close()
    plain.close()


def test_normalized_observations_have_unit_scale() -> None:
    env = NormalizeObservation(make_vec("mt1:reach-v3", 4, seed=1, autoreset="next_step"))
    env.reset()
    seen = np.stack([env.step(actions)[0] for actions in actions_of(env, 600)])
    moving = seen.reshape(-1, seen.shape[-1])[:, :3]  # the hand's position
    assert np.abs(moving.mean(0)).max() < 1.0 and 0.3 < moving.std(0).min() < 3.0
    env.close()


def test_same_step_is_refused_by_gymnasium_as_the_docstring_says() -> None:
    env = make_vec("mg1:Empty-5x5", 2)
    with pytest.raises(ValueError, match="NEXT_STEP"):
        NormalizeObservation(env)
    env.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"autoreset": "later"},
            "autoreset must be one of 'same_step', 'next_step', not 'later'",
        ),
        (
            {"autoreset": "next_step", "stagger": True},
            "autoreset='next_step' does not go with stagger=True; leave one of them out",
        ),
    ],
)
def test_wrong_settings_are_one_sentence(settings: Any, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        make_vec("mt1:reach-v3", 2, **settings)


def test_agents_refuse_it() -> None:
    env = make_vec("mg1:Empty-5x5", 2, autoreset="next_step")
    with pytest.raises(AgentError, match="a NextStepAutoreset is no TaskVectorEnv"):
        MTPPO(env)  # type: ignore[arg-type]
    env.close()


def test_only_minigrid_can_hold_single_environments() -> None:
    env = make_vec("mt1:reach-v3", 2)
    with pytest.raises(
        SuiteError, match="hold: environments of backend 'native' can only step"
    ):
        env.hold(np.array([True, False]))
    env.close()
