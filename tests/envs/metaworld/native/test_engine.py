"""The native backend as a vector environment: equal to stock, exact to resume, indifferent to its threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl import envs
from mtrl.envs import SuiteError, TaskVectorEnv
from mtrl.envs.metaworld.arrays import INFO_KEYS
from mtrl.envs.metaworld.native import engine, share
from tests.envs.metaworld.metaworld_reference import random_steps

make_vec = partial(envs.make_vec, backend="native")
TASKS = ("door-lock-v3", "stick-pull-v3", "bin-picking-v3", "plate-slide-v3")
SUITE = replace(
    envs.get_suite("mt10"),
    id="four",
    tasks=tuple(task for task in envs.get_suite("mt50").tasks if task.name in TASKS),
)


def actions(env: TaskVectorEnv, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (env.num_envs, 4)).astype(np.float32)


def test_everything_returned_equals_stock_over_the_end_of_an_episode() -> None:
    settings = {"envs_per_task": 2, "seed": 7, "one_hot": True}
    ours, stock = (
        make_vec(SUITE, **settings),
        envs.make_vec(SUITE, **settings, backend="stock", num_workers=0),
    )
    np.testing.assert_array_equal(ours.reset()[0], stock.reset()[0])
    np.testing.assert_array_equal(ours.goal_index, stock.goal_index)
    for step in range(510):
        action = actions(ours, step)
        if step == 3:
            action[:4] = np.inf, -np.inf, 1e30, np.inf
        left, right = ours.step(action), stock.step(action)
        for one, other in zip(left[:4], right[:4]):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12, err_msg=str(step))
        np.testing.assert_array_equal(left[0], right[0])
        assert left[4].keys() == right[4].keys() and ("final_info" in left[4]) == (step == 499)
        for key in (*INFO_KEYS, "final_obs", "_final_obs"):
            assert left[4][key].dtype == right[4][key].dtype
            np.testing.assert_allclose(
                left[4][key], right[4][key], rtol=0, atol=1e-12, err_msg=key
            )
    ours.close(), stock.close()


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    results = []
    for num_threads in (1, 2, 4):
        env = make_vec(SUITE, 5, seed=2, num_threads=num_threads)
        env.reset()
        results.append(random_steps(env, 40))
        env.close()
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@pytest.mark.parametrize("goals", ["random", "cycle"])
def test_a_state_saved_in_the_middle_of_an_episode_continues_exactly(goals: str) -> None:
    original, resumed = (make_vec(SUITE, 2, seed=seed, goals=goals) for seed in (3, 4))
    original.reset()
    random_steps(original, 130)
    state = original.state_dict()
    expected = random_steps(original, 400, seed=1)
    resumed.reset()
    random_steps(resumed, 20)
    resumed.load_state_dict(state)
    np.testing.assert_array_equal(random_steps(resumed, 400, seed=1), expected)
    assert original.exact_state and all(
        isinstance(value, np.ndarray) for value in state.values()
    )
    np.testing.assert_array_equal(original.rebase(2), resumed.rebase(2))
    original.close(), resumed.close()


def test_a_state_of_another_shape_or_backend_is_refused() -> None:
    env = make_vec("mt1:reach-v3")
    env.reset()
    state = env.state_dict()
    for key in ("state", "init", "obs"):
        with pytest.raises(SuiteError, match=f"another environment: {key} has shape"):
            env.load_state_dict(state | {key: np.zeros((1, 3))})
        with pytest.raises(SuiteError, match=f"it lacks {key}"):
            env.load_state_dict({name: value for name, value in state.items() if name != key})
    stock = envs.make_vec("mt1:reach-v3", backend="stock")
    with pytest.raises(SuiteError, match="backend is 'native', here 'stock'"):
        stock.load_state_dict(state)
    env.close(), stock.close()


def test_a_seeded_reset_equals_a_new_environment_and_goals_follow_the_seed() -> None:
    fresh, used, fixed = (make_vec("mt1:push-v3", 3, seed=8), make_vec("mt1:push-v3", 3, seed=1),
                          make_vec("mt1:push-v3", 3, seed=1, goal_seed=8))  # fmt: skip
    expected, _ = fresh.reset()
    used.reset(), random_steps(used, 30)
    np.testing.assert_array_equal(used.reset(seed=8)[0], expected)
    np.testing.assert_array_equal(fixed.reset(seed=8)[0], expected)
    np.testing.assert_array_equal(random_steps(used, 505), random_steps(fresh, 505))
    for env in (fresh, used, fixed):
        env.close()


def test_steps_run_while_the_caller_does_something_else() -> None:
    env = make_vec(SUITE, 4, num_threads=2)
    env.reset()
    env.step_async(actions(env))
    deadline = time.monotonic() + 20
    while env._pool._pool[share.DONE] < len(env._chunks) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert env._pool._pool[share.DONE] == len(env._chunks)
    with pytest.raises(SuiteError, match="between step_async and step_wait"):
        env.state_dict()
    asynchronous = env.step_wait()[0]
    env.reset(seed=0)
    np.testing.assert_array_equal(env.step(actions(env))[0], asynchronous)
    env.close()


def test_threads_sleep_while_idle_and_end_with_the_environment() -> None:
    # An earlier test's environment may be collected at any time: only threads begun here count.
    before = set(threading.enumerate())

    def threads() -> int:
        return sum(thread.name == "metaworld" for thread in set(threading.enumerate()) - before)

    env = make_vec(SUITE, 2, num_threads=3)
    env.reset()
    for _ in range(5):
        env.step_async(actions(env))
        env.step_wait()
    assert threads() == 3
    begun = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - begun < 0.1
    env.step_async(actions(env))
    env.close()
    env.close()
    assert threads() == 0
    with pytest.raises(SuiteError, match="closed"):
        env.reset()
    dropped = make_vec(SUITE, 2, num_threads=2)
    dropped.reset()
    dropped.step_async(actions(dropped))
    del dropped
    assert threads() == 0


FORK = """
import os
import numpy as np
from mtrl import envs
env = envs.make_vec("mt1:push-v3", 8, backend="native", num_threads=2)
env.reset()
actions = np.full((8, 4), 0.5, np.float32)
env.step_async(actions)
child = os.fork()
if child == 0:
    try:
        env.step_wait()
    except envs.SuiteError as error:
        print(error)
    env.reset(seed=0)
    env.step(actions)
