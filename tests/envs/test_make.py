import numpy as np
import pytest

from mtrl.envs import SuiteError, backends, get_suite, make_vec


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"suite": "mt100"}, "no suite 'mt100'; the nearest id is 'mt10'"),
        (
            {"suite": "mt10-v1", "backend": "native"},
            "'native' lacks the V1 rewards of mt10-v1; stock has them",
        ),
        (
            {"backend": "native", "num_workers": 2},
            "'native' does not take num_workers=2; it takes .*num_threads",
        ),
        ({"backend": "stok"}, "mt10 has no backend 'stok'; the nearest is 'stock'"),
        (
            {"backend": "stock", "num_threads": 2},
            "'stock' does not take num_threads=2; it takes .*num_workers",
        ),
        ({"envs_per_task": 0}, "envs_per_task must be an integer of at least 1, not 0"),
        ({"envs_per_task": True}, "envs_per_task must be an integer of at least 1, not True"),
        ({"envs_per_task": None}, "envs_per_task must be an integer of at least 1, not None"),
        ({"num_threads": True}, "num_threads must be an integer of at least 1, not True"),
        ({"envs_per_task": 2.0}, "envs_per_task must be an integer of at least 1, not 2.0"),
        ({"num_workers": -1}, "num_workers must be an integer of at least 0, not -1"),
        ({"goals": "fixed"}, "goals must be one of 'random', 'cycle', not 'fixed'"),
        ({"render_mode": "human"}, "render_mode must be one of None, 'rgb_array', not 'human'"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"goal_seed": 2**32}, "goal_seed must be an integer from 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(SuiteError, match=message):
        make_vec(**{"suite": "mt10"} | arguments)


def test_the_default_backend_comes_first():
    env = make_vec("mt1:reach-v3")
    assert env.backend == backends("mt1:reach-v3")[0]
    env.close()


def test_the_default_is_a_backend_that_has_the_rewards():
    assert (backends("mt10"), backends("mt10-v1")) == (("native", "stock"), ("stock",))
    env = make_vec("mt1-v1:reach-v3")
    assert env.backend == "stock"
    env.close()


def test_a_specification_is_as_good_as_its_id():
    env = make_vec(get_suite("mt1:reach-v3"), envs_per_task=2, backend="stock")
    assert (env.suite.id, env.num_envs, env.task_id.tolist()) == ("mt1:reach-v3", 2, [0, 0])
    env.close()


@pytest.mark.parametrize("suite", ["mt1:reach-v3", "mg1:Empty-5x5"])
def test_integers_of_numpy_are_as_good_as_plain_ones(suite):
    env = make_vec(
        suite, np.int64(2), seed=np.uint8(3), goal_seed=np.int32(4), num_threads=np.int16(1)
    )
    plain = make_vec(suite, 2, seed=3, goal_seed=4, num_threads=1)
    np.testing.assert_array_equal(env.reset()[0], plain.reset()[0])
    assert type(env.envs_per_task) is int
    plain.load_state_dict(env.state_dict())  # which compares their settings
    env.close(), plain.close()
