from functools import partial

import numpy as np
import pytest

from mtrl import envs
from mtrl.envs import SuiteError
from mtrl.envs.metaworld.arrays import INFO_KEYS
from mtrl.envs.metaworld.simulators import build, start
from tests.envs.metaworld.metaworld_reference import Policies, Reference, random_steps

make_vec = partial(envs.make_vec, backend="stock")


@pytest.fixture(scope="module")
def env():
    env = make_vec("mt10", seed=5, goals="cycle", num_workers=0)
    yield env
    env.close()


def assert_same_as_metaworld(env, benchmark, steps, version="v2"):
    """Steps ``env`` and plain metaworld side by side: policy and noise take turns, all returns must be equal."""
    references = [
        Reference(benchmark, env.suite.task_names[task], version) for task in env.task_id
    ]
    policies, rng = Policies(env), np.random.default_rng(0)
    obs, _ = env.reset()
    first = np.stack(
        [reference.reset(goal) for reference, goal in zip(references, env.goal_index)]
    )
    np.testing.assert_array_equal(obs, first.astype(np.float32))
    for step in range(steps):
        actions = policies(obs)
        if step % 100 >= 70:
            actions = rng.uniform(-1.5, 1.5, actions.shape).astype(np.float32)
        obs, reward, terminated, truncated, info = env.step(actions)
        rows = [reference.env.step(action) for reference, action in zip(references, actions)]
        np.testing.assert_array_equal(
            info["final_obs"], np.stack([row[0] for row in rows]).astype(np.float32)
        )
        np.testing.assert_array_equal(reward, [row[1] for row in rows])
        np.testing.assert_array_equal(truncated, [row[3] for row in rows])
        assert not terminated.any()
        for key in INFO_KEYS:
            np.testing.assert_array_equal(
                info[key], np.array([row[4][key] for row in rows]), err_msg=key
            )
        if truncated.any():
            first = np.stack(
                [reference.reset(goal) for reference, goal in zip(references, env.goal_index)]
            )
            np.testing.assert_array_equal(obs, first.astype(np.float32))


def test_every_step_is_metaworlds(env, mt10):
    assert_same_as_metaworld(env, mt10, steps=510)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v2", "v1"])
@pytest.mark.parametrize("name", envs.get_suite("mt50").task_names)
def test_every_step_of_every_task_is_metaworlds(name, version):
    import metaworld

    env = make_vec(f"mt1{'' if version == 'v2' else '-v1'}:{name}", 2, seed=3, num_workers=0)
    assert_same_as_metaworld(env, metaworld.MT1(name, seed=3), steps=510, version=version)
    env.close()


def test_scripted_policies_succeed_within_one_episode(env):
    obs, _ = env.reset(seed=5)
    policies, solved = Policies(env), np.zeros(env.num_envs, bool)
    for _ in range(500):
        obs, _, _, truncated, info = env.step(policies(obs))
        solved |= info["success"]
    assert solved.all() and truncated.all()


@pytest.mark.slow
def test_scripted_policies_reach_their_known_success():
    """Meta-World reports at least 80 % for each policy; each of the 50 goals is visited once."""
    env = make_vec("mt50", envs_per_task=10, goals="cycle")
    obs, _ = env.reset()
    policies, solved = Policies(env), np.zeros((5, env.num_envs), bool)
    for episode in range(5):
        for _ in range(500):
            obs, _, _, _, info = env.step(policies(obs))
            solved[episode] |= info["success"]
    env.close()
    rates = solved.reshape(5, 50, 10).mean(axis=(0, 2))
    assert (rates >= 0.8).all(), dict(zip(env.suite.task_names, rates))


def test_reset_with_a_seed_equals_a_new_environment():
    fresh, used = (make_vec("mt1:reach-v3", 2, seed=seed, num_workers=0) for seed in (8, 1))
    used.reset()
    random_steps(used, 30)
    other, _ = used.reset()
    expected, _ = fresh.reset()
    obs, _ = used.reset(seed=8)
    np.testing.assert_array_equal(obs, expected)
    np.testing.assert_array_equal(random_steps(used, 505), random_steps(fresh, 505))
    assert (other[:, 36:39] != expected[:, 36:39]).any(axis=1).all()
    for env in (fresh, used):
        env.close()


def test_goal_seed_holds_the_goals_while_the_seed_changes():
    env = make_vec("mt1:reach-v3", 4, seed=np.int64(1), goal_seed=np.int64(42), num_workers=0)
    goals, first = env.goals[0].copy(), (env.reset(), env.goal_index)[1]
    env.reset(seed=2)
    np.testing.assert_array_equal(env.goals[0], goals)
    assert (env.goal_index != first).any()
    env.load_state_dict(env.state_dict())
    env.close()


def test_state_after_reset_does_not_depend_on_history(env):
    for name, goals in zip(env.suite.task_names, env.goals):
        used = build(name, "v2")
        fresh = build(name, "v2", used.model)
        rng = np.random.default_rng(1)
        for goal in (3, 9):
            start(used, goals[goal])
            for _ in range(30):
                used.step(rng.uniform(-1, 1, 4).astype(np.float32))
        np.testing.assert_array_equal(
            start(used, goals[0]), start(fresh, goals[0]), err_msg=name
        )
        for _ in range(30):
            action = rng.uniform(-1, 1, 4).astype(np.float32)
            left, right = used.step(action), fresh.step(action)
            np.testing.assert_array_equal(left[0], right[0], err_msg=name)
            assert left[1:] == right[1:], name


@pytest.mark.parametrize(("goals", "early"), [("random", False), ("cycle", True)])
def test_a_loaded_state_continues_as_the_original(goals, early):
    """``early``: the state is saved before ``rebase``, in the middle of episodes."""
    original, resumed = (
        make_vec("mt1:reach-v3", 2, seed=s, goals=goals, num_workers=0) for s in (3, 77)
    )
    original.reset()
    random_steps(original, 40)
    if early:
        state = original.state_dict()
    first = original.rebase(3)
    if not early:
        state = original.state_dict()
    expected = random_steps(original, 700)
    resumed.reset()
    resumed.load_state_dict(state)
    if early:
        with pytest.raises(SuiteError, match="rebase after loading"):
            resumed.step(np.zeros((2, 4), np.float32))
        np.testing.assert_array_equal(resumed.rebase(3), first)
    np.testing.assert_array_equal(random_steps(resumed, 700), expected)
    for env in (original, resumed):
        env.close()


def test_boundaries_begin_different_streams():
    env = make_vec("mt1:reach-v3", 8, num_workers=0)
    seen = set()
    for boundary in (0, 1, 2, 1):
        env.rebase(boundary)
        seen.add(tuple(env.goal_index))
    assert len(seen) == 3
    env.close()


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"suite": "mt1:push-v3"}, "suite is 'mt1:reach-v3', here 'mt1:push-v3'"),
        ({"envs_per_task": 2}, "envs_per_task is 1, here 2"),
        ({"goals": "cycle"}, "goals is 'random', here 'cycle'"),
        ({"one_hot": True}, "one_hot is False, here True"),
    ],
)
def test_the_state_of_another_environment_is_refused(arguments, field):
    state = make_vec("mt1:reach-v3", num_workers=0).state_dict()
    other = make_vec(**{"suite": "mt1:reach-v3"} | arguments, num_workers=0)
    with pytest.raises(SuiteError, match=field):
        other.load_state_dict(state)


def test_a_state_that_lacks_something_is_refused(env):
    state = env.state_dict()
    del state["episode"], state["elapsed"]
    with pytest.raises(SuiteError, match="it lacks elapsed, episode"):
        env.load_state_dict(state)


def test_wrong_actions_are_refused_before_anything_moves(env):
    env.reset(seed=5)
    with pytest.raises(SuiteError, match=r"shape \(10, 4\), not \(10, 3\)"):
        env.step(np.zeros((10, 3), np.float32))
    bad = np.zeros((10, 4), np.float32)
    bad[3, 1] = np.nan
    with pytest.raises(SuiteError, match=r"environment 3 \(door-open-v3\) hold NaN"):
        env.step(bad)
    expected = random_steps(env, 3)
    env.reset(seed=5)
    np.testing.assert_array_equal(random_steps(env, 3), expected)


def test_calls_out_of_order_are_refused():
    env = make_vec("mt1:reach-v3", num_workers=0)
    zero = np.zeros((1, 4), np.float32)
    with pytest.raises(SuiteError, match="Call reset"):
        env.step(zero)
    with pytest.raises(SuiteError, match="step_wait without step_async"):
        env.step_wait()
    env.reset()
    env.step_async(zero)
    for call in (
        lambda: env.step_async(zero),
        env.reset,
        env.state_dict,
        lambda: env.rebase(1),
    ):
        with pytest.raises(SuiteError, match="between step_async and step_wait"):
            call()
    env.step_wait()
    with pytest.raises(SuiteError, match="reset takes no options"):
        env.reset(options={"reset_mask": None})
    env.close()
    with pytest.raises(SuiteError, match="the environment is closed"):
        env.reset()


def test_actions_are_copied_when_the_step_begins(env):
    def step(spoil):
        env.reset(seed=5)
        actions = np.full((10, 4), 0.5, np.float32)
        env.step_async(actions)
        if spoil:
            actions[:] = -1
        return env.step_wait()[0]

    np.testing.assert_array_equal(step(spoil=True), step(spoil=False))


def test_one_hot_appends_the_task():
    env = make_vec("mt1:reach-v3", 2, one_hot=True, num_workers=0)
    obs, _ = env.reset()
    assert env.observation_space.shape == obs.shape == (2, 40)
    obs, _, _, _, info = env.step(np.zeros((2, 4), np.float32))
    assert (obs[:, 39] == 1).all() and (info["final_obs"][:, 39] == 1).all()
    env.close()