else:
    assert os.waitpid(child, 0)[1] == 0
    env.step_wait()
print(env.step(actions)[0].tobytes().hex(), flush=True)
env.close()
"""


def test_a_fork_gets_threads_of_its_own() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    refused, child, parent = result.stdout.splitlines()
    assert "step_wait in a fork of the process that called step_async" in refused
    assert child == parent


def test_wrong_actions_are_refused_before_anything_moves() -> None:
    env = make_vec(SUITE)
    env.reset(seed=5)
    with pytest.raises(SuiteError, match=r"shape \(4, 4\), not \(4, 3\)"):
        env.step(np.zeros((4, 3), np.float32))
    bad = np.zeros((4, 4))
    bad[2, 1] = np.nan
    with pytest.raises(SuiteError, match=r"environment 2 \(.*-v3\) hold NaN"):
        env.step(bad)
    expected = random_steps(env, 3)
    env.reset(seed=5)
    np.testing.assert_array_equal(random_steps(env, 3), expected)
    env.close()


def test_other_versions_are_refused_and_never_replaced_by_stock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(mujoco, "__version__", "3.4.1")
        with pytest.raises(
            SuiteError, match=r"needs mujoco 3\.3\.0, found 3\.4\.1; .*backend='stock'"
        ):
            envs.make_vec("mt10")
    monkeypatch.setattr(engine, "version", {"metaworld": "4.0.0"}.get)
    with pytest.raises(
        SuiteError, match=r"needs metaworld 3\.1\.1, found 4\.0\.0; .*backend='stock'"
    ):
        envs.make_vec("mt10")


def test_a_task_that_the_engine_lacks_is_named() -> None:
    unknown = replace(SUITE, tasks=(replace(SUITE.tasks[0], env_id="door-lok-v3"),))
    with pytest.raises(
        SuiteError,
        match="'native' has no task 'door-lok-v3' of four; the nearest is 'door-lock-v3'",
    ):
        make_vec(unknown)
