"""The runs x tasks matrix for the rliable package: ``{method: array [run, task]}``, without needing it or pickle."""

from __future__ import annotations

import io
import json
import re

import numpy as np

from mtrl.leaderboard.row import Floats
from mtrl.leaderboard.tables import Table


def scores(table: Table) -> dict[str, Floats]:
    """Final success rates of every row that has any, ``[run, task]``, by the row's name."""
    return {table.name(row): row.scores for row in table.rows if row.seeds}


def as_npz(table: Table) -> bytes:
    """The matrices as an ``.npz`` file: ``dict(numpy.load(file))`` is what rliable takes.

    The names become file names inside the archive, so characters that could leave a folder are replaced.
    """
    named: dict[str, Floats] = {}
    for name, matrix in scores(table).items():
        plain = re.sub(r"[^A-Za-z0-9 ()=,.+_-]+", "_", name).strip(".") or "method"
        unique = plain
        while unique in named or unique == "file":
            unique += "_"
        named[unique] = matrix
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **named)
    return file.getvalue()


def as_json(table: Table) -> str:
    """The matrices with the names of the tasks and the seeds behind the lines."""
    content = {
        "suite": table.suite,
        "tasks": table.tasks,
        "seeds": {
            table.name(row): [run.seed for run in row.counted]
            for row in table.rows
            if row.seeds
        },
        "scores": {name: matrix.round(6).tolist() for name, matrix in scores(table).items()},
    }
    return json.dumps(content, indent=1) + "\n"
