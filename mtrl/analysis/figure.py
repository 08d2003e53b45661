"""Learning curves by env steps and by hours, and bars of each task, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtrl.analysis.series import Floats, Series, one_suite
from mtrl.errors import ConfigError, WorkbenchError
from mtrl.extras import install_command
from mtrl.statistics import t_interval, wilson_interval
from mtrl.training.run_folder import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".pdf", ".png", ".svg")
# Okabe and Ito's colours, which stay distinct to the colour-blind; black comes last.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def draw(series: Sequence[Series], file: Path) -> Path:
    """Draw all series into one file, whose ending decides the format. Returns it.

    Curves show the mean over tasks, averaged over seeds, with Student's 95 % interval over seeds. Bars show each task
    at the last evaluation: with several seeds their mean and that interval, with one Wilson's interval of its episodes.

    Raises:
        ConfigError: another ending, or several suites.
        WorkbenchError: matplotlib is missing, or the file cannot be written.
    """
    if file.suffix not in FORMATS:
        raise ConfigError(f"out: {file} does not end in {', '.join(FORMATS)}")
    suite = one_suite(series)
    figure = _new_figure(len(series[0].tasks), len(series))
    grid = figure.add_gridspec(2, 2)
    by_steps, by_hours = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    for place, one in enumerate(series):
        colour = COLOURS[place % len(COLOURS)]
        _curve(by_steps, one.env_steps / 1e6, one, colour)
        _curve(by_hours, one.hours, one, colour)
    _label(by_steps, "million env steps, summed over tasks")
    _label(by_hours, "hours of training")
    _bars(figure.add_subplot(grid[1, :]), series)
    figure.suptitle(f"{suite}: success")
    figure.legend(
        *by_steps.get_legend_handles_labels(), loc="outside lower center", frameon=False
    )
    with writing(file):
        figure.savefig(file, dpi=150)
    return file


def _new_figure(num_tasks: int, num_series: int) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise WorkbenchError(
            f"plot: needs matplotlib; install it with: {install_command('matplotlib')}"
        ) from None
    width = max(9.0, 2.0 + 0.16 * num_tasks * (num_series + 1))
    return Figure(figsize=(min(width, 28.0), 7.5), layout="constrained")


def interval_over_seeds(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and 95 % interval within [0, 1] of each column of ``values`` ``[S, n]``; one seed has no interval (NaN)."""
    found = np.array([t_interval(column.tolist()) for column in values.T])
    return found[:, 0], np.clip(found[:, 1], 0, 1), np.clip(found[:, 2], 0, 1)


def _curve(axes: Axes, x: Floats, series: Series, colour: str) -> None:
    mean, low, high = interval_over_seeds(series.rates.mean(2))
    count = len(series.records)
    text = f"{series.label} ({count} seed{'s' * (count != 1)})"
    axes.plot(x, mean, color=colour, marker="o", markersize=3, label=text)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _label(axes: Axes, text: str) -> None:
    axes.set(xlabel=text, ylabel="success, mean over tasks", ylim=(0, 1.02))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)


def _bars(axes: Axes, series: Sequence[Series]) -> None:
    tasks, width = series[0].tasks, 0.8 / len(series)
    for place, one in enumerate(series):
        mean, low, high = _task_intervals(one)
        x = np.arange(len(tasks)) + (place - (len(series) - 1) / 2) * width
        whiskers: Any = np.stack([mean - low, high - mean]).clip(min=0)
        colour = COLOURS[place % len(COLOURS)]
        axes.bar(x, mean, width, color=colour, yerr=whiskers, error_kw={"linewidth": 0.8})
    axes.set_xticks(range(len(tasks)), tasks, rotation=40, ha="right", fontsize=8)
    axes.set(ylabel="success at the last evaluation", ylim=(0, 1.02))
    axes.grid(axis="y", alpha=0.3)


def _task_intervals(series: Series) -> tuple[Floats, Floats, Floats]:
    """Mean and 95 % interval of each task, ``[T]``."""
    if len(series.records) > 1:
        return interval_over_seeds(series.last_rates)
    episodes = int(series.records[0]["protocol"]["episodes_per_task"])
    rates = series.last_rates[0]
    found = np.array([wilson_interval(round(rate * episodes), episodes) for rate in rates])
    return rates, found[:, 0], found[:, 1]
