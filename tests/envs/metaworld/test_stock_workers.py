import os
import select
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

from mtrl import envs
from mtrl.envs.metaworld.stock import default_workers
from tests.envs.metaworld.metaworld_reference import random_steps

make_vec = partial(envs.make_vec, backend="stock")


def processes(env):
    return [worker.process for worker in env._workers._workers]


def alive(pid):
    """Whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_results_do_not_depend_on_the_number_of_workers():
    results = []
    for num_workers in (0, 1, 2):
        env = make_vec("mt1:reach-v3", 3, seed=4, num_workers=num_workers)
        first, _ = env.reset()
        results.append(np.concatenate([first.ravel(), random_steps(env, 502).ravel()]))
        env.close()
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_the_default_number_of_workers_follows_the_number_of_environments():
    cpus = len(os.sched_getaffinity(0))
    assert [default_workers(n) for n in (1, 10, 19)] == [0, 0, 0]
    assert default_workers(20) == (2 if cpus >= 2 else 0)
    assert default_workers(10_000_000) == (cpus if cpus >= 2 else 0)


def test_steps_run_while_the_caller_does_something_else():
    env = make_vec("mt1:reach-v3", 30, num_workers=1)
    env.reset()
    env.step_async(np.zeros((30, 4), np.float32))
    (worker,) = env._workers._workers
    # It answers although nobody waits for it yet.
    assert select.select([worker.socket], [], [], 20)[0]
    env.step_wait()
    env.close()


def test_closing_ends_the_processes_and_can_be_repeated():
    env = make_vec("mt1:reach-v3", 2, num_workers=2)
    env.reset()
    running = processes(env)
    env.step_async(np.zeros((2, 4), np.float32))
    env.close()
    env.close()
    assert all(process.returncode == 0 for process in running)


def test_a_dead_worker_is_one_clear_error_and_ends_the_others():
    env = make_vec("mt1:reach-v3", 4, num_workers=2)
    env.reset()
    first, second = processes(env)
    second.send_signal(signal.SIGKILL)
    second.wait()
    with pytest.raises(RuntimeError, match=r"environments 2 to 3 died \(signal SIGKILL\)"):
        random_steps(env, 2)
    assert first.returncode is not None
    env.close()


def test_what_fails_in_a_worker_is_reported():
    env = make_vec("mt1:reach-v3", 2, num_workers=1)
    with pytest.raises(RuntimeError, match=r"environments 0 to 1 failed: KeyError: b'x'"):
        env._command(b"x")
    env.close()


PROGRAM = """
import signal, sys
from mtrl.envs import make_vec
from mtrl.envs.metaworld.stock import default_workers
env = make_vec("mt1:reach-v3", 2, backend="stock", num_workers=2)
env.reset()
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored
print(*[worker.process.pid for worker in env._workers._workers], flush=True)
if sys.argv[1] == "wait":
    while True:
        env.step(env.action_space.sample())
"""


@pytest.mark.parametrize("ending", ["exit", signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_program(ending, tmp_path):
    # a script on standard input has no file that could be imported again
    program = subprocess.Popen(
        [sys.executable, "-", "exit" if ending == "exit" else "wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    program.stdin.write(PROGRAM)
    program.stdin.close()
    pids = [int(word) for word in program.stdout.readline().split()]
    assert len(pids) == 2
    if ending != "exit":
        program.send_signal(ending)
    errors = program.stderr.read()
    assert program.wait(timeout=20) == (0 if ending == "exit" else -ending)
    assert wait_until(lambda: not any(map(alive, pids)))
    assert errors.count("Traceback") == (ending == signal.SIGINT)
