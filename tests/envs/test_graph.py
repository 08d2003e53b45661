"""The task graph names real tasks and has no cycles."""

from __future__ import annotations

import numpy as np

from mtrl.envs import get_suite, suite_ids, task_graph
from mtrl.envs.specs import BUILDS_ON


def test_every_name_is_a_task_of_some_suite() -> None:
    known = {name for suite in suite_ids() for name in get_suite(suite).task_names}
    named = set(BUILDS_ON) | {other for others in BUILDS_ON.values() for other in others}
    assert named <= known


def test_no_task_builds_on_itself_however_far() -> None:
    names = sorted(set(BUILDS_ON) | {other for others in BUILDS_ON.values() for other in others})
    edges = np.array(task_graph(names)).astype(int)
    paths = edges
    for _ in names:
        assert not np.diag(paths).any()
        paths = (paths @ edges).clip(0, 1)
    assert not paths.any()


def test_only_edges_among_the_suites_tasks() -> None:
    edges = task_graph(("pick-place-v3", "reach-v3", "window-open-v3"))
    assert edges == [[False, True, False], [False, False, False], [False, True, False]]


def test_the_suites_of_camrl_and_moore_have_a_graph() -> None:
    for suite in ("camrl-minigrid", "mg7", "mg10", "mg20", "babyai10", "mt10"):
        assert np.any(task_graph(get_suite(suite).task_names))
