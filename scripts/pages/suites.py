"""Tables of suites and tasks, from the registry."""

from __future__ import annotations

from mtrl.envs import Suite, get_suite, suite_ids
from scripts.pages.text import code, table

_PLURAL = {"mt1", "mt1-v1", "mg1", "babyai1"}


def overview(family: str) -> str:
    """The suites of a family, single tasks as one line."""
    rows = []
    for name, members in _groups(family).items():
        first = members[0]
        shown = f"{name}:TASK" if name in _PLURAL else name
        tasks = f"1, any of {len(members)}" if name in _PLURAL else str(first.num_tasks)
        rows.append(
            [
                code(shown),
                tasks,
                code(first.reward_version),
                str(max(m.horizon for m in members)),
            ]
        )
    return table(["suite", "tasks", "reward version", "longest horizon"], rows)


def tasks(family: str) -> str:
    """The tasks of each suite of several tasks, in order, then every single task."""
    parts = []
    for name, members in _groups(family).items():
        if name in _PLURAL or name.endswith("-v1"):
            continue
        parts.append(f"## {name}\n\n{_table(members[0])}")
    for name, members in _groups(family).items():
        if name in _PLURAL and name != "mt1" and not name.endswith("-v1"):
            parts.append(f"## {name}: single tasks\n\n{_singles(members)}")
    return "\n\n".join(parts)


def _groups(family: str) -> dict[str, list[Suite]]:
    groups: dict[str, list[Suite]] = {}
    for suite_id in suite_ids():
        suite = get_suite(suite_id)
        if suite.family == family:
            groups.setdefault(suite_id.partition(":")[0], []).append(suite)
    return groups


def _table(suite: Suite) -> str:
    rows = [
        [
            str(index),
            code(task.name),
            task.skill,
            str(task.horizon),
            str(task.num_actions or "all"),
        ]
        for index, task in enumerate(suite.tasks)
    ]
    head = ["`task_id`", "task", "skill, and what success is", "horizon", "actions"]
    if not suite.discrete:
        return table(head[:4], [row[:4] for row in rows])
    return table(head, rows)


def _singles(members: list[Suite]) -> str:
    rows = [[code(m.id), m.tasks[0].skill, str(m.tasks[0].horizon)] for m in members]
    return table(["suite", "skill, and what success is", "horizon"], rows)
