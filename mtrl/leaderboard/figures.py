"""The plots of a table, each as one SVG element."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl import statistics
from mtrl.leaderboard import outside, svg
from mtrl.leaderboard.labels import short
from mtrl.leaderboard.outside import Outside
from mtrl.leaderboard.row import FULL_SEEDS, Estimate, Floats, Row
from mtrl.leaderboard.runs import Run
from mtrl.leaderboard.tables import Comparison, Table

_POINTS = 160
"""Points drawn of one curve; more are not visible."""
FLAW, UNEQUAL = "†", "≠"
"""Signs beside a headline with remarks, and beside a comparison at different numbers of env steps."""


def figures(table: Table, published: Sequence[Outside]) -> dict[str, tuple[str, str]]:
    """Every plot of a table by its name for files: ``(title, svg)``. Empty ones are left out."""
    shown = {
        "success": ("Final success", headline(table, published)),
        "curves-steps": ("Learning curves against env steps", curves(table, published)),
        "curves-hours": ("Learning curves against hours", curves(table, None)),
        "profile": ("Performance profile", profile(table)),
        "differences": ("Difference from the plain baseline", differences(table)),
    }
    return {name: (title, drawing) for name, (title, drawing) in shown.items() if drawing}


def mean_curve(row: Row) -> tuple[Floats, Floats, Floats, Floats]:
    """A row's curve: env steps, hours, mean over seeds, half-width of its t-interval (NaN below five seeds).

    Seeds that were evaluated at other steps are interpolated; a diverged seed has 0 after its last evaluation.
    """
    evaluated = [run for run in row.counted if len(run.env_steps)]
    finished = row.with_status("finished") or evaluated
    if not evaluated:
        return np.array([float(row.budget)]), np.zeros(1), np.zeros(1), np.full(1, math.nan)
    grid = np.unique(np.concatenate([run.env_steps for run in evaluated])).astype(np.float64)
    low, high = (
        max(run.env_steps[0] for run in evaluated),
        min(run.env_steps[-1] for run in finished),
    )
    grid = grid[(grid >= low) & (grid <= high)]
    if not len(grid):
        grid = np.array([float(high)])
    if len(grid) > _POINTS:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, _POINTS).round().astype(int))]
    values = np.array([_curve_of(run, grid) for run in row.counted])
    hours = np.array([np.interp(grid, run.env_steps, run.hours) for run in finished]).mean(0)
    half = np.full(len(grid), math.nan)
    if not row.preliminary:
        half = np.array(
            [value - low for value, low, _ in map(statistics.t_interval, values.T.tolist())]
        )
    return grid, hours, values.mean(0), half


def _curve_of(run: Run, grid: Floats) -> Floats:
    """Mean success over tasks at the env steps ``grid``."""
    if not len(run.env_steps):
        return np.zeros(len(grid))
    after = 0.0 if run.status == "diverged" else None
    return np.interp(grid, run.env_steps, run.rates.mean(1), right=after)


def curves(table: Table, published: Sequence[Outside] | None) -> str:
    """Success against env steps with published curves, or, with ``published`` None, against hours."""
    rows = [row for row in table.rows if row.seeds]
    if not rows:
        return ""
    hours = published is None
    lines = {row: mean_curve(row) for row in rows}
    largest = max(float(line[1 if hours else 0][-1]) for line in lines.values())
    frame = svg.Frame(44, 26, svg.WIDTH - 12, 240, (0.0, max(largest * 1.02, 1e-9)))
    parts = [
        frame.axes(
            "hours of training" if hours else "env steps, all tasks",
            "success",
            _hour if hours else short,
        )
    ]
    for index, row in reversed(list(enumerate(rows))):
        steps, clock, mean, half = lines[row]
        at = clock if hours else steps
        name = svg.color(index)
        if row.preliminary and len(rows) <= svg.COLORS:
            parts += [_seed_line(frame, run.hours if hours else run.env_steps, run.rates.mean(1), name)
                      for run in row.counted if row.seeds > 1]  # fmt: skip
        elif not row.preliminary and index < svg.COLORS:
            upper = [(frame.x(x), frame.y(min(y + h, 1.0))) for x, y, h in zip(at, mean, half)]
            lower = [(frame.x(x), frame.y(max(y - h, 0.0))) for x, y, h in zip(at, mean, half)]
            parts.append(svg.path(upper + lower[::-1], f"band {name}", close=True))
        points = [(frame.x(x), frame.y(y)) for x, y in zip(at, mean)]
        tip = f"{table.name(row)}: {mean[-1]:.3f}"
        parts.append(svg.path(points, f"line {name}", tip) if len(points) > 1 else "")
        parts.append(svg.dot(*points[-1], 3, f"fill {name}", tip))
    entries = _legend_entries(table, rows)
    if published:
        several = outside.curves(published)
        for index, (label, group) in enumerate(several.items()):
            parts.append(_published_curve(frame, group, f"dash{index % 3}"))
            entries.append((f"outside dash{index % 3}", f"{label}, published"))
        parts.append(
            _published_levels(
                frame, [x for x in outside.finals(published) if x.label not in several]
            )
        )
    key, bottom = svg.legend(entries, 12, 292, svg.WIDTH - 8)
    title = f"{table.suite}: success against {'hours' if hours else 'env steps'}"
    return svg.document("".join(parts) + key, svg.WIDTH, bottom, title)


def _hour(value: float) -> str:
    return f"{value:g}"


def _seed_line(frame: svg.Frame, at: NDArray[Any], rates: Floats, name: str) -> str:
    chosen = np.unique(np.linspace(0, len(at) - 1, min(len(at), _POINTS)).round().astype(int))
    points = [
        (frame.x(min(float(at[i]), frame.x_range[1])), frame.y(float(rates[i]))) for i in chosen
    ]
    return svg.path(points, f"thin {name}")


def _published_curve(frame: svg.Frame, group: Sequence[Outside], name: str) -> str:
    """A published curve as far as the axis goes."""
    at = [float(entry.env_steps or 0) for entry in group]
    values = [entry.middle for entry in group]
    end = min(frame.x_range[1], at[-1])
    xs = [*(x for x in at if x < end), end]
    points = [(frame.x(x), frame.y(float(np.interp(x, at, values)))) for x in xs if x >= at[0]]
    tip = f"{group[0].label}, published ({group[0].source})"
    return svg.path(points, f"line outside {name}", tip) if len(points) > 1 else ""


def _published_levels(frame: svg.Frame, finals: Sequence[Outside]) -> str:
    """A level for each final number without a curve; labels at the left, where curves are low, joined if close."""
    parts: list[str] = []
    labels: list[tuple[float, list[str]]] = []
    for entry in finals:
        level = frame.y(entry.middle)
        tip = f"{entry.label}, published: {entry.shown} ({entry.source})"
        parts.append(
            svg.path([(frame.left, level), (frame.right, level)], "level outside", tip)
        )
        if not labels or level - labels[-1][0] > 11:
            labels.append((level, []))
        labels[-1][1].append(entry.label.removesuffix(", rerun"))
    parts += [
        svg.label(frame.left + 5, level + 9, svg.shorten(", ".join(names), 60), "small")
        for level, names in labels
    ]
    return "".join(parts)


def profile(table: Table) -> str:
    """Share of runs and tasks whose success exceeds each threshold; only for suites of several tasks."""
    rows = [row for row in table.rows if row.seeds]
    if not rows or len(table.tasks) < 2:
        return ""
    frame = svg.Frame(44, 26, svg.WIDTH - 12, 240, (0.0, 1.0))
    parts = [
        frame.axes(
            "success rate τ", "share of runs and tasks above τ", lambda value: f"{value:.2g}"
        )
    ]
    for index, row in reversed(list(enumerate(rows))):
        thresholds, share = profile_curve(row)
        corners: list[tuple[float, float]] = []
        for position, value in enumerate(share):
            if position:
                corners.append((frame.x(thresholds[position]), frame.y(share[position - 1])))
            corners.append((frame.x(thresholds[position]), frame.y(value)))
        parts.append(svg.path(corners, f"line {svg.color(index)}", table.name(row)))
    key, bottom = svg.legend(_legend_entries(table, rows), 12, 292, svg.WIDTH - 8)
    return svg.document(
        "".join(parts) + key, svg.WIDTH, bottom, f"{table.suite}: performance profile"
    )


def profile_curve(row: Row) -> tuple[Floats, Floats]:
    """Thresholds from 0 to 1 in steps of one episode (at most 100), and the share of scores above each."""
    steps = min(int(row.first.protocol["episodes_per_task"]), 100)
    thresholds = np.arange(steps + 1) / steps
    return thresholds, statistics.performance_profile(row.scores, thresholds)


def _legend_entries(table: Table, rows: Sequence[Row]) -> list[tuple[str, str]]:
    entries = [
        (svg.color(index), table.name(row)) for index, row in enumerate(rows[: svg.COLORS])
    ]
    return (
        [*entries, ("cx", f"{len(rows) - svg.COLORS} more")]
        if len(rows) > svg.COLORS
        else entries
    )


Item = tuple[str, Callable[[svg.Frame, float], str] | None, str]
"""A line of a forest plot: its label, what draws its marks (None for a heading), its figures."""


def headline(table: Table, published: Sequence[Outside]) -> str:
    """Final success of each row by budget: the interval, or the seeds where there are fewer than five."""
    items: list[Item] = []
    position = 0
    for budget, rows in table.budgets:
        items.append((f"planned for {budget:,} env steps", None, ""))
        for row in rows:
            name = svg.color(position) if row.seeds else "cx"
            items.append(
                (row.label, _marks(row, name), headline_text(row) + " *" * row.preliminary)
            )
            position += bool(row.seeds)
    if published:
        items.append(("published elsewhere", None, ""))
        items += [
            (entry.label, _diamonds(entry), entry.shown) for entry in outside.finals(published)
        ]
    body, height = _forest(items, (0.0, 1.0))
    if any(row.preliminary for row in table.rows):
        body += svg.label(
            12, height + 4, f"* preliminary: fewer than {FULL_SEEDS} seeds, each a dot", "tick"
        )
        height += 14
    if any(row.flawed for row in table.rows):
        body += svg.label(12, height + 4, f"{FLAW} see the remarks below the table", "tick")
        height += 14
    return svg.document(body, svg.WIDTH, height, f"{table.suite}: final success")


def marks(row: Row, frame: svg.Frame, y: float, name: str) -> str:
    """The mean with its interval, or the mean as a tick among the seeds' dots."""
    estimate = row.headline
    if not row.seeds:
        return ""
    parts = []
    if estimate.has_interval:
        parts.append(
            svg.line(frame.x(estimate.low), y, frame.x(estimate.high), y, f"bar {name}")
        )
        parts.append(svg.dot(frame.x(estimate.value), y, 4.5, f"fill {name}"))
    else:
        x = frame.x(estimate.value)
        parts += [svg.dot(frame.x(value), y, 4, f"seed {name}", f"seed {run.seed}: {value:.3f}")
                  for run, value in zip(row.counted, row.seed_means)]  # fmt: skip
        parts.append(svg.line(x, y - 7, x, y + 7, f"line {name}") if row.seeds > 1 else "")
    return "".join(parts)


