"""Result files in a folder: found in a fixed order, read with limits, and every one that is left out named."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mtrl.envs import SuiteError, get_suite
from mtrl.errors import ConfigError, ResultError
from mtrl.records.results import Record, problems
from mtrl.records.schema import show

MAX_BYTES = 16 * 2**20
"""Largest result file that is read: mt50 with an evaluation every 200k env steps up to 100M takes 7 MB."""
OTHER_FILES = ("benchmark_*.json", "fidelity_*.json")
"""Names of JSON files that lie beside results and are something else."""
PAGE_TITLE = "<title>mtrl leaderboard</title>"
"""Text in every page that ``build`` writes; it identifies the page and the folders of its plots and data."""
BUILT = {"csv": (".csv",), "plots": (".svg",), "rliable": (".json", ".npz")}
"""Folders that ``build`` writes beside its page, with the endings of their files."""
_SKIPPED_FOLDERS = ("checkpoints", "tensorboard", "node_modules")


@dataclasses.dataclass(frozen=True, order=True)
class Omission:
    """A file that is not on the leaderboard, and why.

    Attributes:
        file: path below the results folder, as printable text.
        reason: one sentence per problem.
        fault: False for files that were never meant to be results.
    """

    file: str
    reason: str
    fault: bool = True


def find(folder: Path) -> Iterator[Path]:
    """Every ``*.json`` below ``folder`` in order of path, but for the data of pages that ``build`` wrote there.

    Linked folders are not entered.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"RESULTS: {show(str(folder), 200)} is not a folder")
    found = []
    for root, folders, files in os.walk(folder):
        skipped = (
            (*_SKIPPED_FOLDERS, *BUILT)
            if "index.html" in files and holds_page(Path(root))
            else _SKIPPED_FOLDERS
        )
        folders[:] = [
            name for name in folders if name not in skipped and not name.startswith(".")
        ]
        found += [
            Path(root, name)
            for name in files
            if name.endswith(".json") and not name.startswith(".")
        ]
    yield from sorted(found, key=lambda path: os.fsencode(path))


def holds_page(folder: Path) -> bool:
    """Whether ``build`` wrote its page into a folder."""
    path = folder / "index.html"
    try:
        if not path.is_file():
            return False
        with path.open(encoding="utf-8", errors="replace") as page:
            return PAGE_TITLE in page.read(100_000)
    except OSError:
        return False


def is_other(path: Path) -> bool:
    """Whether a file is known by its name to be no result of a run."""
    return any(fnmatch(path.name, pattern) for pattern in OTHER_FILES)


def read_checked(path: Path, inside: Path | None = None) -> Record:
    """A record that follows the schema and names a known suite with that suite's tasks.

    Args:
        inside: folder that the file must lie in after links are followed.

    Raises:
        ResultError: all problems, one per line, each starting with its JSON path where it has one.
    """
    record = read_json(path, inside)
    found = problems(record) or suite_problems(record["protocol"])
    if found:
        more = [f"and {len(found) - 20:,} more problems"] if len(found) > 20 else []
        raise ResultError("\n".join(found[:20] + more))
    checked: Record = record
    return checked


def suite_problems(protocol: Record) -> list[str]:
    """Where a record's protocol contradicts the suite it names."""
    try:
        suite = get_suite(protocol["suite"])
    except SuiteError:
        return [f"protocol.suite: there is no suite {show(protocol['suite'])}"]
    expected = {
        "tasks": list(suite.task_names),
        "reward_version": suite.reward_version,
        "horizon": suite.horizon,
        "success": suite.success,
    }
    return [
        f"protocol.{key}: {'the tasks are' if key == 'tasks' else f'{show(protocol[key])} is'} not "
        f"{'those' if key == 'tasks' else show(value)} of suite {suite.id}"
        for key, value in expected.items()
        if protocol[key] != value
    ]


def read_json(path: Path, inside: Path | None = None) -> Any:
    """The content of a JSON file of bounded size, without duplicate names or numbers that JSON does not have.

    Raises:
        ResultError: one sentence.
    """
    try:
        if (
            inside is not None
            and path.is_symlink()
            and not path.resolve(strict=True).is_relative_to(inside.resolve())
        ):
            raise ResultError("is a link to a file outside the results folder")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ResultError("is not a regular file")
        if status.st_size > MAX_BYTES:
            raise ResultError(
                f"has {status.st_size / 2**20:,.0f} MiB; at most {MAX_BYTES // 2**20} are read"
            )
        text = path.read_bytes().decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_distinct)
    except ResultError:
        raise
    except RecursionError:
        raise ResultError("is nested too deeply") from None
    except OSError as error:
        raise ResultError(f"cannot be read ({error.strerror})") from None
    except RuntimeError:  # how Python 3.11 and 3.12 report it
        raise ResultError("cannot be read (Too many levels of symbolic links)") from None
    except UnicodeDecodeError:
        raise ResultError("is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ResultError(
            f"is truncated or not JSON (line {error.lineno}: {error.msg})"
        ) from None
    except ValueError:
        raise ResultError("holds a number of thousands of digits") from None


def _refuse_constant(name: str) -> None:
    raise ResultError(f"holds {name}, which is not a JSON number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ResultError(f"names {show(twice)} twice in one object")
    return values


def printable(path: Path | str) -> str:
    """A path as text that cannot steer a terminal and holds no lone surrogates."""
    text = os.fsencode(path).decode("utf-8", errors="backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
