"""Compare two methods: their settings, the success of each task, and a verdict."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from mtrl.analysis.series import Series, one_suite, read_series
from mtrl.errors import ConfigError
from mtrl.records.rows import MACHINE_KEYS
from mtrl.settings.config import shortened
from mtrl.statistics import welch_interval

MEAN = "mean over tasks"


@dataclasses.dataclass(frozen=True)
class Difference:
    """Success of one task, or of the mean over tasks, in A and B; ``low`` and ``high`` bound ``b - a``, or are NaN."""

    name: str
    a: float
    b: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def read_side(name: str, path: Path) -> Series:
    """The one series of ``path``. Raises ConfigError if its runs differ in more than their seeds."""
    found = read_series([path])
    if len(found) > 1:
        labels = ", ".join(each.label for each in found)
        raise ConfigError(f"{name}: {path} holds several methods ({labels}); name one of them")
    return found[0]


def setting_changes(a: Series, b: Series) -> list[tuple[str, Any, Any]]:
    """List the settings that differ, with the values of A and B. Settings of the machine and the seed do not count."""
    first = shortened(a.records[0]["method"]["params"])
    second = shortened(b.records[0]["method"]["params"])
    kept = MACHINE_KEYS - {"method", "total_env_steps"}
    keys = [key for key in first | second if key not in kept]
    return [
        (key, first.get(key), second.get(key))
        for key in keys
        if first.get(key) != second.get(key)
    ]


def differences(a: Series, b: Series) -> list[Difference]:
    """Compute ``B - A`` of the last evaluations, by task and for their mean, with Welch's 95 % intervals."""
    one_suite([a, b])
    rows = [(name, a.last_rates[:, i], b.last_rates[:, i]) for i, name in enumerate(a.tasks)]
    rows.append((MEAN, a.last_rates.mean(1), b.last_rates.mean(1)))
    found = []
    for name, first, second in rows:
        _, low, high = welch_interval(second.tolist(), first.tolist())
        found.append(Difference(name, float(first.mean()), float(second.mean()), low, high))
    return found


def report(a: Series, b: Series) -> str:
    """Settings, tasks and verdict as text."""
    lines = [_about("A", a), _about("B", b), ""]
    changed = setting_changes(a, b)
    lines += [f"{key}: {first} in A, {second} in B" for key, first, second in changed]
    lines += ["" if changed else "The settings are the same.\n"]
    rows = differences(a, b)
    width = max(len(row.name) for row in rows)
    lines.append(f"{'task':<{width}}      A      B   B - A  95% interval")
    for row in rows:
        interval = "" if math.isnan(row.low) else f"{row.low:+.3f} to {row.high:+.3f}"
        mark = " *" if row.shown else ""
        lines.append(
            f"{row.name:<{width}}  {row.a:.3f}  {row.b:.3f}  {row.b - row.a:+.3f}  {interval}{mark}".rstrip()
        )
    return "\n".join([*lines, "", verdict(a, b, rows[-1])])


def verdict(a: Series, b: Series, mean: Difference) -> str:
    """What the mean over tasks says, in one sentence."""
    seeds = f"{len(a.records)} and {len(b.records)} seeds"
    found = f"success {mean.a:.3f} in A and {mean.b:.3f} in B"
    if math.isnan(mean.low):
        return f"No verdict: {found}, and an interval needs two seeds on each side ({seeds})."
    interval = f"difference {mean.b - mean.a:+.3f}, 95% interval {mean.low:+.3f} to {mean.high:+.3f}, {seeds}"
    longer = max(a.env_steps[-1], b.env_steps[-1])
    # Rollouts end beyond the budget by a few thousand env steps.
    alike = abs(a.env_steps[-1] - b.env_steps[-1]) < 0.05 * longer
    budget = "" if alike else ", after different numbers of env steps"
    if mean.shown:
        better = "B" if mean.low > 0 else "A"
        return f"{better} is better: {found} ({interval}){budget}."
    return f"No difference is shown: {found} ({interval}){budget}."


def _about(name: str, series: Series) -> str:
    seeds = ", ".join(str(record["seed"]) for record in series.records)
    plural = "s" * (len(series.records) != 1)
    suite = series.records[0]["protocol"]["suite"]
    return f"{name}: {suite} {series.label}, seed{plural} {seeds}, {series.env_steps[-1]:,.0f} env steps"
