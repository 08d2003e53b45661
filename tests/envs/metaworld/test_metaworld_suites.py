import metaworld
import metaworld.env_dict
import pytest

from mtrl.envs import get_suite, suite_ids


@pytest.mark.parametrize("name", ["MT10", "MT25", "MT50"])
@pytest.mark.parametrize(("suffix", "version"), [("", "v2"), ("-v1", "v1")])
def test_tasks_are_metaworlds_in_its_order(name, suffix, version):
    suite = get_suite(name.lower() + suffix)
    assert suite.task_names == tuple(getattr(metaworld.env_dict, f"{name}_V3"))
    assert (suite.reward_version, suite.horizon, suite.success) == (version, 500, "any-step")


def test_every_task_is_a_suite_of_its_own():
    for name in metaworld.MT1.ENV_NAMES:
        assert get_suite(f"mt1:{name}").task_names == (name,)
        assert get_suite(f"mt1-v1:{name}").reward_version == "v1"
    assert sum(suite_id.startswith("mt1:") for suite_id in suite_ids()) == 50
