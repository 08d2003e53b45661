"""Arguments of the smaller commands: words, checked options, and the usage text for ``--help``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mtrl import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What a command was given.

    Attributes:
        words: in order.
        options: by name, typed; those that were not given are missing.
    """

    words: list[str]
    options: dict[str, Any]


def read(argv: Sequence[str], kinds: Mapping[str, Any], flags: Sequence[str] = ()) -> Arguments:
    """Words and options of a command line.

    Args:
        kinds: the type of each option.
        flags: options without a value, True where they are given.

    Raises:
        ConfigError: an unknown option, with the nearest right one, or a value of another type.
    """
    words, given = cli.parse(argv, flags)
    kinds = {**kinds, **dict.fromkeys(flags, str)}
    options = cli.read_options(given, kinds)
    return Arguments(words, options | {key: True for key in flags if key in given})


def wants_help(argv: Sequence[str]) -> bool:
    """Whether the usage is asked for: nothing is given, or ``--help``."""
    return not argv or "--help" in argv or "-h" in argv
