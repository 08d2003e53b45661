"""Arguments of the smaller commands: words, checked options, and the usage text for ``--help``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mtrl import cli
from mtrl.envs.errors import nearest
from mtrl.errors import ConfigError
from mtrl.settings.fields import coerce


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
    options: dict[str, Any] = {}
    for key, text in given.items():
        if key in flags:
            options[key] = True
        elif key in kinds:
            options[key] = coerce(key, text, kinds[key])
        else:
            close = nearest(key, [*kinds, *flags])
            hint = f"did you mean {close}?" if close else "--help shows all"
            raise ConfigError(f"{key}: unknown setting; {hint}")
    return Arguments(words, options)


def wants_help(argv: Sequence[str]) -> bool:
    """Whether the usage is asked for: nothing is given, or ``--help``."""
    return not argv or "--help" in argv or "-h" in argv
