"""Which runs make one row: the settings that tell methods apart, a row's label, and where its result files stand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from mtrl import envs
from mtrl.agents.settings import CONTINUOUS, Setting
from mtrl.envs.errors import UserError
from mtrl.settings.config import Flat, run_settings, shortened
from mtrl.settings.presets import methods, resolve

MACHINE_KEYS = frozenset(
    (
        *(
            "seed",
            "seeds",
            "suite",
            "declaration",
            "method",
            "run_dir",
            "device",
            "num_workers",
            "num_threads",
            "torch_threads",
        ),
        *(
            "total_env_steps",
            "tensorboard",
            "log_every",
            "checkpoint_every",
            "eval.every",
            "eval.envs_per_task",
        ),
    )
)
"""Settings that do not distinguish methods: names of the run, the machine, logging."""
PROTOCOL_KEYS = frozenset(("backend", "eval.episodes_per_task", "eval.seed"))
"""Settings that distinguish tables, not methods. A record's protocol holds their effect."""
_SPEAKING = ("agent.heads", "agent.memory", "agent.precision")
"""Settings of which a label shows the value alone: fp32, gru, one-hot."""
_LONGEST = 120  # characters of a folder's name; file systems end at 255 bytes


def told_apart(params: Flat) -> Flat:
    """The settings in which two runs of one row agree."""
    ignored = (
        MACHINE_KEYS
        | PROTOCOL_KEYS
        | idle(str(params.get("suite")), str(params.get("algorithm")))
    )
    return {key: value for key, value in params.items() if key not in ignored}


def idle(suite: str, algorithm: str) -> frozenset[str]:
    """Settings that do nothing on a suite, such as exploration noise where actions are discrete."""
    try:
        return _idle(suite, algorithm)
    except UserError:
        return frozenset()


@cache
def _idle(suite: str, algorithm: str) -> frozenset[str]:
    if not envs.get_suite(suite).discrete:
        return frozenset()
    return frozenset(
        key for key, setting in run_settings(algorithm).items() if CONTINUOUS in setting.notes
    )


def changes(params: Flat, file: Path | None = None) -> dict[str, str]:
    """How a run differs from its method's preset: a few words for each setting that does.

    A setting that ``params`` lacks says nothing.

    Args:
        params: flat settings, ``suite``, ``algorithm`` and ``method`` among them.
        file: the method's own file, where it does not ship. Without one, such a method is compared with the plain
            algorithm.
    """
    suite, algorithm = str(params.get("suite")), str(params.get("algorithm"))
    usual: Flat = {}
    settings: dict[str, Setting] = {}
    own = params
    try:
        usual = _reference(suite, str(params.get("method")), algorithm, file)
        own, settings = shortened(params), run_settings(algorithm)
    except UserError:
        pass  # of an agent that is not ours, or of another version of mtrl: the label says everything
    ignored = MACHINE_KEYS | idle(suite, algorithm)
    return {
        key: _words(key, value, settings.get(key))
        for key, value in own.items()
        if key not in ignored and (key not in usual or usual[key] != value)
    }


@cache
def _reference(suite: str, method: str, algorithm: str, file: Path | None) -> Flat:
    """The settings that a label omits: those of a method's preset on a suite, choices in their short form."""
    if method in methods():
        config = resolve({"suite": suite, "method": method})
    elif file is not None:
        config = resolve({"suite": suite, "method": str(file)})
    else:
        config = resolve({"suite": suite, "algorithm": algorithm})
    return shortened(config.flat())


def label(method: str, words: Iterable[str]) -> str:
    """A row's name: ``mtppo``, or ``mtppo, fp32, rollout_per_task 800``."""
    return ", ".join([method, *words])


def place(params: Flat, file: Path | None = None) -> Path:
    """Where the result file of a run stands below the results folder: ``SUITE/BUDGET/ROW/seed-N.json``.

    Args:
        params, file: as of ``changes``.
    """
    words = changes(params, file).values()
    row = folder_name(label(str(params["method"]), words))
    suite = str(params["suite"]).replace(":", "-")
    return Path(
        suite, budget_name(int(params["total_env_steps"])), row, f"seed-{params['seed']}.json"
    )


def budget_name(env_steps: int) -> str:
    """A number of env steps, exact and short: 200k, 1.4m, 999."""
    for unit, letter in ((10**6, "m"), (10**3, "k")):
        whole, rest = divmod(env_steps, unit)
        if whole:
            digits = str(unit + rest)[1:].rstrip("0")
            return f"{whole}{'.' if digits else ''}{digits}{letter}"
    return str(env_steps)


def folder_name(row: str) -> str:
    """A label as the name of a folder: letters, digits, dots and dashes. Different settings keep different names."""
    # -4 is not 4, 1e+20 not 1e-20.
    signed = re.sub(r"(?<=[ =,])-(?=\d)", "minus ", row).replace("e+", "e")
    name = re.sub(r"[^A-Za-z0-9.]+", "-", signed).strip("-.") or "method"
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9].rstrip('-.')}-{hashlib.sha256(row.encode()).hexdigest()[:8]}"


def _words(key: str, value: Any, setting: Setting | None) -> str:
    """A setting and its value as a person writes them: ``without stagger``, ``fp32``, ``width 1024``."""
    name = key.removeprefix("agent.")
    if value is True:
        return f"with {name}"
    if value is None or value is False or value == "none" or _turned_off(value, setting):
        return f"without {name}"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if key in _SPEAKING else f"{name} {text}"


def _turned_off(value: Any, setting: Setting | None) -> bool:
    """Whether a value of 0 switches the setting off. Where null does so, 0 is an ordinary number."""
    return setting is not None and value == 0 and not setting.optional
