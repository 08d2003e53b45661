"""The display of a training: a bar in a terminal or notebook, elsewhere a line every half minute."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from tqdm.auto import tqdm

from mtrl.records.results import Record, success_mean
from mtrl.training.console import LastingStream
from mtrl.training.expected import duration

LINE_EVERY_S = 30.0
BAR = "{desc} {percentage:3.0f}% {bar} {n_fmt}/{total_fmt} {rate_noinv_fmt} ETA {remaining}{postfix}"
NARROW_BAR = "{percentage:3.0f}% {rate_noinv_fmt} ETA {remaining}{postfix}"


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, which shows a bar though its stderr is no terminal."""
    shell = sys.modules.get("IPython")
    kernel = shell.get_ipython() if shell is not None else None
    return type(kernel).__name__ == "ZMQInteractiveShell"


class Progress:
    """Env steps, speed, success and time left, on stderr.

    Args:
        title: a word or two in front.
        start: env steps done before this process.
        total: env steps to reach.
        stream: where to write; stderr if None, and nowhere if that is closed.
    """

    def __init__(
        self, title: str, start: int, total: int, stream: TextIO | None = None
    ) -> None:
        self.title = title
        self.total = total
        self.rates: dict[str, float] = {}
        self._by_label: dict[str, dict[str, float]] = {}
        self._unsolved = 0
        # Python has None for a standard stream that was closed before it started.
        self._stream: TextIO | LastingStream = stream or sys.stderr or LastingStream(None)
        self._start, self._steps = start, start
        self._began = self._last_line = time.monotonic()
        self._bar: tqdm | None = None
        if in_notebook():
            self._bar = tqdm(
                total=total, initial=start, desc=title, unit=" env steps", unit_scale=True
            )
        elif self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=start,
                desc=title,
                file=self._stream,
                dynamic_ncols=True,
                leave=False,
                unit_scale=True,
                mininterval=0.5,
                bar_format=BAR
                if os.get_terminal_size(self._stream.fileno()).columns >= 90
                else NARROW_BAR,
                unit=" env steps",
            )

    def advance(self, env_steps: int) -> None:
        """Note that training has reached ``env_steps``."""
        if self._bar is not None:
            self._bar.update(min(env_steps, self.total) - min(self._steps, self.total))
        self._steps = env_steps
        if self._bar is None and time.monotonic() - self._last_line >= LINE_EVERY_S:
            self.say(self.line())

    def show(self, label: str = "", **rates: float) -> None:
        """Rates to show: ``success`` of the exploring policy, ``eval`` of the last evaluation.

        Args:
            label: the run whose rates they are; the mean over labels is shown.
        """
        for name, rate in rates.items():
            own = self._by_label.setdefault(name, {})
            own[label] = rate
            self.rates[name] = sum(own.values()) / len(own)
        self.note(", ".join(self._findings()))

    def add_unsolved(self, count: int) -> None:
        """Count ``count`` more solves of a gradient method that did not converge; 0 in all is not shown."""
        self._unsolved += count

    def _findings(self) -> list[str]:
        rates = [f"{name} {rate:.2f}" for name, rate in self.rates.items()]
        plural = "s" * (self._unsolved != 1)
        return rates + (
            [f"{self._unsolved:,} solve{plural} not converged"] if self._unsolved else []
        )

    def note(self, text: str) -> None:
        """Show ``text`` at the end of the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def say(self, text: str) -> None:
        """A line of its own, above the bar if there is one."""
        if self._bar is not None:
            tqdm.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)
        self._last_line = time.monotonic()

    def line(self) -> str:
        """The state of the run in one line."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = (self._steps - self._start) / seconds
        left = (
            f"{duration((self.total - self._steps) / rate)} left"
            if rate
            else "time left unknown"
        )
        found = "".join(f", {finding}" for finding in self._findings())
        return f"{self.title} {self._steps:,}/{self.total:,} env steps, {rate:,.0f}/s, {left}{found}"

    def evaluation(self, record: Record, label: str = "") -> None:
        """Report an evaluation of the run ``label``."""
        mean = success_mean(record["per_task"])
        self.show(label, eval=mean)
        tasks = record["per_task"].values()
        solved = (
            f"{sum(task['successes'] > 0 for task in tasks)} of {len(tasks)} tasks ever solved"
        )
        self.say(
            f"{label}evaluation at {record['env_steps']:,} env steps: success {mean:.3f}, {solved}"
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
