"""A row: runs of one method with one set of settings and one plan, and the numbers of protocol and statistics."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mtrl import statistics
from mtrl.leaderboard.labels import short
from mtrl.leaderboard.runs import Run

FULL_SEEDS = 5
"""Below this number of seeds a row shows its seeds as dots and is called preliminary."""
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the bounds are NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Runs of one method with one set of settings and one plan, one per seed, in order of seed."""

    label: str
    runs: tuple[Run, ...]

    @cached_property
    def counted(self) -> tuple[Run, ...]:
        """The runs behind the numbers: finished ones, and diverged ones as 0."""
        return tuple(run for run in self.runs if run.counted)

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def method(self) -> str:
        return str(self.first.method["name"])

    @property
    def budget(self) -> int:
        """Env steps asked for, summed over tasks; rows of one budget are compared, since schedules follow it."""
        return self.first.planned_steps

    @property
    def taken(self) -> tuple[int, int]:
        """Least and most env steps that the finished runs took; of all runs, if none finished."""
        steps = [run.taken for run in self.with_status("finished") or self.runs]
        return min(steps), max(steps)

    @property
    def taken_text(self) -> str:
        """``taken`` in words: ``331,776``, or ``303,000 to 303,500``."""
        return " to ".join(dict.fromkeys(f"{steps:,}" for steps in self.taken))

    @property
    def seeds(self) -> int:
        return len(self.counted)

    @property
    def preliminary(self) -> bool:
        return self.seeds < FULL_SEEDS

    @cached_property
    def scores(self) -> Floats:
        """Final success rates ``[run, task]`` of the counted runs."""
        episodes = int(self.first.protocol["episodes_per_task"])
        wins = np.array([run.final for run in self.counted], dtype=np.float64)
        return wins.reshape(-1, len(self.first.tasks)) / episodes

    @cached_property
    def seed_means(self) -> list[float]:
        return [float(value) for value in self.scores.mean(1)]

    @cached_property
    def headline(self) -> Estimate:
        """Mean over tasks, then over seeds, with a t-interval over the per-seed means from five seeds on."""
        if not self.seeds:
            return Estimate(math.nan)
        mean, low, high = statistics.t_interval(self.seed_means)
        return (
            Estimate(mean)
            if self.preliminary
            else Estimate(mean, max(low, 0.0), min(high, 1.0))
        )

    @cached_property
    def last_scores(self) -> float:
        """The headline's mean with the last evaluation of each diverged run in place of its 0; NaN without runs."""
        means = [run.last_mean for run in self.counted]
        return math.fsum(means) / len(means) if means else math.nan

    @cached_property
    def task_counts(self) -> list[tuple[int, int]]:
        """Successes and episodes per task, pooled over the counted runs."""
        wins = self.scores.sum(0) * int(self.first.protocol["episodes_per_task"])
        episodes = self.seeds * int(self.first.protocol["episodes_per_task"])
        return [(round(count), episodes) for count in wins]

    @cached_property
    def task_levels(self) -> list[int | None]:
        """Different levels or goals behind ``task_counts``, per task; None where a record does not tell."""
        known = [run.distinct for run in self.counted]
        if any(counts is None for counts in known):
            return [None] * len(self.first.tasks)
        return [sum(of_task) for of_task in zip(*(counts for counts in known if counts))]

    @property
    def worst_k(self) -> int:
        """How many of the worst tasks ``worst`` averages: a fifth of them, at least one."""
        return max(1, math.ceil(len(self.first.tasks) / 5))

    @cached_property
    def summaries(self) -> dict[str, float]:
        """IQM, worst-k mean, optimality gap, best over training and final-step success; empty without counted runs.

        A run that diverged has success 0 in all but the best over training.
        """
        if not self.seeds:
            return {}
        episodes = int(self.first.protocol["episodes_per_task"])
        evaluated = [run for run in self.counted if len(run.env_steps)]
        finished = self.with_status("finished")
        best = math.fsum(float(run.rates.mean(1).max()) for run in evaluated)
        final_step = math.fsum(float(run.final_step[-1].mean()) / episodes for run in finished)
        hours = [float(run.hours[-1]) for run in evaluated]
        return {
            "iqm": statistics.interquartile_mean(self.scores),
            "worst": statistics.worst_k_mean(self.scores, self.worst_k),
            "gap": statistics.optimality_gap(self.scores),
            "best": best / self.seeds,
            "final_step": final_step / self.seeds,
            "hours": math.fsum(hours) / len(hours) if hours else math.nan,
        }

    @property
    def tags(self) -> list[str]:
        """Short remarks on the row's number."""
        unfinished = len(self.with_status("running"))
        tags = [
            f"{len(self.with_status(status))} {status}"
            for status in ("diverged", "failed")
            if self.with_status(status)
        ]
        return tags + ([f"{unfinished} not finished"] if unfinished else [])

    @property
    def flawed(self) -> bool:
        """Whether the headline needs its remarks to be read."""
        return bool(self.with_status("diverged") or self.with_status("failed")) or (
            not self.first.straight
        )

    @cached_property
    def remarks(self) -> list[str]:
        """Remarks on the row's number, as sentences."""
        diverged, failed = self.with_status("diverged"), self.with_status("failed")
        unfinished = self.with_status("running")
        found = [] if self.first.straight else [_plan_in_words(self.first)]
        if diverged:
            found.append(
                f"diverged, so counted as 0: {_seeds_in_words(diverged)}; with their last evaluations instead the mean "
                f"is {self.last_scores:.3f}"
            )
        if failed:
            found.append(f"failed, so not counted: {_seeds_in_words(failed)}")
        if unfinished:
            found.append(
                "not finished when the file was written, so not counted: "
                + _seeds_in_words(unfinished)
            )
        return found

    @property
    def hardware(self) -> str:
        """Device and CPU cores, each kind once."""
        kinds = sorted(
            {(run.provenance["device"], int(run.provenance["cpu_count"])) for run in self.runs}
        )
        return ", ".join(
            f"{device}, {cores} core{'s' * (cores != 1)}" for device, cores in kinds
        )

    @property
    def commits(self) -> list[str]:
        """Commits of the runs, changed trees marked."""
        return sorted({_commit(run) for run in self.runs})

    def with_status(self, status: str) -> list[Run]:
        return [run for run in self.runs if run.status == status]


def _seeds_in_words(runs: list[Run]) -> str:
    return f"seed{'s' * (len(runs) > 1)} {', '.join(str(run.seed) for run in runs)}"


def _plan_in_words(run: Run) -> str:
    """How a run that was not planned once came to its total."""
    last = run.segments[-1]["total_env_steps"]
    if run.segments[0]["env_steps"] is None:
        return (
            f"its command continues a run with a new planned total, {last:,}; the record does not say at which step, "
            "and step-size schedules may have restarted there"
        )
    steps = [
        f"{part['total_env_steps']:,} at {part['env_steps']:,}" for part in run.segments[1:]
    ]
    first = run.segments[0]["total_env_steps"]
    return (
        f"planned for {first:,} env steps, then for {', then '.join(steps)}: schedules that follow the planned total "
        f"jump there, so this is no run that was planned for {short(last)}"
    )


def _commit(run: Run) -> str:
    commit = str(run.provenance["git_commit"] or "unknown")[:12]
    return f"{commit} + changes" if run.provenance["git_dirty"] else commit
