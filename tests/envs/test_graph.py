"""The task graph names real tasks and has no cycles."""

from __future__ import annotations

import numpy as np

from mtrl.envs import TaskSpec, get_suite, suite_ids, task_graph
from mtrl.envs.metaworld import suites as metaworld
from mtrl.envs.minigrid import graph as minigrid


def _tasks() -> dict[str, TaskSpec]:
    return {task.name: task for suite in suite_ids() for task in get_suite(suite).tasks}


def _edges(names: list[str]) -> np.ndarray:
    tasks = _tasks()
    return np.array(task_graph(names, [tasks[name].builds_on for name in names])).astype(int)


def test_every_name_is_a_task_of_some_suite() -> None:
    tasks = _tasks()
    tables = metaworld.BUILDS_ON | minigrid.BUILDS_ON
    assert {name: task.builds_on for name, task in tasks.items() if task.builds_on} == tables
    assert {other for others in tables.values() for other in others} <= set(tasks)


def test_no_task_builds_on_itself_however_far() -> None:
    names = sorted(_tasks())
    edges = _edges(names)
    assert edges.sum() > 50
    paths = edges
    for _ in names:
        assert not np.diag(paths).any()
        paths = (paths @ edges).clip(0, 1)
    assert not paths.any()


def test_only_edges_among_the_suites_tasks() -> None:
    edges = _edges(["pick-place-v3", "reach-v3", "window-open-v3"])
    assert edges.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_a_graph_that_is_not_known_has_no_edges() -> None:
    assert task_graph(("a", "b"), ()) == [[False, False], [False, False]]


def test_the_suites_of_camrl_and_moore_have_a_graph() -> None:
    for suite in ("camrl-minigrid", "mg7", "mg10", "mg20", "babyai10", "mt10"):
        assert _edges(list(get_suite(suite).task_names)).any()
