"""Streams, episodes, state, threads, masks and bad input of both backends."""

import numpy as np
import pytest

from mtrl.envs import SuiteError
from mtrl.envs.make import make_vec
from mtrl.envs.minigrid.rng import TRAINING_SEEDS
from mtrl.envs.specs import Suite, TaskSpec

BOTH = pytest.mark.parametrize("backend", ["native", "stock"])


def _actions(env, seed):
    return np.random.default_rng(seed).integers(0, env.single_action_space.n, env.num_envs)


def _play(env, steps, seed=0):
    return [env.step(_actions(env, (seed, t))) for t in range(steps)]


def _same(one, other):
    for left, right in zip(one, other, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(left[:4], right[:4], strict=True))
        assert left[4].keys() == right[4].keys()
        assert all(np.array_equal(left[4][key], right[4][key]) for key in left[4])


def test_native_is_the_default():
    assert make_vec("mg3").backend == "native"


@BOTH
def test_steps_have_the_shapes_of_the_contract(backend):
    env = make_vec("mg10", 2, backend=backend)
    obs, _ = env.reset()
    assert obs.shape == (20, 148 + env.obs_layout.mission_words) and obs.dtype == np.uint8
    assert env.observation_space.contains(obs) and env.single_action_space.n == 7
    obs, reward, terminated, truncated, info = env.step(_actions(env, 1))
    assert env.observation_space.contains(obs) and env.observation_space.contains(
        info["final_obs"]
    )
    assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
    assert {key: value.dtype for key, value in info.items()} == {
        "success": np.bool_, "final_obs": np.uint8, "_final_obs": np.bool_
    }  # fmt: skip


@pytest.mark.parametrize(
    ("suite", "words"), [("mg3", 0), ("mg7", 0), ("mg10", 5), ("mg20", 8), ("babyai10", 9)]
)
def test_missions_are_there_only_where_they_say_more_than_the_task(suite, words):
    env = make_vec(suite, 1)
    obs, _ = env.reset()
    assert env.obs_layout.mission_words == words
    if words:
        spoken = np.array([task.words > 0 for task in env.grid_tasks])
        assert np.array_equal(env.obs_layout.split(obs)[2].any(1), spoken) and not spoken.all()


def test_an_episode_ends_with_its_last_observation_and_starts_again_at_once():
    env = make_vec("mg1:GoToDoor-5x5", 8, seed=1)
    obs, _ = env.reset()
    before = env.level_seeds
    actions = np.full(8, 6)
    actions[:3] = 0
    obs, _reward, terminated, truncated, info = env.step(actions)
    assert info["_final_obs"].tolist() == [False] * 3 + [True] * 5
    assert np.array_equal(info["_final_obs"], terminated | truncated)
    assert np.array_equal(obs[:3], info["final_obs"][:3]) and not np.array_equal(
        obs[3:], info["final_obs"][3:]
    )
    assert np.array_equal(before != env.level_seeds, info["_final_obs"])


@BOTH
def test_success_is_termination_with_reward(backend):
    env = make_vec("mg10", 2, backend=backend, seed=3)
    env.reset()
    ended = 0
    for _, reward, terminated, truncated, info in _play(env, 60):
        assert np.array_equal(info["success"], terminated & (reward > 0))
        assert not reward[~terminated].any()
        ended += (terminated & ~info["success"]).sum() + truncated.sum()
    assert ended > 0


def test_the_reward_of_success_is_minigrids():
    env = make_vec("mg1:Empty-5x5", 1)
    env.reset()
    *_, (_, reward, terminated, truncated, info) = [
        env.step([action]) for action in (2, 2, 1, 2, 2)
    ]
    assert (
        reward[0] == 1 - 0.9 * (5 / 100)
        and terminated[0]
        and info["success"][0]
        and not truncated[0]
    )


@BOTH
def test_episodes_are_cut_at_the_horizon_of_their_task(backend):
    env = make_vec("mg1:MultiRoom-N2-S4", 1, backend=backend)
    env.reset()
    cut = [env.step([6])[3][0] for _ in range(80)]
    assert np.flatnonzero(cut).tolist() == [39, 79]


