"""The compiled engine against minigrid: levels, and play, bit for bit."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import minigrid  # noqa: F401  (registers the ids)
import numpy as np
import pytest

from mtrl.envs.make import make_vec
from mtrl.envs.minigrid.cells import (
    DIRECTION,
    HORIZON,
    SEE_THROUGH,
    STATE_SLOTS,
    X,
    Y,
    appearance,
)
from mtrl.envs.minigrid.levels import start_level
from mtrl.envs.minigrid.native import NativeMiniGrid
from mtrl.envs.minigrid.rng import RNG_WORDS
from mtrl.envs.minigrid.suites import MINIGRID_SUITES
from mtrl.envs.minigrid.tasks import TASKS
from mtrl.envs.suites import get_suite
from tests.envs.minigrid.compare import run

IN_SUITES = sorted(
    {task.env_id for suite in MINIGRID_SUITES for task in get_suite(suite).tasks}
)
WIDE = ("mg20", "camrl-minigrid", "babyai10")
SINGLES = [
    f"{'mg1' if task.env_id.startswith('MiniGrid') else 'babyai1'}:{task.name}"
    for task in TASKS.values()
]


def _compare_levels(env_id, seeds):
    task, shown = TASKS[env_id], appearance()
    env = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    # Laid out as in the environment.
    grid = np.zeros((task.height + 1, task.width + 1), np.uint8)[:-1, :-1]
    level, rng = np.zeros(STATE_SLOTS, np.int64), np.zeros(RNG_WORDS, np.uint64)
    for seed in seeds:
        with contextlib.redirect_stdout(io.StringIO()):
            env.reset(seed=seed)
        start_level(grid, level, rng, task.row(), seed)
        assert np.array_equal(shown[grid].transpose(1, 0, 2), env.grid.encode()), seed
        assert (level[X], level[Y], level[DIRECTION]) == (*env.agent_pos, env.agent_dir), seed
        # The stream stands at the same place, so that whatever is drawn later agrees, too.
        assert rng[4] == env.np_random.bit_generator.state["has_uint32"]
        assert (int(rng[0]) << 64) + int(rng[1]) == env.np_random.bit_generator.state["state"][
            "state"
        ], seed


@pytest.mark.parametrize("env_id", TASKS)
def test_levels_are_minigrids_own(env_id):
    _compare_levels(env_id, [0, 2**31 - 1, *range(1000, 1030 if env_id in IN_SUITES else 1010)])


@pytest.mark.slow
@pytest.mark.parametrize("env_id", TASKS)
def test_many_levels_are_minigrids_own(env_id):
    _compare_levels(env_id, range(2**30, 2**30 + 1000))


@pytest.mark.parametrize("suite", WIDE)
def test_random_play_agrees(suite):
    report = run(suite, steps=120, directed=False)
    assert report.difference == ""
    assert report.episodes.sum() > 20


@pytest.mark.parametrize("suite", WIDE)
def test_goal_directed_play_agrees_and_solves_tasks(suite):
    report = run(suite, steps=150, directed=True)
    assert report.difference == ""
    assert (report.solved > 0).sum() >= 0.7 * len(report.solved)


@pytest.mark.slow
@pytest.mark.parametrize("suite", SINGLES)
@pytest.mark.parametrize("directed", [False, True])
def test_every_id_agrees_for_long(suite, directed):
    assert run(suite, steps=400, directed=directed, envs_per_task=4).difference == ""


def _dim_view(env):
    env._looks[0][9] = 0  # lava looks like nothing


def _glass_doors(env):
    env._looks[1][:] = 1


def _short_sight(env):
    env._looks[2][:] &= 0x7F


def _column(column, change):
    def plant(env):
        env._table[:, column] += change

    return plant


def _see_through(env):
    env._table[:, SEE_THROUGH] ^= 1


def _other_seeds(env):
    env._streams.key += np.uint64(1)


@pytest.mark.parametrize(
    "plant",
    [
        _dim_view,
        _glass_doors,
        _short_sight,
        _column(HORIZON, 1),
        _column(HORIZON, -1),
        _other_seeds,
        _see_through,
    ],
)
def test_planted_defects_in_the_tables_are_noticed(plant):
    env = make_vec("mg7", 2, backend="native", seed=5)
    assert isinstance(env, NativeMiniGrid)
    plant(env)
    assert run("mg7", 60, False, native=env).difference


@pytest.mark.slow
def test_planted_defects_in_the_source_are_noticed():
    script = Path(__file__).with_name("defects.py")
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-W", "ignore", str(script)]
    output = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    found = json.loads(output)
    assert found["controls"] == [""] * 4
    assert len(found["defects"]) > 30
    assert [text for text in found["defects"] if not text or text.startswith("ABSENT")] == []


def test_frames_are_minigrids_own():
    ours, theirs = (
        make_vec("mg20", 1, backend=name, seed=2, render_mode="rgb_array")
        for name in ("native", "stock")
    )
    ours.reset()
    theirs.reset()
    for _ in range(12):
        actions = ours.action_space.sample()
        ours.step(actions)
        theirs.step(actions)
    for one, other in zip(ours.render(), theirs.render(), strict=True):
        assert one.dtype == np.uint8 and np.array_equal(one, other)
