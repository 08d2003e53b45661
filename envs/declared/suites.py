"""From a declaration to a suite. The id of a declared suite ends in a digest of all that the declaration says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mtrl.envs.declared.reading import Values, checked
from mtrl.envs.declared.task import DeclaredTask
from mtrl.envs.errors import SuiteError
from mtrl.envs.files import load_yaml
from mtrl.envs.specs import Backend, Suite

SUITES: dict[str, Suite] = {}
"""None of the family ships."""
BACKENDS = {"gymnasium": Backend("mtrl.envs.declared.engine")}
LONGEST = 10_000
"""Characters of a declaration, as many as a setting in a result file may have."""


def prepare(render: bool) -> None:
    """Nothing has to be done before gymnasium is imported."""


def read_suite(path: Path) -> Suite:
    """The suite that a YAML file declares. Each environment is made once, for its spaces and its horizon.

    Raises:
        SuiteError: one sentence about the first thing that is wrong.
    """
    # It imports gymnasium, which reading a record does without.
    from mtrl.envs.declared.opening import completed

    source = str(path)
    values = checked(load_yaml(path), source)
    found = [completed(task, source, place) for place, task in enumerate(values["tasks"])]
    tasks = [task for task, _ in found]
    kind = values["actions"] or found[0][1]
    for place, (task, own) in enumerate(found):
        if own != kind:
            other = "actions says" if values["actions"] else f"{tasks[0]['id']} has"
            raise SuiteError(
                f"{source}: tasks[{place}].id: {task['id']} has {own} actions and {other} {kind}; "
                "all tasks of a suite have actions of one kind."
            )
    return _suite({"name": values["name"], "actions": kind, "tasks": tasks}, source)


def declared_suite(declaration: str) -> Suite:
    """The suite of a declaration that is complete, as ``Suite.declaration`` holds it. Makes no environment.

    Raises:
        SuiteError: it is not such a declaration.
    """
    source = "declaration"
    try:
        values = checked(json.loads(declaration), source)
    except (json.JSONDecodeError, RecursionError):
        raise SuiteError(f"{source}: is not JSON.") from None
    parts = {"": values} | {f"tasks[{i}].": task for i, task in enumerate(values["tasks"])}
    for where, part in parts.items():
        for key, value in part.items():
            if value is None:
                raise SuiteError(f"{source}: {where}{key}: is missing.")
    return _suite(values, source)


def _suite(values: Values, source: str) -> Suite:
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    if len(text) > LONGEST:
        raise SuiteError(
            f"{source}: the declaration has {len(text):,} characters with all that it leaves out filled in; "
            f"at most {LONGEST:,} are allowed."
        )
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    discrete = values["actions"] == "discrete"
    return Suite(
        id=f"{values['name']}@{digest}",
        family="declared",
        tasks=tuple(_task(task, discrete) for task in values["tasks"]),
        reward_version="own",
        success="any-step",
        goals="gymnasium's reset with a seed of each episode's own; seeds of training lie below 2**30, of evaluation "
        "above; episodes in progress cannot be saved, so every checkpoint starts new ones",
        discrete=discrete,
        measures="success in episodes whose seeds training never has; what a seed changes is the environments' own",
        declaration=text,
    )


def _task(values: Values, discrete: bool) -> DeclaredTask:
    success: dict[str, Any] = values["success"]
    first, end = values["observation"]
    return DeclaredTask(
        name=values["name"],
        env_id=values["id"],
        horizon=values["horizon"],
        skill=values["skill"],
        num_actions=len(values["actions"]) if discrete else None,
        builds_on=tuple(values["builds_on"]),
        groups=tuple(values["groups"]),
        success_return=success.get("return"),
        success_info=success.get("info"),
        observation=(first, end),
        actions=tuple(values["actions"]),
        make=tuple(values["make"].items()),
    )
