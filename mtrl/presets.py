"""Presets: one complete file per suite, one small overlay per method, merged in a fixed order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mtrl import configs, envs
from mtrl.algorithms import algorithms
from mtrl.config import TrainConfig, make_config, run_settings, unknown, unknown_key
from mtrl.errors import ConfigError

FOLDER = Path(configs.__file__).parent
Values = dict[str, Any]


def read_yaml(path: Path) -> Values:
    """A flat YAML file of dotted keys.

    Raises:
        ConfigError: the file is missing, not YAML, or not flat.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: must hold 'key: value' lines")
    for key, value in values.items():
        if isinstance(value, dict):
            raise ConfigError(f"{path}: {key} is nested; write dotted keys, such as {key}.{next(iter(value), 'name')}")
    return values


def methods() -> dict[str, Path]:
    """The shipped methods, by name."""
    return {path.stem: path for path in sorted((FOLDER / "methods").glob("*.yaml"), key=lambda path: path.stem)}


def summary(path: Path) -> str:
    """What a preset says about itself: its first comment line."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def suite_preset(suite: str) -> Path:
    """The preset of a suite: the file with the longest name that the id starts with (``mt10-v1`` reads mt10.yaml).

    Raises:
        ConfigError: no file covers the suite.
    """
    names = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    covering = [name for name in names if _covers(name, suite)]
    if not covering:
        raise ConfigError(
            f"suite: {suite} can be built with envs.make_vec, but no agent is tuned for it yet; "
            f"train on one of {', '.join(names)}"
        )
    return names[max(covering, key=len)]


def trainable_suites() -> list[str]:
    """Ids of the suites that a preset covers."""
    names = [path.stem for path in FOLDER.glob("*.yaml")]
    return [suite for suite in envs.suite_ids() if any(_covers(name, suite) for name in names)]


def _covers(preset: str, suite: str) -> bool:
    return suite == preset or suite.startswith((f"{preset}-", f"{preset}:"))


def method_file(method: str) -> Path:
    """The overlay of a method, by name or by path."""
    known = methods()
    if method in known:
        return known[method]
    if method.endswith((".yaml", ".yml")):
        return Path(method)
    raise unknown("method", method, known)


def resolve(given: Values, config_file: Path | None = None) -> TrainConfig:
    """Merge the layers, weakest first: suite preset, method overlay, ``--config`` file, command line.

    Args:
        given: the command line's values by dotted key.

    Raises:
        ConfigError, SuiteError: with the key, the value, what is allowed, and the file it stands in.
    """
    own = read_yaml(config_file) if config_file else {}
    suite = given.get("suite", own.get("suite"))
    if suite is None:
        raise ConfigError("suite: none given; `python -m mtrl.train` lists them")
    envs.get_suite(str(suite))
    preset_file = suite_preset(str(suite))
    preset = read_yaml(preset_file)
    # A written configuration holds the method's values already, so its method may be one that has moved.
    named = given.get("method", None if "algorithm" in own else own.get("method", preset.get("method")))
    layers = [(f"{preset_file}: ", preset)]
    if named is not None:
        overlay_file = method_file(str(named))
        overlay = read_yaml(overlay_file)
        if "algorithm" not in overlay:
            raise ConfigError(f"{overlay_file}: algorithm is missing; a method names one of {', '.join(algorithms())}")
        layers.append((f"{overlay_file}: ", overlay | {"method": overlay_file.stem}))
        own.pop("method", None)
        given = {key: value for key, value in given.items() if key != "method"}
    if config_file:
        layers.append((f"{config_file}: ", own))
    return make_config(*_merge([*layers, ("", given)]))


def _merge(layers: list[tuple[str, Values]]) -> tuple[Values, dict[str, str]]:
    """The strongest value of each key and where it was read.

    ``ALGORITHM.key`` stands for ``agent.key``, and so does ``key`` alone where no setting of the run has that name.
    """
    algorithm = next(values["algorithm"] for _, values in reversed(layers) if "algorithm" in values)
    known = run_settings(str(algorithm))
    merged: Values = {}
    sources: dict[str, str] = {}
    for source, values in layers:
        for key, value in values.items():
            owner, tail = owner_of(key), key.partition(".")[2]
            if owner is not None:
                if owner != algorithm:
                    _check_foreign(owner, key, tail, source)
                    continue
                key = f"agent.{tail}"
            elif key not in known and f"agent.{key}" in known:
                key = f"agent.{key}"
            merged[key], sources[key] = value, source
    return merged, sources


def owner_of(key: str) -> str | None:
    """The algorithm that a key ``ALGORITHM.key`` is a setting of; None for other keys."""
    head, dot, _ = key.partition(".")
    named = {name.replace("-", "_"): name for name in algorithms()}
    return named.get(head.replace("-", "_")) if dot else None  # dashes of the command line arrive as underscores


def _check_foreign(owner: str, key: str, tail: str, source: str) -> None:
    """Files and sweeps hold settings of several algorithms; each must at least exist."""
    settings = run_settings(owner)
    if f"agent.{tail}" not in settings:
        head = key.partition(".")[0]
        own = {f"{head}.{name.removeprefix('agent.')}": s for name, s in settings.items() if name.startswith("agent.")}
        raise unknown_key(key, source, own)
