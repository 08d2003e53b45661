"""The command line as text: reading it, and showing what can be set."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mtrl.agents.settings import Schema, describe, range_of
from mtrl.envs.errors import UserError
from mtrl.errors import ConfigError, unknown_key


def run_command(name: str, body: Callable[[], int]) -> int:
    """Run a command's body; a known error becomes one sentence on stderr and an exit status (2 for bad input)."""
    try:
        status = body()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the output has left, as in `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UserError as error:
        return _complain(name, error, error.exit_status)
    except KeyboardInterrupt:
        return _complain(name, "stopped at once; what was saved before is whole", 130)


def _complain(name: str, error: object, status: int) -> int:
    print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def parse(argv: Sequence[str], flags: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """Positional words and ``--key=value`` or ``--key value`` pairs; dashes inside keys read as underscores.

    Args:
        flags: keys that take no value.

    Raises:
        ConfigError: a key without a value.
    """
    words: list[str] = []
    options: dict[str, str] = {}
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if token in ("-h", "--help"):
            options["help"] = ""
        elif not token.startswith("-") or token == "-":
            words.append(token)
        else:
            key, equals, value = token.lstrip("-").partition("=")
            key = key.replace("-", "_")
            if not equals and key not in flags:
                if not rest or rest[0].startswith("--"):
                    raise ConfigError(f"{token}: needs a value, as in {token}=VALUE")
                value = rest.pop(0)
            options[key] = value
    return words, options


def read_options(options: Mapping[str, str], types: Mapping[str, type]) -> dict[str, Any]:
    """The options of a command, each read as its type.

    Raises:
        ConfigError: an unknown option, with the nearest right one, or a value that is not allowed.
    """
    found = {}
    for key, text in options.items():
        if key not in types:
            raise unknown_key(key, types)
        reader: TypeAdapter[Any] = TypeAdapter(types[key])
        try:
            found[key] = reader.validate_python(text)
        except ValidationError:
            allowed = describe(reader.json_schema())
            raise ConfigError(f"{key}: {text!r} is not {allowed}") from None
    return found


def settings_help(known: Mapping[str, Schema], values: Mapping[str, Any]) -> str:
    """One paragraph per setting, fitted to the terminal: the flag with its value in force, its type, what it does.

    Args:
        known: the JSON schema of every setting, by dotted key.
        values: by the same keys.
    """
    lines = []
    for key, schema in known.items():
        about, limits = describe(schema), range_of(schema)
        if limits:
            about += f"; must be {limits}"
        text = f"{about[0].upper()}{about[1:]}. {schema['description']}"
        lines += [f"  --{key.replace('_', '-')}={as_text(values[key])}", _wrapped(text, " " * 6)]
    return "\n".join(lines)


def as_text(value: Any) -> str:
    """A value as the command line writes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def columns(rows: Sequence[tuple[str, str]]) -> str:
    """Name and description, aligned and wrapped to the terminal."""
    left = min(max((len(name) for name, _ in rows), default=0), 24)
    return "\n".join(
        _wrapped(text or "-", " " * (left + 4), f"  {name:<{left}}  ") for name, text in rows
    )


def _wrapped(text: str, indent: str, first: str | None = None) -> str:
    """The text in lines as long as the terminal's."""
    width = max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))
    return textwrap.fill(text, width, initial_indent=first or indent, subsequent_indent=indent)
