"""Labels of rows: the method's name, and the settings that distinguish rows of one method and budget."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from mtrl.leaderboard.runs import Run, settings_of
from mtrl.records.rows import PROTOCOL_KEYS, changes, label

Key = tuple[int, str]
"""Budget and method of a row."""
_SAID = 4
"""Most differences that a label names; a search over many settings would fill a paragraph."""


def labels(firsts: Mapping[Key, Run]) -> dict[Key, str]:
    """A label for each row, different within a budget.

    A label names a difference from the preset if another row of the method lacks it, or if no other row of the budget
    has it. It omits a difference that all rows of the method and rows of other methods have.

    Args:
        firsts: a run of each row, by budget and method.
    """
    alike: dict[tuple[int, str], list[Key]] = defaultdict(list)
    for key, run in firsts.items():
        alike[key[0], run.method["name"]].append(key)
    own: dict[Key, dict[str, str]] = {}
    for keys in alike.values():
        own |= zip(keys, _differences([firsts[key] for key in keys]))
    shared = Counter((key[0], *item) for key, words in own.items() for item in words.items())
    found: dict[Key, str] = {}
    for (budget, name), keys in alike.items():
        for key in keys:
            words = [
                text
                for setting, text in own[key].items()
                if shared[budget, setting, text] == 1
                or any(own[other].get(setting) != text for other in keys)
            ]
            more = [f"and {len(words) - _SAID} more"] if len(words) > _SAID else []
            found[key] = label(name, [*plan_words(firsts[key]), *words[:_SAID], *more])
    return _distinct(found)


def _differences(runs: list[Run]) -> list[dict[str, str]]:
    """How each run differs from its method's preset, by setting; the precision only where it tells rows apart."""
    found = []
    for run in runs:
        said = changes(settings_of(run.method, run.protocol))
        own = {key: text for key, text in said.items() if key not in PROTOCOL_KEYS}
        found.append(own)
        precision = run.provenance["precision"]
        others = [other for other in runs if other.settings_key == run.settings_key]
        if precision and any(other.provenance["precision"] != precision for other in others):
            own["agent.precision"] = precision
    return found


def plan_words(run: Run) -> list[str]:
    """A word about a run that was not planned once, at its start; none about others."""
    if run.straight:
        return []
    if run.segments[0]["env_steps"] is None:
        return ["perhaps lengthened"]
    totals = [part["total_env_steps"] for part in run.segments]
    how = "lengthened" if totals == sorted(totals) else "planned anew"
    return [f"{how} at {' and '.join(short(part['env_steps']) for part in run.segments[1:])}"]


def _distinct(found: dict[Key, str]) -> dict[Key, str]:
    """Number the labels that would still be equal within a budget."""
    seen: dict[tuple[int, str], int] = defaultdict(int)
    result = {}
    for key in sorted(found):
        seen[key[0], found[key]] += 1
        count = seen[key[0], found[key]]
        result[key] = found[key] if count == 1 else f"{found[key]} #{count}"
    return result


def short(number: float) -> str:
    """A count in three digits: 373,690 is 374k."""
    for scale, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number:.3g}"