def _marks(row: Row, name: str) -> Callable[[svg.Frame, float], str]:
    return lambda frame, y: marks(row, frame, y, name)


def _diamonds(entry: Outside) -> Callable[[svg.Frame, float], str]:
    def draw(frame: svg.Frame, y: float) -> str:
        low = frame.x(entry.success[0])
        high = frame.x(entry.success[1])
        return (svg.line(low, y, high, y, "line outside") if low < high else "") + svg.diamond(
            (low + high) / 2, y
        )

    return draw


def differences(table: Table) -> str:
    """Each row minus its plain baseline at the same budget, with Welch's interval."""
    items: list[Item] = []
    extremes = [-0.05, 0.05]
    position = {row: index for index, row in enumerate(row for row in table.rows if row.seeds)}
    for budget, rows in table.budgets:
        heading = ""
        compared = [(row, table.comparisons[row]) for row in rows if row in table.comparisons]
        for row, comparison in sorted(
            compared, key=lambda pair: (pair[1].baseline.label, position[pair[0]])
        ):
            if heading != (
                heading := f"minus {comparison.baseline.label}, {short(budget)} env steps"
            ):
                items.append((heading, None, ""))
            difference = comparison.difference
            draw = _difference_mark(
                difference, svg.color(position[row]), comparison.preliminary
            )
            items.append(
                (row.label, draw, difference_text(comparison) + " *" * comparison.preliminary)
            )
            extremes += [
                difference.value,
                *([difference.low, difference.high] if difference.has_interval else []),
            ]
    if not items:
        return ""
    body, height = _forest(
        items, (max(min(extremes), -1.0) - 0.02, min(max(extremes), 1.0) + 0.02)
    )
    if any(comparison.preliminary for comparison in table.comparisons.values()):
        body += svg.label(12, height + 4, "* preliminary: fewer than 5 seeds on a side", "tick")
        height += 14
    if any(comparison.steps for comparison in table.comparisons.values()):
        body += svg.label(12, height + 4, f"{UNEQUAL} the two took different env steps", "tick")
        height += 14
    return svg.document(
        body, svg.WIDTH, height, f"{table.suite}: difference from the plain baseline"
    )


