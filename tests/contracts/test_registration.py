"""Suites under gymnasium's ids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import mtrl
from mtrl.registration import gym_id
from tests.helpers.classic import CLASSIC3, SWINGS, written


def test_every_suite_is_registered() -> None:
    for suite_id in mtrl.suite_ids():
        spec = gymnasium.spec(gym_id(suite_id))
        single = mtrl.get_suite(suite_id).num_tasks == 1
        assert (spec.entry_point is not None) == single
        assert spec.kwargs == {"suite": suite_id}


def test_make_vec_is_ours() -> None:
    env = gymnasium.make_vec("mtrl:mtrl/mg3-v0", envs_per_task=2, seed=5)
    ours = mtrl.make_vec("mg3", 2, seed=5)
    assert isinstance(env.unwrapped, mtrl.TaskVectorEnv) and env.num_envs == 6
    np.testing.assert_array_equal(env.reset()[0], ours.reset()[0])
    assert gymnasium.make_vec("mtrl:mtrl/mg3-v0", num_envs=9).unwrapped.envs_per_task == 3


def test_a_declared_suite_has_an_id_for_all() -> None:
    env = gymnasium.make_vec("mtrl:mtrl/declared-v0", suite=str(CLASSIC3), num_envs=6)
    assert isinstance(env.unwrapped, mtrl.TaskVectorEnv) and env.unwrapped.envs_per_task == 2
    assert env.unwrapped.suite.id.startswith("classic3@")
    with pytest.raises(mtrl.SuiteError, match=r"has 3 tasks; use gymnasium\.make_vec"):
        gymnasium.make("mtrl:mtrl/declared-v0", suite=str(CLASSIC3))


def test_a_declared_task_is_an_env(tmp_path: Path) -> None:
    env = gymnasium.make(
        "mtrl:mtrl/declared-v0",
        suite=written(tmp_path, SWINGS | {"tasks": SWINGS["tasks"][:1]}),
    )
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


@pytest.mark.parametrize("settings", [{"num_envs": 4}, {"num_envs": 6, "envs_per_task": 2}])
def test_make_vec_refuses_numbers_that_do_not_divide(settings: dict[str, int]) -> None:
    with pytest.raises(mtrl.SuiteError, match="is not a multiple of the 3 tasks of mg3"):
        gymnasium.make_vec("mtrl:mtrl/mg3-v0", **settings)


@pytest.mark.parametrize("name", ["mg1-Empty-Random-5x5", "mt1-reach-v3"])
def test_make_gives_an_env(name: str) -> None:
    env = gymnasium.make(f"mtrl:mtrl/{name}-v0", seed=3)
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_episodes_follow_each_other_as_in_the_vector_environment() -> None:
    """The end of an episode is in ``obs``, and ``reset`` hands out the episode that follows."""
    name = "mg1:Empty-Random-5x5"
    env = gymnasium.make(f"mtrl:{gym_id(name)}", seed=3).unwrapped
    vector = mtrl.make_vec(name, 1, seed=3)
    obs, first = env.reset()[0], vector.reset()[0]
    np.testing.assert_array_equal(obs, first[0])
    actions = np.random.default_rng(0).integers(0, 3, 600)
    episodes = 0
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        after, rewards, ends, cuts, infos = vector.step(np.array([action]))
        np.testing.assert_array_equal(obs, infos["final_obs"][0])
        assert (reward, terminated, truncated) == (rewards[0], ends[0], cuts[0])
        assert info["success"] == infos["success"][0] and "final_obs" not in info
        if terminated or truncated:
            episodes += 1
            np.testing.assert_array_equal(env.reset()[0], after[0])
    assert episodes > 2
    np.testing.assert_array_equal(env.reset(seed=9)[0], vector.reset(seed=9)[0][0])


@pytest.mark.parametrize(
    "first", ["import mtrl, gymnasium", "import gymnasium, mtrl", "import gymnasium"]
)
def test_the_order_of_imports_does_not_matter(first: str) -> None:
    code = (
        f"import sys\n{first}\n"
        "gymnasium.make_vec('mtrl:mtrl/mg3-v0').close()\n"
        "print(gymnasium.__spec__.loader.__class__.__name__, gymnasium.spec('mtrl/mt10-v0').id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["SourceFileLoader", "mtrl/mt10-v0"], done.stderr
