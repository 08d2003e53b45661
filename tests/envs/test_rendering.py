import os
import subprocess
import sys

import numpy as np
import pytest

from envs import SuiteError, make_vec


@pytest.mark.parametrize("num_workers", [0, 1])
def test_frames_show_the_environments_and_change_nothing(num_workers):
    env = make_vec("mt1:reach-v3", 2, num_workers=num_workers, render_mode="rgb_array")
    plain = make_vec("mt1:reach-v3", 2, num_workers=0)
    env.reset(), plain.reset()
    before = env.render()
    assert len(before) == 2
    assert all(frame.shape == (480, 480, 3) and frame.dtype == np.uint8 and frame.std() > 10 for frame in before)
    for _ in range(5):
        actions = np.full((2, 4), 0.8, np.float32)
        np.testing.assert_array_equal(env.step(actions)[0], plain.step(actions)[0])
    after = env.render()
    assert (before[0] != before[1]).any() and (before[0] != after[0]).any()
    env.close(), plain.close()


def test_render_needs_its_mode():
    env = make_vec("mt1:reach-v3", num_workers=0)
    env.reset()
    with pytest.raises(SuiteError, match="render_mode='rgb_array'"):
        env.render()
    env.close()


def test_a_missing_platform_is_one_sentence_on_what_to_install():
    code = "import envs; envs.make_vec('mt1:reach-v3', render_mode='rgb_array')"
    environment = os.environ | {"MUJOCO_GL": "nonsense", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("envs.specs.SuiteError: mujoco cannot be imported with MUJOCO_GL='nonsense'")
    assert "apt-get install libegl1" in last


def test_leaving_without_close_prints_nothing():
    code = "import envs; e = envs.make_vec('mt1:reach-v3', render_mode='rgb_array'); e.reset(); e.render()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stderr == ""
