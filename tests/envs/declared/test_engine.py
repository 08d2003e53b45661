"""The vector environment of declared suites, against gymnasium's own environments stepped by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl.envs import SuiteError, TaskVectorEnv, get_suite, make_vec
from mtrl.envs.declared.engine import GymnasiumVectorEnv
from tests.helpers.classic import CLASSIC3, SWINGS, cartpole, written


def make(path: str, envs_per_task: int = 2, **settings: Any) -> GymnasiumVectorEnv:
    env = make_vec(path, envs_per_task, **{"seed": 3, **settings})
    assert isinstance(env, GymnasiumVectorEnv)
    return env


def seeds(env: GymnasiumVectorEnv) -> list[int]:
    return [env._streams.episode_seed(index) for index in range(env.num_envs)]


def played(env: TaskVectorEnv, steps: int) -> list[NDArray]:
    """All that a number of steps with drawn actions returns."""
    env.action_space.seed(7)
    found: list[NDArray] = []
    for _ in range(steps):
        *arrays, info = env.step(env.action_space.sample())
        found += [*arrays, info["success"], info["final_obs"]]
    return found


def equal(some: list[NDArray], others: list[NDArray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


def test_episodes_are_those_of_gymnasium() -> None:
    """Observations, rewards, ends and returns of each row equal those of an environment that is stepped by hand."""
    env = make(str(CLASSIC3))
    obs, _ = env.reset()
    singles = [gymnasium.make(task.env_id) for task in env.suite.tasks for _ in range(2)]
    for row, (single, seed) in enumerate(zip(singles, seeds(env))):
        first, _ = single.reset(seed=seed)
        assert 0 <= seed < 2**30
        np.testing.assert_array_equal(obs[row, : len(first)], first)
        assert not obs[row, len(first) :].any()
    env.action_space.seed(0)
    ended = 0
    for _ in range(250):
        actions = env.action_space.sample()
        own = np.where(actions < np.repeat([2, 3, 3], 2), actions, 0)
        obs, reward, terminated, truncated, info = env.step(actions)
        for row, single in enumerate(singles):
            last, gain, over, cut, _ = single.step(int(own[row]))
            assert (reward[row], terminated[row], truncated[row]) == (gain, over, cut)
            np.testing.assert_array_equal(info["final_obs"][row, : len(last)], last)
            assert info["_final_obs"][row] == (over or cut)
            if over or cut:
                ended += 1
                first, _ = single.reset(seed=seeds(env)[row])
                np.testing.assert_array_equal(obs[row, : len(first)], first)
    assert ended > 6


def test_success_is_the_return_of_the_whole_episode(tmp_path: Path) -> None:
    tasks = [
        cartpole(name="ten", horizon=10),
        cartpole(name="eleven", horizon=10, success={"return": 11}),
        {"id": "MountainCar-v0", "horizon": 5, "success": {"return": -5}},
    ]
    env = make(written(tmp_path, {"name": "a", "tasks": tasks}), 1)
    env.reset()
    for step in range(1, 11):
        *_, truncated, info = env.step(np.array([step % 2, step % 2, 0]))
        assert truncated.tolist() == [step == 10, step == 10, step % 5 == 0]
        assert info["success"].tolist() == [step == 10, False, step % 5 == 0]


class Told(gymnasium.Env):
    """Says in ``info`` what it is told to, each key at its step."""

    observation_space = gymnasium.spaces.Dict(
        a=gymnasium.spaces.Discrete(3), b=gymnasium.spaces.Box(-1, 1, (2,))
    )
    action_space = gymnasium.spaces.Discrete(2, start=5)

    def __init__(self, key: str, at: int) -> None:
        self.key, self.at, self.seen = key, at, []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.clock = 0
        return self._shown(), {}

    def _shown(self) -> dict[str, Any]:
        return {"a": min(self.clock, 2), "b": np.array([0.5, self.clock / 10])}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.clock += 1
        self.seen.append(int(action))
        info = {self.key: True} if self.clock == self.at else {}
        return self._shown(), 0.5, False, self.clock == 4, info


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = gymnasium.envs.registration.EnvSpec("Told-v0", entry_point=Told)
    monkeypatch.setitem(gymnasium.registry, "Told-v0", spec)


def test_success_by_info_and_flattened_observations(told: None, tmp_path: Path) -> None:
    task = {"id": "Told-v0", "horizon": 9, "success": {"info": "solved"}}
    task |= {"make": {"key": "solved", "at": 2}, "observation": [1, 5], "actions": [6, 5]}
    env = make(written(tmp_path, {"name": "a", "tasks": [task]}), 1)
    obs, _ = env.reset()
    assert obs.tolist() == [[0.0, 0.0, 0.5, 0.0]]
    flags = []
    for _ in range(4):
        *_, truncated, info = env.step(np.array([0]))
        flags.append(bool(info["success"][0]))
    assert flags == [False, True, False, False] and truncated[0]
    np.testing.assert_allclose(info["final_obs"], [[0.0, 1.0, 0.5, 0.4]])
    env.step(np.array([1]))
    assert env.members[0].env.unwrapped.seen == [6, 6, 6, 6, 5]


def test_a_misspelled_key_of_info_is_told_at_the_end_of_an_episode(
    told: None, tmp_path: Path
) -> None:
    task = {"id": "Told-v0", "horizon": 9, "success": {"info": "solvd"}}
    task |= {"make": {"key": "solved", "at": 4}}
    env = make(written(tmp_path, {"name": "a", "tasks": [task]}), 1)
    env.reset()
    for _ in range(3):
        env.step(np.array([0]))
    with pytest.raises(SuiteError, match=r"has no 'solvd'; did you mean 'solved'\?"):
        env.step(np.array([0]))


def test_continuous_actions_are_mapped_onto_each_tasks_bounds(tmp_path: Path) -> None:
    env = make(written(tmp_path, SWINGS), 1)
    assert env.single_action_space == gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert env.single_observation_space.shape == (3,)
    single = gymnasium.make("Pendulum-v1")
    env.reset()
    single.reset(seed=seeds(env)[0])
    for push in (0.25, -1.0, 3.0):
        _, reward, *_, info = env.step(np.array([[push], [push]]))
        last, gain, *_ = single.step(np.array([2 * np.clip(push, -1, 1)], np.float32))
        assert reward[0] == gain
        np.testing.assert_array_equal(info["final_obs"][0], last)


def test_left_out_components_stay_in_the_middle_and_surplus_ones_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Told):
        action_space = gymnasium.spaces.Box(
            np.array([0.0, -2.0, 4.0], np.float32), np.array([2.0, 2.0, 8.0], np.float32)
        )

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
            self.action = action.tolist()
            return super().step(0)

    spec = gymnasium.envs.registration.EnvSpec("Seen-v0", entry_point=Seen)
    monkeypatch.setitem(gymnasium.registry, "Seen-v0", spec)
    task = {
        "id": "Seen-v0",
        "horizon": 9,
        "success": {"return": 1},
        "make": {"key": "x", "at": 1},
    }
    tasks = [task | {"name": "one", "actions": [2]}, task | {"name": "two", "actions": [1, 0]}]
    env = make(written(tmp_path, {"name": "a", "tasks": tasks}), 1)
    env.reset()
    env.step(np.array([[1.0, 0.3], [-0.5, 1.0]]))
    assert env.members[0].env.unwrapped.action == [1.0, 0.0, 8.0]
    assert env.members[1].env.unwrapped.action == [2.0, -1.0, 6.0]


def test_seeds_decide_everything() -> None:
    first, same, other = make(str(CLASSIC3)), make(str(CLASSIC3)), make(str(CLASSIC3), seed=4)
    for env in (first, same, other):
        env.reset()
    before = played(first, 60)
    assert equal(before, played(same, 60)) and not equal(before, played(other, 60))
    other.reset(seed=3)
    assert equal(before, played(other, 60))


def test_evaluation_repeats_its_seeds_whatever_the_number_of_environments() -> None:
    def evaluated(envs_per_task: int, seed: int = 0) -> set[tuple[int, int]]:
        env = make(str(CLASSIC3), envs_per_task, seed=seed, goals="cycle", goal_seed=5)
        found: set[tuple[int, int]] = set()
        for boundary in (0, 8):
            env.rebase(boundary)
            for _ in range(4 // envs_per_task):
                found |= set(zip(env.task_id.tolist(), seeds(env)))
                env._streams.episode += 1
        return found

    four = evaluated(4)
    assert len(four) == 12 and all(2**30 <= seed < 2**31 for _, seed in four)
    assert four == evaluated(2) == evaluated(1, seed=9)


def test_a_state_taken_after_rebase_is_continued_exactly() -> None:
    env, other = make(str(CLASSIC3)), make(str(CLASSIC3), seed=9)
    env.reset()
    played(env, 30)
    env.rebase(1_000)
    other.load_state_dict(env.state_dict())
    assert not env.exact_state and equal(played(env, 60), played(other, 60))
    with pytest.raises(SuiteError, match="envs_per_task is 2, here 1"):
        make(str(CLASSIC3), 1).load_state_dict(env.state_dict())


def test_a_paused_task_stands_still_and_the_others_never_notice() -> None:
    env, plain = make(str(CLASSIC3)), make(str(CLASSIC3))
    still = np.array([True, False, True])
    rows = still[env.task_id]
    obs, _ = env.reset()
    plain.reset()
    env.pause(still)
    actions = np.ones(6, np.int64)
    for _ in range(3):
        seen, reward, *ends, info = env.step(actions)
        expected, *_ = plain.step(actions)
        np.testing.assert_array_equal(seen[rows], obs[rows])
        np.testing.assert_array_equal(info["final_obs"][rows], obs[rows])
        assert not reward[rows].any() and not np.array(ends)[:, rows].any()
        np.testing.assert_array_equal(seen[~rows], expected[~rows])
    env.pause(np.zeros(3, bool))
    env.hold(rows)
    assert not env.step(actions)[1][rows].any() and env.step(actions)[1][rows].any()


def test_what_the_caller_does_during_a_step_changes_nothing() -> None:
    env, plain = make(str(CLASSIC3)), make(str(CLASSIC3))
    env.reset()
    plain.reset()
    actions = np.ones(6, np.int64)
    env.step_async(actions)
    actions[:] = 0
    np.testing.assert_array_equal(env.step_wait()[0], plain.step(np.ones(6, np.int64))[0])


def test_one_hot_codes_stand_behind_the_observation() -> None:
    env = make(str(CLASSIC3), one_hot=True)
    obs, _ = env.reset()
    obs = env.step(np.zeros(6, np.int64))[0]
    np.testing.assert_array_equal(obs[:, 6:], np.eye(3)[env.task_id])


@pytest.mark.parametrize(
    ("actions", "sentence"),
    [
        (np.zeros(5, np.int64), "actions must be 6 integers, not int64 of shape"),
        (np.zeros(6), "actions must be 6 integers, not float64"),
        (np.array([0, 0, 0, 3, 0, 0]), r"lie in \[0, 3\), but that of environment 3 is 3"),
    ],
)
def test_wrong_discrete_actions_are_refused(actions: NDArray, sentence: str) -> None:
    env = make(str(CLASSIC3))
    env.reset()
    with pytest.raises(SuiteError, match=sentence):
        env.step(actions)


def test_wrong_continuous_actions_are_refused(tmp_path: Path) -> None:
    env = make(written(tmp_path, SWINGS), 1)
    env.reset()
    with pytest.raises(SuiteError, match=r"numbers of shape \(2, 1\)"):
        env.step(np.zeros(2))
    with pytest.raises(SuiteError, match="not be NaN, but that of environment 1"):
        env.step(np.array([[0.0], [np.nan]]))


def test_settings_of_other_backends_are_refused() -> None:
    with pytest.raises(SuiteError, match="does not take stagger=True"):
        make_vec(str(CLASSIC3), stagger=True)
    with pytest.raises(SuiteError, match="has no backend 'native'; the nearest is 'gymnasium'"):
        make_vec(str(CLASSIC3), backend="native")


def test_spaces_that_have_changed_since_the_declaration_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = get_suite(written(tmp_path, {"name": "a", "tasks": [cartpole()]}))
    spec = gymnasium.spec("MountainCar-v0")
    monkeypatch.setitem(gymnasium.registry, "CartPole-v1", spec)
    with pytest.raises(
        SuiteError, match=r"task CartPole-v1\.observation: \[0, 4\] reaches past"
    ):
        make_vec(suite)


def test_frames_have_their_own_sizes() -> None:
    env = make(str(CLASSIC3), 1, render_mode="rgb_array")
    env.reset()
    assert [frame.shape for frame in env.frames()] == [
        (400, 600, 3),
        (500, 500, 3),
        (400, 600, 3),
    ]
    assert {frame.shape for frame in env.render() or ()} == {(500, 600, 3)}
    assert env.frames([1])[0].dtype == np.uint8 and env.frames([0])[0].any()
    env.close()
    assert make(str(CLASSIC3), 1).frames() == ()
