"""Everything that is shown, computed once for all formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mtrl.leaderboard import figures, heatmap
from mtrl.leaderboard.files import Omission
from mtrl.leaderboard.heatmap import Column
from mtrl.leaderboard.outside import Outside
from mtrl.leaderboard.runs import Run
from mtrl.leaderboard.tables import Table, tables


@dataclasses.dataclass(frozen=True, eq=False)
class Board:
    """Tables, published numbers and the files left out."""

    tables: list[Table]
    outside: list[Outside]
    omitted: list[Omission]
    _figures: dict[Table, dict[str, tuple[str, str]]] = dataclasses.field(default_factory=dict)

    def published(self, table: Table) -> list[Outside]:
        """Published numbers about a table's suite."""
        return [entry for entry in self.outside if entry.suite == table.suite]

    @property
    def dirty_files(self) -> list[str]:
        """Result files of runs whose code differed from its commit."""
        runs = [run for table in self.tables for row in table.rows for run in row.runs]
        return sorted(run.file for run in runs if run.dirty)

    def columns(self, table: Table) -> list[Column]:
        """Success per task of each row, with the single-task reference."""
        return heatmap.columns(table, self.tables)

    def figures(self, table: Table) -> dict[str, tuple[str, str]]:
        """Every plot of a table by name, ``(title, svg)``; drawn once."""
        if table not in self._figures:
            drawn = figures.figures(table, self.published(table))
            grid = heatmap.heatmap(table, self.columns(table))
            if grid:
                drawn["tasks"] = ("Success per task", grid)
            self._figures[table] = drawn
        return self._figures[table]


def make_board(
    runs: Sequence[Run], outside: Sequence[Outside], omitted: Sequence[Omission]
) -> Board:
    """Group the runs and keep what could not be grouped."""
    return Board(tables(runs), list(outside), sorted(omitted))
