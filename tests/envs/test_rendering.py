import os
import subprocess
import sys

import numpy as np
import pytest

from mtrl.envs import SuiteError, make_vec


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "stock", "num_workers": 0},
        {"backend": "stock", "num_workers": 1},
        {"backend": "native"},
    ],
)
def test_frames_show_the_environments_and_change_nothing(settings):
    env = make_vec("mt1:reach-v3", 2, render_mode="rgb_array", **settings)
    plain = make_vec("mt1:reach-v3", 2, backend="stock", num_workers=0)
    env.reset(), plain.reset()
    before = env.render()
    assert len(before) == 2
    assert all(
        frame.shape == (480, 480, 3) and frame.dtype == np.uint8 and frame.std() > 10
        for frame in before
    )
    for _ in range(5):
        actions = np.full((2, 4), 0.8, np.float32)
        np.testing.assert_array_equal(env.step(actions)[0], plain.step(actions)[0])
    after = env.render()
    assert (before[0] != before[1]).any() and (before[0] != after[0]).any()
    env.close(), plain.close()


def test_native_frames_are_those_of_stock():
    ours, stock = (
        make_vec("mt1:peg-insert-side-v3", 2, backend=b, render_mode="rgb_array")
        for b in ("native", "stock")
    )
    ours.reset(), stock.reset()
    for step in range(4):
        np.testing.assert_array_equal(ours.render(), stock.render(), err_msg=str(step))
        actions = np.full((2, 4), 0.7, np.float32)
        ours.step(actions), stock.step(actions)
    ours.close(), stock.close()


@pytest.mark.parametrize("backend", ["native", "stock"])
def test_render_needs_its_mode(backend):
    env = make_vec("mt1:reach-v3", backend=backend)
    env.reset()
    with pytest.raises(SuiteError, match="render_mode='rgb_array'"):
        env.render()
    env.close()


def test_a_missing_platform_is_one_sentence_on_what_to_install():
    code = "from mtrl import envs; envs.make_vec('mt1:reach-v3', render_mode='rgb_array')"
    environment = os.environ | {
        "MUJOCO_GL": "nonsense",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "mtrl.envs.errors.SuiteError: mujoco cannot be imported with MUJOCO_GL='nonsense'"
    )
    assert "apt-get install libegl1" in last


@pytest.mark.parametrize("backend", ["native", "stock"])
@pytest.mark.parametrize(
    "platform",
    [{"MUJOCO_GL": "glx"}, {"MUJOCO_GL": "glfw", "DISPLAY": ":77"}, {"DISPLAY": ":77"}],
)
def test_nothing_follows_the_sentence_on_a_platform_that_cannot_draw(platform, backend):
    """Half-built viewers must not complain when they are freed, neither at once nor when Python ends."""
    code = f"""
import gc
from mtrl.envs import SuiteError, make_vec
try:
    make_vec("mt1:reach-v3", backend={backend!r}, render_mode="rgb_array")
except SuiteError as error:
    assert "The renderer failed" in str(error)
    print("refused", flush=True)
gc.collect()
"""
    environment = {
        key: value for key, value in os.environ.items() if key != "MUJOCO_GL"
    } | platform
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "refused\n"
    assert "Exception ignored" not in result.stderr and "__del__" not in result.stderr


@pytest.mark.parametrize("backend", ["native", "stock"])
def test_leaving_without_close_prints_nothing(backend):
    # What is slow to make is kept, so the next start is silent.
    make_vec("mt1:reach-v3", backend=backend).close()
    code = f"from mtrl import envs; e = envs.make_vec('mt1:reach-v3', backend={backend!r}, render_mode='rgb_array')"
    code += "; e.reset(); e.render(); e.step(e.action_space.sample())"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
