import metaworld
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.envs import get_suite
from mtrl.envs.metaworld.goals import GoalSchedule, benchmark_goals
from tests.envs.metaworld.metaworld_reference import benchmark_vectors


def assert_same_goals(suite_id, seed, benchmark):
    suite = get_suite(suite_id)
    for name, goals in zip(suite.task_names, benchmark_goals(suite, seed)):
        np.testing.assert_array_equal(goals, benchmark_vectors(benchmark, name), err_msg=name)


def test_mt10_goals_are_the_benchmarks(mt10):
    assert_same_goals("mt10", 5, mt10)


@pytest.mark.parametrize("name", ["reach-v3", "lever-pull-v3", "door-lock-v3"])
def test_mt1_goals_are_the_benchmarks(name):
    assert_same_goals(f"mt1:{name}", 9, metaworld.MT1(name, seed=9))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("name", ["MT25", "MT50"])
def test_large_suites_have_the_benchmarks_goals(name, seed):
    assert_same_goals(name.lower(), seed, getattr(metaworld, name)(seed=seed))


def test_goals_depend_on_the_seed_and_leave_the_global_generator_alone():
    suite = get_suite("mt1:push-v3")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = benchmark_goals(suite, 1)[0], benchmark_goals(suite, 2)[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert not np.isin(first[:, 0], second[:, 0]).any()
    assert not first.flags.writeable


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 60))
def test_cycle_visits_each_goal_once(envs_per_task):
    schedule = GoalSchedule(2, envs_per_task, "cycle", seed=0)
    visits = []
    for _ in range(-(-50 // envs_per_task)):
        schedule.advance(np.ones(schedule.num_envs, bool))
        visits.append(schedule.goal.reshape(2, envs_per_task).copy())
    for row in np.concatenate(visits, axis=1)[:, :50]:
        assert sorted(row) == list(range(50))


def test_random_goals_differ_between_tasks_envs_episodes_seeds_and_boundaries():
    def goals(seed, boundary):
        schedule = GoalSchedule(4, 3, "random", seed)
        schedule.restart(seed, boundary)
        rows = []
        for _ in range(40):
            schedule.advance(np.ones(12, bool))
            rows.append(schedule.goal.copy())
        return np.stack(rows)

    base = goals(0, 0)
    np.testing.assert_array_equal(base, goals(0, 0))
    columns = [*base.T, *goals(1, 0).T, *goals(0, 1).T]
    assert len({tuple(column) for column in columns}) == 36
    assert all(len(set(column)) > 10 for column in columns)


def test_environments_advance_on_their_own():
    together, alone = (GoalSchedule(3, 1, "random", seed=3) for _ in range(2))
    for _ in range(4):
        together.advance(np.ones(3, bool))
    for _ in range(4):
        alone.advance(np.array([False, True, False]))
    assert together.goal[1] == alone.goal[1]
    assert alone.episode.tolist() == [-1, 3, -1]
