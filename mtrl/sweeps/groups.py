"""Runs of a sweep that start as one process: the seeds of one suite and method, or a single run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from mtrl.sweeps.spec import Spec, Unit
from mtrl.sweeps.state import log_path


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds only; each has a folder and a result file of its own."""

    units: tuple[Unit, ...]

    @property
    def name(self) -> str:
        if len(self.units) == 1:
            return self.units[0].name
        return f"{' '.join(self.units[0].row)} seeds {self._seeds}"

    @property
    def log(self) -> Path:
        """Where the process' output goes."""
        own = log_path(self.units[0])
        return (
            own
            if len(self.units) == 1
            else own.with_name(f"seeds-{self._seeds.replace(',', '-')}.log")
        )

    def arguments(self, folder: Path | None = None) -> list[str]:
        """Of ``python -m mtrl.train``.

        Args:
            folder: in front of the run folders; the present one if None.
        """
        first = self.units[0]
        if len(self.units) == 1:
            return [*first.arguments, f"--run-dir={(folder or Path()) / first.folder}"]
        shared = [
            argument for argument in first.arguments if not argument.startswith("--seed=")
        ]
        return [
            *shared,
            f"--seeds={self._seeds}",
            f"--run-dir={(folder or Path()) / first.folder.parent}",
        ]

    def only(self, wanted: Callable[[Unit], bool]) -> Group | None:
        """The group without the runs that are not ``wanted``; None if none is left."""
        units = tuple(unit for unit in self.units if wanted(unit))
        return Group(units) if units else None

    def apart(self) -> list[Group]:
        """Each run alone."""
        return [Group((unit,)) for unit in self.units]

    @property
    def _seeds(self) -> str:
        return ",".join(str(unit.config.seed) for unit in self.units)


def groups_of(spec: Spec) -> list[Group]:
    """The runs of a sweep in groups of ``spec.together`` seeds, in the order of each one's first run.

    The groups follow from the file alone, so a restarted sweep makes the same ones.
    """
    rows: dict[tuple[str, str], list[Unit]] = {}
    for unit in spec.units:
        rows.setdefault(unit.row, []).append(unit)
    parts = [part for units in rows.values() for part in _parts(units, spec.together)]
    return sorted(map(Group, parts), key=lambda group: spec.units.index(group.units[0]))


def _parts(units: Sequence[Unit], size: int) -> list[tuple[Unit, ...]]:
    return [tuple(units[start : start + size]) for start in range(0, len(units), size)]
