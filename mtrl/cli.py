"""The command line as text: reading it, and showing what can be set."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from mtrl.agents.settings import Setting, describe, range_of, registry_of
from mtrl.envs.errors import UserError
from mtrl.errors import ConfigError


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


def settings_help(settings: Sequence[Setting], values: dict[str, Any]) -> str:
    """One paragraph per setting, fitted to the terminal: the flag with its value in force, its type, what it does."""
    paragraphs = []
    for setting in settings:
        registry = registry_of(setting.hint)
        kind = values.get(f"{setting.key}.kind")
        if registry is None or kind is None:
            paragraphs.append(_paragraph(setting.key, values.get(setting.key), setting))
            continue
        paragraphs.append(_paragraph(f"{setting.key}.kind", kind, setting))
        for part in registry.settings(kind):
            key = f"{setting.key}.{part.key}"
            paragraphs.append(_paragraph(key, values[key], part))
    return "\n".join(paragraphs)


def _paragraph(key: str, value: Any, setting: Setting) -> str:
    about, limits = describe(setting.hint), range_of(setting.hint)
    if limits:
        about += f"; must {limits}"
    text = f"{about[0].upper()}{about[1:]}. {setting.doc}".rstrip()
    flag = f"  --{key.replace('_', '-')}={as_text(value)}"
    return f"{flag}\n" + textwrap.fill(
        text, _width(), initial_indent=" " * 6, subsequent_indent=" " * 6
    )


def as_text(value: Any) -> str:
    """A value as the command line writes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _width() -> int:
    return max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))


def columns(rows: Sequence[tuple[str, str]]) -> str:
    """Name and description, aligned and wrapped to the terminal."""
    left = min(max((len(name) for name, _ in rows), default=0), 24)
    lines = [
        textwrap.fill(
            text or "-",
            _width(),
            initial_indent=f"  {name:<{left}}  ",
            subsequent_indent=" " * (left + 4),
        )
        for name, text in rows
    ]
    return "\n".join(lines)