@BOTH
def test_a_masked_action_turns_left(backend):
    env, other = (make_vec("mg10", 1, backend=backend, seed=9) for _ in range(2))
    assert env.action_mask.shape == (10, 7)
    masked = np.flatnonzero(~env.action_mask.all(1))
    assert env.suite.task_names[masked[0]] == "Dynamic-Obstacles-6x6" and len(masked) == 1
    assert env.action_mask[masked[0]].tolist() == [True] * 3 + [False] * 4
    env.reset()
    other.reset()
    for action in (3, 4, 5, 6):
        actions = np.zeros(10, int)
        actions[masked] = action
        _same([env.step(actions)], [other.step(np.zeros(10, int))])


def test_every_environment_has_levels_of_its_own_below_the_evaluation_seeds():
    env = make_vec("mg7", 4, seed=0)
    seeds = []
    for _ in range(50):
        env.reset()
        seeds.append(env.level_seeds)
    seeds = np.stack(seeds)
    assert seeds.min() >= 0 and seeds.max() < TRAINING_SEEDS
    assert len(np.unique(seeds)) > seeds.size - 3


@BOTH
def test_evaluation_plays_the_same_levels_however_many_environments_share_them(backend):
    played = []
    for envs_per_task in (1, 2, 6):
        env = make_vec("mg3", envs_per_task, backend=backend, goals="cycle", seed=4)
        first, _ = env.reset()
        order = [env.level_seeds.reshape(3, -1)]
        for _ in range(6 // envs_per_task - 1):
            env._streams.episode += 1
            order.append(env.level_seeds.reshape(3, -1))
        played.append(np.concatenate(order, axis=1))
        assert np.array_equal(env.reset()[0], first), (
            "every evaluation starts with the first levels"
        )
    assert np.array_equal(played[0], played[1]) and np.array_equal(played[0], played[2])
    assert played[0].min() >= TRAINING_SEEDS and len(np.unique(played[0])) == 18


def test_evaluation_levels_follow_the_goal_seed_and_not_the_boundary():
    def seeds(**arguments):
        env = make_vec("mg3", 2, goals="cycle", **arguments)
        env.rebase(arguments["seed"])
        return env.level_seeds.tolist()

    assert (
        seeds(seed=1, goal_seed=5) == seeds(seed=2, goal_seed=5) != seeds(seed=5, goal_seed=6)
    )


@BOTH
def test_seeds_decide_everything(backend):
    one, other = (make_vec("mg10", 2, backend=backend, seed=seed) for seed in (7, 8))
    first, second = one.reset()[0], other.reset()[0]
    assert not np.array_equal(first, second)
    assert np.array_equal(other.reset(seed=7)[0], first)
    _same(_play(one, 20), _play(other, 20))


@BOTH
def test_rebase_depends_on_seed_and_boundary_alone(backend):
    one, other = (make_vec("mg10", 2, backend=backend, seed=7) for _ in range(2))
    one.reset()
    _play(one, 15)
    assert np.array_equal(one.rebase(3), other.rebase(3))
    _same(_play(one, 20), _play(other, 20))
    assert not np.array_equal(one.rebase(4), one.rebase(3))


def test_native_continues_exactly_from_a_state_in_the_middle_of_episodes():
    env, other = make_vec("mg20", 2, seed=1), make_vec("mg20", 2, seed=2)
    env.reset()
    _play(env, 33)
    state = env.state_dict()
    expected = _play(env, 60, seed=1)
    other.reset()
    other.load_state_dict(state)
    _same(_play(other, 60, seed=1), expected)
    assert env.exact_state and all(isinstance(value, np.ndarray) for value in state.values())


def test_stock_continues_exactly_from_a_state_after_rebase():
    env, other = (make_vec("mg7", 2, backend="stock", seed=seed) for seed in (1, 2))
    env.rebase(5)
    state = env.state_dict()
    expected = _play(env, 30)
    other.load_state_dict(state)
    _same(_play(other, 30), expected)
    assert not env.exact_state


def test_threads_do_not_change_results():
    plays = []
    for threads in (1, 3):
        env = make_vec("mg10", 7, seed=1, num_threads=threads)
        env.reset()
        plays.append(_play(env, 40))
        env.close()
    _same(*plays)


def test_returned_arrays_belong_to_the_caller():
    env = make_vec("mg3", 2)
    first, _ = env.reset()
    kept = first.copy()
    second, *_, info = env.step(_actions(env, 0))
    second[:] = 0
    info["final_obs"][:] = 0
    third = env.step(_actions(env, 1))[0]
    assert np.array_equal(first, kept) and third.any()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(5, int), "actions must be 6 integers, not int64 of shape"),
        (np.zeros(6), "actions must be 6 integers, not float64"),
        (
            np.array([0, 0, 0, 0, 7, 0]),
            r"actions must lie in \[0, 7\), but that of environment 4 is 7",
        ),
        (np.array([-1, 0, 0, 0, 0, 0]), "environment 0 is -1"),
    ],
)
@BOTH
def test_wrong_actions_are_named_and_change_nothing(backend, actions, message):
    env = make_vec("mg3", 2, backend=backend)
    env.reset()
    before = env.state_dict()
    with pytest.raises(SuiteError, match=message):
        env.step(actions)
    assert all(np.array_equal(value, before[key]) for key, value in env.state_dict().items())


