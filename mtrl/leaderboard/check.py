"""``python -m mtrl.leaderboard check FILE ...``: list the faults of result files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mtrl import cli
from mtrl.errors import ConfigError, ResultError
from mtrl.leaderboard.files import find, is_other, printable, read_checked
from mtrl.records.schema import schema_path


def run(arguments: list[str]) -> int:
    """Check every file; the status is 2 if one has a problem."""
    words, options = cli.parse(arguments, {"schema": bool})
    if options:
        if words:
            raise ConfigError(f"schema: goes without files; {words[0]!r} is one")
        print(schema_path())
        return 0
    complaints, seen, files = 0, dict[tuple[str, str], str](), 0
    for path in _files(words):
        files += 1
        shown = printable(path)
        try:
            record = read_checked(path)
            plan = json.dumps(record["budget"]["segments"])
            first = seen.setdefault((record["run_id"], plan), shown)
            if first != shown:
                raise ResultError(f"run_id: {record['run_id']!a} is already the run of {first}")
        except ResultError as error:
            for line in str(error).splitlines():
                complaints += 1
                print(f"{shown}: {line}")
    print(
        f"{files} file{'s' * (files != 1)} checked, {complaints or 'no'} problem{'s' * (complaints != 1)}"
    )
    return 2 if complaints else 0


def _files(words: list[str]) -> Iterator[Path]:
    for word in words:
        path = Path(word)
        if path.is_dir():
            yield from (found for found in find(path) if not is_other(found))
        else:
            yield path
