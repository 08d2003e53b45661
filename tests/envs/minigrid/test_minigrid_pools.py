"""Suites whose training draws from a fixed pool of levels, with evaluation outside of it."""

from __future__ import annotations

import numpy as np
import pytest

from mtrl.envs import TaskVectorEnv, get_suite, make_vec
from mtrl.envs.minigrid.pools import contents, training_levels
from mtrl.envs.minigrid.suites import MINIGRID_SUITES, POOL
from mtrl.envs.minigrid.tasks import TASKS


def starts(env: TaskVectorEnv) -> list[set[bytes | None]]:
    """What the episodes in progress started from, by task."""
    found: list[set[bytes | None]] = [set() for _ in env.suite.tasks]
    for index in range(env.num_envs):
        found[env.task_id[index]].add(env.start_content(index))
    return found


def trained(suite: str, boundaries: int, **seeds: int) -> list[set[bytes | None]]:
    """Levels that training plays from many boundaries."""
    env = make_vec(suite, 40, goals="random", **seeds)
    env.reset()
    found = starts(env)
    for boundary in range(1, boundaries):
        env.rebase(boundary)
        found = [before | now for before, now in zip(found, starts(env))]
    return found


def evaluated(suite: str, **seeds: int) -> list[set[bytes | None]]:
    env = make_vec(suite, 50, goals="cycle", **seeds)
    env.rebase(0)
    return starts(env)


def test_every_set_has_a_twin_with_the_same_tasks() -> None:
    for name in MINIGRID_SUITES:
        plain, held_out = get_suite(name), get_suite(f"{name}-held-out")
        assert held_out.tasks == plain.tasks
        assert (plain.level_pool, held_out.level_pool) == (None, POOL)
        assert plain.goals != held_out.goals


def test_evaluation_plays_no_level_of_the_pool() -> None:
    suite = "mg7-held-out"
    seen = trained(suite, 100, seed=1, goal_seed=1)
    played = evaluated(suite, seed=5, goal_seed=1)
    sizes = dict(zip(get_suite(suite).task_names, map(len, seen)))
    for name, training, evaluation in zip(sizes, seen, played):
        if name == "DistShift1":  # which has one level
            assert training == evaluation
        else:
            assert not training & evaluation
    assert (sizes["DistShift1"], sizes["LavaGapS7"], sizes["MultiRoom-N2-S4"]) == (1, 8, POOL)
    levels = dict(zip(sizes, map(len, played)))
    assert (levels["LavaGapS7"], levels["MemoryS11"], levels["MultiRoom-N2-S4"]) == (7, 16, 50)


def test_the_pool_follows_the_goal_seed_and_evaluation_levels_the_seed() -> None:
    suite = "mg3-held-out"
    tasks = make_vec(suite).grid_tasks
    pools = [training_levels(tasks, POOL, seed).seeds.tolist() for seed in (3, 3, 4)]
    assert pools[0] == pools[1] != pools[2]
    pool = trained(suite, 40, seed=1, goal_seed=3)
    own, other = evaluated(suite, seed=1, goal_seed=3), evaluated(suite, seed=2, goal_seed=3)
    assert evaluated(suite, seed=1, goal_seed=3) == own
    assert other[1] != own[1]
    assert not other[1] & pool[1]


def test_a_reset_with_a_seed_is_an_environment_made_anew() -> None:
    suite = "mg3-held-out"
    env = make_vec(suite, 20, seed=1)
    env.reset(seed=2)
    fresh = make_vec(suite, 20, seed=2)
    fresh.reset()
    assert starts(env) == starts(fresh)


def test_a_suite_without_a_pool_plays_the_levels_it_always_did() -> None:
    """Level seeds of the published evaluations."""
    env = make_vec("mg3", 2, goals="cycle", goal_seed=1)
    env.rebase(0)
    assert env.level_seeds.tolist() == [
        1699892317, 1315128753, 1630234255, 1198887325, 1673143100, 1713349017]  # fmt: skip


def test_episodes_within_an_environment_stay_inside_their_list() -> None:
    env = make_vec("mg3-held-out", 3, goals="random", seed=1, goal_seed=1)
    env.reset()
    pool = training_levels(env.grid_tasks, POOL, 1)
    stream = np.random.default_rng(0)
    for _ in range(400):
        env.step(stream.integers(0, env.single_action_space.n, env.num_envs))
        for index, level in enumerate(env.level_seeds):
            task = env.task_id[index]
            assert level in pool.seeds[task, : pool.sizes[task]]
    assert len(set(env.level_seeds.tolist())) > 1


def test_a_run_continues_in_its_pool() -> None:
    env = make_vec("mg3-held-out", 2, seed=1, goal_seed=1)
    env.reset()
    again = make_vec("mg3-held-out", 2, seed=1, goal_seed=1)
    again.load_state_dict(env.state_dict())
    actions = np.full(env.num_envs, 2)
    for _ in range(300):
        first, second = env.step(actions), again.step(actions)
        np.testing.assert_array_equal(first[0], second[0])


def test_both_backends_play_the_same_levels() -> None:
    native = make_vec("mg3-held-out", 2, goals="cycle", seed=1, goal_seed=1)
    stock = make_vec("mg3-held-out", 2, goals="cycle", seed=1, goal_seed=1, backend="stock")
    np.testing.assert_array_equal(native.rebase(0), stock.rebase(0))
    np.testing.assert_array_equal(native.level_seeds, stock.level_seeds)
    distinct = {stock.start_content(0), stock.start_content(1), stock.start_content(2)}
    assert len(distinct) == 3


@pytest.mark.parametrize("name", ["MiniGrid-LavaGapS7-v0", "BabyAI-GoToLocal-v0"])
def test_contents_are_what_the_environment_starts_from(name: str) -> None:
    task = TASKS[name]
    kind = "mg1" if name.startswith("MiniGrid") else "babyai1"
    env = make_vec(f"{kind}:{task.name}", 5, seed=3)
    env.reset()
    found = contents(task, env.level_seeds.tolist())
    assert found == [env.start_content(index) for index in range(env.num_envs)]
