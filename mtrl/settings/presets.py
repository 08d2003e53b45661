"""Presets: what a family of suites, a suite and a method change of the defaults, merged in a fixed order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mtrl import configs, envs
from mtrl.envs import files as yaml_files
from mtrl.errors import ConfigError, unknown
from mtrl.settings.algorithms import ALGORITHMS
from mtrl.settings.config import Flat, TrainConfig, make_config

FOLDER = Path(configs.__file__).parent


def load_yaml(path: Path) -> Any:
    """What a YAML file holds. Raises ConfigError if it is missing or not YAML, or a key stands there twice."""
    return yaml_files.load_yaml(path, ConfigError)


def read_yaml(path: Path) -> Flat:
    """A flat YAML file of dotted keys. Raises ConfigError for what ``load_yaml`` refuses and for another form."""
    values = load_yaml(path) or {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: must hold 'key: value' lines")
    for key, value in values.items():
        if isinstance(value, dict):
            inner = next(iter(value), "name")
            raise ConfigError(
                f"{path}: {key} is nested; write dotted keys, such as {key}.{inner}"
            )
    return values


def methods() -> dict[str, Path]:
    """The shipped methods, by name."""
    return {
        path.stem: path
        for path in sorted((FOLDER / "methods").glob("*.yaml"), key=lambda path: path.stem)
    }


def summary(path: Path) -> str:
    """What a preset says about itself: its first comment line."""
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def suite_files(suite: str) -> list[Path]:
    """The presets of a suite, the weaker first: its family's, and the one with the longest name its id starts with.

    ``mt10-v1`` reads ``suites/mt10.yaml``, ``mt1:reach-v3`` reads ``suites/mt1.yaml``. A suite that changes nothing has
    no file of its own, and neither has a declared one. Raises SuiteError if there is no such suite.
    """
    spec = envs.get_suite(suite)
    family = FOLDER / "families" / f"{spec.family}.yaml"
    own = [
        path
        for path in (FOLDER / "suites").glob("*.yaml")
        if spec.declaration is None and re.match(rf"{path.stem}([-:]|$)", suite)
    ]
    longest = sorted(own, key=lambda path: len(path.stem))[-1:]
    return [path for path in [family, *longest] if path.is_file()]


def method_file(method: str) -> Path:
    """The preset of a method, by name or by path."""
    if method not in methods() and not method.endswith((".yaml", ".yml")):
        raise unknown("method", method, methods())
    return methods().get(method, Path(method))


def resolve(given: Flat, config_file: Path | None = None) -> TrainConfig:
    """Merge the layers, weakest first: defaults, family, suite, method, ``--config`` file, command line.

    With an algorithm and no method, the algorithm stands as a method that changes nothing.

    Args:
        given: the command line's values by dotted key.

    Raises ConfigError and SuiteError with the key, the value, what is allowed, and the file it stands in.
    """
    own = read_yaml(config_file) if config_file else {}
    named = own | given
    if "suite" not in named:
        raise ConfigError("suite: none given; `python -m mtrl.train` lists them")
    if named.get("declaration") is not None:
        envs.declare(str(named["declaration"]))
    suite = envs.get_suite(str(named["suite"]))
    # A configuration written for another suite may hold the declaration of that one.
    own = {key: value for key, value in own.items() if key != "declaration"}
    given = given | {"suite": suite.id, "declaration": suite.declaration}
    files = {str(path): read_yaml(path) for path in suite_files(suite.id)}
    # A written configuration holds the method's values already, so the method's file may be missing.
    if "algorithm" not in named or "method" in given:
        method = method_file(str(named.get("method", TrainConfig.method)))
        files[str(method)] = read_yaml(method)
        if "algorithm" not in files[str(method)]:
            raise ConfigError(
                f"{method}: algorithm is missing; a method names one of {', '.join(ALGORITHMS)}"
            )
        given = given | {"method": method.stem}
    elif "method" not in named:
        given = given | {"method": named["algorithm"]}
    return make_config(given, files | ({str(config_file): own} if own else {}))