def test_calls_out_of_order_are_named():
    env = make_vec("mg3", 2)
    with pytest.raises(SuiteError, match="Call reset or rebase before"):
        env.step(np.zeros(6, int))
    with pytest.raises(SuiteError, match="step_wait without step_async"):
        env.step_wait()
    env.reset()
    env.step_async(np.zeros(6, int))
    with pytest.raises(SuiteError, match="state_dict between step_async and step_wait"):
        env.state_dict()
    env.step_wait()
    env.close()
    with pytest.raises(SuiteError, match="reset after close"):
        env.reset()


def test_states_of_other_environments_are_refused():
    state = make_vec("mg3", 2).state_dict()
    for other, field in (
        (make_vec("mg5", 2), "suite is 'mg3', here 'mg5'"),
        (make_vec("mg3", 1), "envs_per_task is 2, here 1"),
        (make_vec("mg3", 2, backend="stock"), "backend is 'native', here 'stock'"),
    ):
        with pytest.raises(SuiteError, match=field):
            other.load_state_dict(state)


def test_unknown_ids_and_settings_are_named():
    suite = Suite(
        "mine",
        "minigrid",
        (TaskSpec("x", "MiniGrid-Playground-v0", 100),),
        "stock",
        "any",
        "any",
    )
    with pytest.raises(
        SuiteError, match="Unknown MiniGrid id 'MiniGrid-Playground-v0' in suite 'mine'"
    ):
        make_vec(suite)
    with pytest.raises(SuiteError, match="take no one_hot"):
        make_vec("mg3", one_hot=True)
    with pytest.raises(SuiteError, match="does not take num_threads"):
        make_vec("mg3", backend="stock", num_threads=2)


def test_another_minigrid_version_is_refused(monkeypatch):
    monkeypatch.setattr("mtrl.envs.minigrid.native.version", lambda package: "3.1.0")
    with pytest.raises(SuiteError, match=r"follows minigrid 3\.2\.0, but 3\.1\.0 is installed"):
        make_vec("mg3")
    assert make_vec("mg3", backend="stock").reset()[0].shape == (3, 148)


def test_nothing_is_rendered_unless_asked_for():
    assert make_vec("mg3").render() is None


@pytest.mark.parametrize("backend", ["native", "stock"])
def test_frames_of_a_mixed_suite_have_one_size_over_all_episodes(backend):
    env = make_vec("mg10", 1, backend=backend, seed=1, render_mode="rgb_array")
    shapes = set()
    for _ in range(3):
        env.reset()
        shapes |= {frame.shape for frame in env.render()}
    assert shapes == {(800, 800, 3)}  # FourRooms' and others' frames are the largest
    own = env.frames()
    assert len({frame.shape for frame in own}) > 3
    for small, large in zip(own, env.render(), strict=True):
        top, left = (800 - small.shape[0]) // 2, (800 - small.shape[1]) // 2
        inside = large[top : top + small.shape[0], left : left + small.shape[1]]
        np.testing.assert_array_equal(inside, small)
        assert large.sum(dtype=np.int64) == small.sum(dtype=np.int64)  # all else is black
    env.close()
