"""``python -m mtrl.leaderboard check FILE ...``: say what is wrong with result files."""

from __future__ import annotations

from pathlib import Path

from mtrl import cli
from mtrl.errors import ConfigError, ResultError
from mtrl.results import read_result

USAGE = """usage: python -m mtrl.leaderboard check FILE ...

Validates result files; prints one line per problem. Exit status 2 if there is any."""


def run(arguments: list[str]) -> int:
    """Check every file; the status is 2 if one has a problem."""
    words, options = cli.parse(arguments)
    if not arguments or "help" in options:
        print(USAGE)
        return 0
    if options:
        raise ConfigError(f"{next(iter(options))}: unknown setting; check takes files only")
    status = 0
    for word in words:
        try:
            read_result(Path(word))
            print(f"{word}: valid")
        except ResultError as error:
            print(error)
            status = 2
    return status
