"""Errors of runs and commands. Each has a message of one sentence and an exit status."""

from __future__ import annotations

from collections.abc import Iterable

from mtrl.envs.errors import UserError, choices, nearest


class WorkbenchError(UserError):
    """An error of a run or a command."""

    exit_status = 1


class ConfigError(WorkbenchError):
    """An unknown key, a wrong value, an unknown suite or method, or an unreadable preset file."""

    exit_status = 2


class RunFolderError(WorkbenchError):
    """A folder that is in use, belongs to another run, or holds something else."""

    exit_status = 2


class CheckpointError(WorkbenchError):
    """A checkpoint that is damaged, missing, or of another run or schema."""

    exit_status = 2


class ResultError(WorkbenchError):
    """A result record that does not follow the protocol."""

    exit_status = 2


class WriteError(WorkbenchError):
    """A file could not be written, for instance because the disk is full."""


class TrainingDiverged(WorkbenchError):
    """A parameter, loss or action became NaN or infinite."""


class InterruptedTraining(WorkbenchError):
    """Training stopped on a signal, after saving what could be saved."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signum


def unknown(field: str, value: str, allowed: Iterable[str]) -> ConfigError:
    """The error for a ``value`` outside ``allowed``, with the nearest right one."""
    return ConfigError(f"{field}: {value!r} is unknown; {choices(value, allowed)}")


def unknown_key(key: str, known: Iterable[str], source: str = "") -> ConfigError:
    """The error for a setting that does not exist, with the nearest right one.

    Args:
        source: the file in which it stands, with a colon.
    """
    close = nearest(key, known)
    hint = f"did you mean {close}?" if close else "--help shows all"
    return ConfigError(f"{source}{key}: unknown setting; {hint}")