def _difference_mark(
    difference: Estimate, name: str, preliminary: bool
) -> Callable[[svg.Frame, float], str]:
    def draw(frame: svg.Frame, y: float) -> str:
        ends = [
            min(max(value, frame.x_range[0]), frame.x_range[1])
            for value in (difference.low, difference.high)
        ]
        bar = (
            svg.line(frame.x(ends[0]), y, frame.x(ends[1]), y, f"bar {name}")
            if difference.has_interval
            else ""
        )
        return bar + svg.dot(
            frame.x(difference.value), y, 4.5, f"{'hollow' if preliminary else 'fill'} {name}"
        )

    return draw


def _forest(items: Sequence[Item], x_range: tuple[float, float]) -> tuple[str, float]:
    """Labels left, marks on a common axis in the middle, figures right."""
    left = min(
        max(svg.text_width(svg.shorten(text, 26)) for text, draw, _ in items if draw) + 14, 190
    )
    right = svg.WIDTH - max(svg.text_width(figures) for _, _, figures in items) - 16
    bottom = 12.0 + sum(24 if draw else 28 for _, draw, _ in items)
    frame = svg.Frame(left + 8, 8, right, bottom, x_range)
    zero = frame.x(0.0)
    parts = []
    for value in ticks_of(x_range):
        name = "axis" if abs(frame.x(value) - zero) < 0.01 else "grid"
        parts.append(svg.line(frame.x(value), frame.top, frame.x(value), bottom, name))
        parts.append(svg.label(frame.x(value), bottom + 16, f"{value:.2g}", "tick", "middle"))
    y = 0.0
    for text, draw, figures in items:
        y += 24 if draw else 28
        if draw:
            parts += [svg.label(12, y + 4, svg.shorten(text, 26), "key"), draw(frame, y)]
            parts.append(svg.label(svg.WIDTH - 8, y + 4, figures, "figure", "end"))
        else:
            parts.append(svg.label(12, y + 8, text, "tick halo"))
    return "".join(parts), bottom + 26


def ticks_of(x_range: tuple[float, float]) -> list[float]:
    """Few enough ticks for a narrow axis."""
    return svg.ticks(*x_range, count=3)


def estimate_text(estimate: Estimate, sign: str = "") -> str:
    """``0.73 [0.65, 0.81]``, without the interval where there is none."""
    if math.isnan(estimate.value):
        return "none"
    text = f"{estimate.value:{sign}.3f}"
    return (
        f"{text} [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]"
        if estimate.has_interval
        else text
    )


def headline_text(row: Row) -> str:
    """A row's headline, marked where its remarks must be read."""
    return estimate_text(row.headline) + f" {FLAW}" * row.flawed


def difference_text(comparison: Comparison) -> str:
    """A row's difference from its baseline, marked where the two took different numbers of env steps."""
    return estimate_text(comparison.difference, "+") + f" {UNEQUAL}" * bool(comparison.steps)
