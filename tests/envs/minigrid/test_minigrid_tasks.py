"""What tasks and suites say about themselves, held against minigrid."""

import contextlib
import io

import gymnasium
import minigrid  # noqa: F401  (registers the ids)
import numpy as np
import pytest

from mtrl.envs import SuiteError, get_suite
from mtrl.envs.minigrid.missions import encode_mission
from mtrl.envs.minigrid.suites import MINIGRID_SUITES
from mtrl.envs.minigrid.tasks import TASKS

PUBLISHED = {
    "mg3": "LavaGapS7 RedBlueDoors-6x6 MemoryS11",
    "mg5": "DoorKey-6x6 LavaGapS7 RedBlueDoors-6x6 DistShift1 MemoryS11",
    "mg7": "DoorKey-6x6 DistShift1 RedBlueDoors-6x6 LavaGapS7 MemoryS11 SimpleCrossingS9N2 MultiRoom-N2-S4",
    "camrl-minigrid": "DistShift1 DoorKey-16x16 Dynamic-Obstacles-16x16 Empty-16x16 Fetch-8x8-N3 KeyCorridorS3R3 "
    "LavaCrossingS9N3 LavaGapS7 MemoryS17Random",
}


@pytest.mark.parametrize("suite_id", PUBLISHED)
def test_published_sets_are_kept_in_order(suite_id):
    assert get_suite(suite_id).task_names == tuple(PUBLISHED[suite_id].split())


def test_wider_sets_extend_the_published_ones():
    mg7, mg10, mg20 = (get_suite(name).task_names for name in ("mg7", "mg10", "mg20"))
    assert mg10[:7] == mg7 and mg20[:10] == mg10
    assert [get_suite(name).num_tasks for name in ("mg10", "mg20", "babyai10")] == [10, 20, 10]


def test_suites_state_their_protocol():
    for suite_id in MINIGRID_SUITES:
        suite = get_suite(suite_id)
        assert (suite.family, suite.success, suite.discrete) == (
            "minigrid",
            "terminated-positive",
            True,
        )
        prefix = "BabyAI-" if suite_id == "babyai10" else "MiniGrid-"
        assert all(task.env_id == f"{prefix}{task.name}-v0" for task in suite.tasks)
        assert all("solved" in task.skill for task in suite.tasks)
        for task in suite.tasks:
            assert task.num_actions == (3 if "Dynamic" in task.name else None)


@pytest.mark.parametrize("env_id", TASKS)
def test_the_table_agrees_with_minigrid(env_id):
    task = TASKS[env_id]
    env = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    missions = set()
    for seed in range(25):
        with contextlib.redirect_stdout(io.StringIO()):
            env.reset(seed=seed)
        assert (env.width, env.height, env.max_steps) == (task.width, task.height, task.horizon)
        missions.add(env.mission.replace(" a ", " the ").removesuffix(" "))
    assert (env.action_space.n, env.see_through_walls) == (task.actions, task.see_through)
    if task.words == 0:
        assert len(missions) == 1
    else:
        assert len(missions) > 1
        assert max(len(mission.split()) for mission in missions) <= task.words
        assert all(
            np.count_nonzero(encode_mission(mission, task.words)) for mission in missions
        )


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("mg4", "mg"), ("mg1:DoorKey-7x7", "mg1:DoorKey-"), ("babyai1:GoTo", "babyai1:")],
)
def test_unknown_ids_are_answered_with_the_nearest(wrong, near):
    with pytest.raises(SuiteError, match=f"'{wrong}'; the nearest id is '{near}"):
        get_suite(wrong)
