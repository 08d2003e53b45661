"""The command line as text: reading it, and showing what can be set."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError

from mtrl.agents.settings import Setting, as_text, describe
from mtrl.envs.errors import UserError
from mtrl.errors import ConfigError, unknown_key

NARROW = 60
"""Columns below which a name and its description do not fit beside each other."""


def run_command(name: str, body: Callable[[], int]) -> int:
    """Run a command's body; a known error becomes one sentence on stderr and an exit status (2 for bad input).

    A warning of class UserWarning becomes one line, without the place in the code that it is about.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
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


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    stream = file or sys.stderr
    if stream is None:  # closed before Python started
        return
    plain = category is UserWarning
    text = warnings.formatwarning(message, category, filename, lineno, line)
    print(f"warning: {message}" if plain else text.rstrip(), file=stream)


def parse(
    argv: Sequence[str], kinds: Mapping[str, Any] | None = None
) -> tuple[list[str], dict[str, Any]]:
    """Positional words, and options ``--key=value`` or ``--key value``; dashes inside keys read as underscores.

    Args:
        kinds: the type of each option, bool for one without a value. Without ``kinds`` every option is a text. With it,
            ``--help`` hides all other words and options.

    Raises ConfigError for an option without its value, an unknown one, and a value of another type.
    """
    if kinds is not None and {"-h", "--help"} & set(argv):
        return [], {"help": True}
    words: list[str] = []
    options: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if token in ("-h", "--help"):
            options["help"] = True
        elif not token.startswith("-") or token == "-":
            words.append(token)
        else:
            key, equals, value = token.lstrip("-").partition("=")
            key = key.replace("-", "_")
            kind = str if kinds is None else kinds.get(key)
            if kind is None:
                raise unknown_key(key, kinds or ())
            if not equals and kind is not bool:
                if not rest or rest[0].startswith("--"):
                    raise ConfigError(f"{token}: needs a value, as in {token}=VALUE")
                value = rest.pop(0)
            options[key] = True if kind is bool else _typed(key, value, kind)
    return words, options


def _typed(key: str, text: str, kind: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError:
        raise ConfigError(f"{key}: {text!r} is not {describe(kind)}") from None


def settings_help(known: Mapping[str, Setting], values: Mapping[str, Any]) -> str:
    """One paragraph per setting, fitted to the terminal: the flag with its value in force, its type, what it does."""
    lines = []
    for key, setting in known.items():
        about = describe(setting.hint)
        lines.append(f"  --{key.replace('_', '-')}={as_text(values[key])}")
        lines.append(_wrapped(f"{about[0].upper()}{about[1:]}. {setting.about}", " " * 6))
    return "\n".join(lines)


def columns(rows: Sequence[tuple[str, str]]) -> str:
    """Name and description, wrapped to the terminal: aligned, or below each other where it is narrow."""
    if _width() < NARROW:
        return "\n".join(f"  {name}\n{_wrapped(text or '-', ' ' * 6)}" for name, text in rows)
    left = min(max((len(name) for name, _ in rows), default=0), 24)
    return "\n".join(
        _wrapped(text or "-", " " * (left + 4), f"  {name:<{left}}  ") for name, text in rows
    )


def fitted(text: str) -> str:
    """Wrap a usage text to the terminal. The rest of a long line stands indented below it."""
    indents = [len(line) - len(line.lstrip()) for line in text.splitlines()]
    return "\n".join(
        _wrapped(line.lstrip(), " " * (indent + 4), " " * indent)
        for line, indent in zip(text.splitlines(), indents)
    )


def _wrapped(text: str, indent: str, first: str | None = None) -> str:
    """The text in lines as long as the terminal's."""
    first = indent if first is None else first
    return textwrap.fill(
        text, _width(), initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )


def _width() -> int:
    """Columns of the terminal, within limits that a text can be read in."""
    return max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))
