"""The command line as text: reading it, and showing what can be set."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from mtrl.agents import AgentError
from mtrl.envs import SuiteError
from mtrl.errors import ConfigError, WorkbenchError
from mtrl.fields import Setting, describe


def run_command(name: str, body: Callable[[], int]) -> int:
    """Run a command's body; a known error becomes one sentence on stderr and an exit status (2 for bad input)."""
    try:
        status = body()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of the output has left, as in `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except WorkbenchError as error:
        return _complain(name, error, error.exit_status)
    except (SuiteError, AgentError) as error:
        return _complain(name, error, 2)
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
    width = max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))
    paragraphs = []
    for setting in settings:
        value = values.get(setting.key)
        shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else "none" if value is None else value
        about = describe(setting.hint)
        text = f"{about[0].upper()}{about[1:]}. {setting.doc}".rstrip()
        flag = f"  --{setting.key.replace('_', '-')}={shown}"
        paragraphs.append(f"{flag}\n" + textwrap.fill(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(paragraphs)


def columns(rows: Sequence[tuple[str, str]]) -> str:
    """Name and description, aligned and wrapped to the terminal."""
    width = max(40, min(shutil.get_terminal_size((100, 24)).columns, 120))
    left = min(max((len(name) for name, _ in rows), default=0), 24)
    lines = [
        textwrap.fill(text or "-", width, initial_indent=f"  {name:<{left}}  ", subsequent_indent=" " * (left + 4))
        for name, text in rows
    ]
    return "\n".join(lines)
