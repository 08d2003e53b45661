import subprocess
import sys

import pytest

from mtrl.envs import SuiteError, get_suite, suite_ids
from mtrl.envs.suites import FAMILIES


def test_every_listed_suite_is_well_formed():
    for suite_id in suite_ids():
        suite = get_suite(suite_id)
        assert suite.id == suite_id
        assert suite.family in FAMILIES
        assert len(set(suite.task_names)) == suite.num_tasks > 0
        assert all(task.skill and task.horizon > 0 for task in suite.tasks)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("mt11", "mt10"),
        ("MT50", "mt50"),
        ("mt1:reach", "mt1:reach-v3"),
        ("mt1:dor-open-v3", "mt1:door-open-v3"),
    ],
)
def test_an_unknown_suite_is_answered_with_the_nearest_one(wrong, right):
    with pytest.raises(SuiteError, match=f"no suite '{wrong}'; the nearest id is '{right}'"):
        get_suite(wrong)


def test_importing_envs_loads_no_simulator():
    heavy = "{'mujoco', 'metaworld', 'minigrid', 'torch', 'numba'}"
    code = (
        f"import sys, envs; envs.get_suite('mt10'); print(sorted({heavy} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )
