"""The check of a declaration: every key and every single value, without making an environment."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mtrl.envs.errors import SuiteError, as_integer, nearest

Values = dict[str, Any]
MOST_TASKS, MOST_STEPS = 200, 1_000_000
"""As many as a result file may hold."""
_TAKEN = ("id", "render_mode", "max_episode_steps", "disable_env_checker", "vector_kwargs")
"""Arguments of ``gymnasium.make`` that the suite sets itself."""


class Key(NamedTuple):
    """A key of a declaration.

    Attributes:
        read: the value in one form, None if it is not allowed.
        allowed: what is, in words.
    """

    read: Callable[[Any], Any]
    allowed: str
    required: bool = False


def _text(longest: int) -> Callable[[Any], str | None]:
    def read(value: Any) -> str | None:
        return value if isinstance(value, str) and 0 < len(value) <= longest else None

    return read


def _name(value: Any) -> str | None:
    """A name that can stand in paths, log keys and the command line."""
    fits = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,79}", value, re.ASCII)
    return value if fits else None


def _names(value: Any) -> list[str] | None:
    fits = isinstance(value, list) and all(_name(item) is not None for item in value)
    return value if fits and len(set(value)) == len(value) else None


def _horizon(value: Any) -> int | None:
    steps = as_integer(value)
    return steps if steps is not None and 1 <= steps <= MOST_STEPS else None


def _success(value: Any) -> Values | None:
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((rule, said),) = value.items()
    if rule == "info":
        return None if _text(200)(said) is None else value
    number = isinstance(said, int | float) and not isinstance(said, bool)
    return {"return": float(said)} if rule == "return" and number and _finite(said) else None


def _finite(number: float) -> bool:
    return abs(number) <= 1e15 and not math.isnan(number)


def _slice(value: Any) -> list[int] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    first, end = as_integer(value[0]), as_integer(value[1])
    fits = first is not None and end is not None and 0 <= first < end
    return [first, end] if fits else None  # type: ignore[list-item]


def _places(value: Any) -> list[int] | None:
    if not isinstance(value, list) or not value:
        return None
    places = [as_integer(item) for item in value]
    fits = None not in places and len(set(places)) == len(places) <= 10_000
    return places if fits else None  # type: ignore[return-value]


def _arguments(value: Any) -> Values | None:
    if not isinstance(value, dict):
        return None
    fits = all(
        isinstance(key, str) and key not in _TAKEN and _plain(item)
        for key, item in value.items()
    )
    return {key: value[key] for key in sorted(value)} if fits else None


def _plain(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str | int | float | bool | None):
            return False
        if isinstance(item, float) and not math.isfinite(item):
            return False
    return True


def _kind(value: Any) -> str | None:
    return value if value in ("discrete", "continuous") else None


_NAME = "a name of at most 80 letters, digits, dots, dashes and underscores"
TASK_KEYS = {
    "id": Key(_text(200), "the id of a gymnasium environment, such as CartPole-v1", True),
    "name": Key(_name, _NAME),
    "success": Key(_success, "{return: NUMBER} or {info: KEY}", True),
    "horizon": Key(_horizon, f"a whole number of steps from 1 to {MOST_STEPS:,}"),
    "observation": Key(_slice, "the first entry and the one after the last, such as [0, 4]"),
    "actions": Key(_places, "a list of different whole numbers, such as [0, 2]"),
    "skill": Key(_text(500), "a text of 1 to 500 characters"),
    "groups": Key(_names, "a list of different names"),
    "builds_on": Key(_names, "a list of different names of tasks"),
    "make": Key(
        _arguments,
        "a mapping from arguments of gymnasium.make to texts, numbers, truth values or lists of them, "
        f"without {', '.join(_TAKEN)}",
    ),
}
"""Keys of a task, in the order in which a declaration is kept."""
SUITE_KEYS = {
    "name": Key(_name, _NAME, True),
    "actions": Key(_kind, "discrete or continuous"),
    "tasks": Key(lambda value: value, "a list of tasks", True),
}


def checked(values: Any, source: str) -> Values:
    """A declaration with every key in one form and order; None stands where a key is left to the environment.

    Args:
        source: where the declaration stands, for messages.

    Raises:
        SuiteError: one sentence about the first thing that is wrong.
    """
    found = _mapping(values, SUITE_KEYS, source, "")
    tasks = found["tasks"]
    if not isinstance(tasks, list) or not 1 <= len(tasks) <= MOST_TASKS:
        raise SuiteError(f"{source}: tasks: must be a list of 1 to {MOST_TASKS} tasks.")
    found["tasks"] = [
        _task(task, source, f"tasks[{place}]") for place, task in enumerate(tasks)
    ]
    names = [task["name"] for task in found["tasks"]]
    for place, task in enumerate(found["tasks"]):
        _check_names(task, place, names, source)
    return found


def _task(values: Any, source: str, where: str) -> Values:
    task = _mapping(values, TASK_KEYS, source, f"{where}.")
    if task["name"] is None:
        name = re.split("[/:]", task["id"])[-1]
        if _name(name) is None:
            raise SuiteError(
                f"{source}: {where}.name: is missing, and {task['id']!r} is not {_NAME}."
            )
        task["name"] = name
    task["skill"] = task["skill"] or task["id"]
    task["groups"] = task["groups"] or []
    task["builds_on"] = task["builds_on"] or []
    task["make"] = task["make"] or {}
    return task


def _mapping(values: Any, keys: Mapping[str, Key], source: str, where: str) -> Values:
    """The values of a mapping by key, each in one form. Raises SuiteError."""
    if not isinstance(values, dict):
        place = where.removesuffix(".") or "the file"
        raise SuiteError(f"{source}: {place} must hold 'key: value' lines.")
    for key in values:
        if key not in keys:
            close = nearest(str(key), keys)
            hint = f"did you mean {close}?" if close else f"the keys are {', '.join(keys)}."
            raise SuiteError(f"{source}: {where}{key}: unknown key; {hint}")
    return {name: _value(values, name, key, source, where) for name, key in keys.items()}


def _value(values: Values, name: str, key: Key, source: str, where: str) -> Any:
    given = values.get(name)
    if given is None:
        if key.required:
            raise SuiteError(f"{source}: {where}{name}: is missing; it is {key.allowed}.")
        return None
    value = key.read(given)
    if value is None:
        raise SuiteError(f"{source}: {where}{name}: {given!r} is not {key.allowed}.")
    return value


def _check_names(task: Values, place: int, names: list[str], source: str) -> None:
    """Names differ, and the tasks that a task builds on are others of the suite."""
    name = task["name"]
    if name in names[:place]:
        raise SuiteError(
            f"{source}: tasks[{place}].name: {name!r} is also that of tasks[{names.index(name)}]; "
            "give each task a name of its own."
        )
    others = [other for other in names if other != name]
    for needed in task["builds_on"]:
        if needed not in others:
            close = nearest(needed, others)
            hint = (
                f"did you mean {close}?" if close else f"it has {', '.join(others) or 'none'}."
            )
            raise SuiteError(
                f"{source}: tasks[{place}].builds_on: {needed!r} is no other task of the suite; {hint}"
            )
