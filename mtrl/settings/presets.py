"""Presets: what a family of suites, a suite and a method change of the defaults, merged in a fixed order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mtrl import configs, envs
from mtrl.agents.settings import settings_of
from mtrl.errors import ConfigError, unknown, unknown_key
from mtrl.settings.algorithms import ALGORITHMS, settings_class
from mtrl.settings.config import (
    TrainConfig,
    make_config,
)
from mtrl.settings.fields import Flat

FOLDER = Path(configs.__file__).parent


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice; YAML itself would keep the last value in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key} stands there twice")
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        ConfigError: the file is missing or not YAML, or a key stands there twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from None


def read_yaml(path: Path) -> Flat:
    """A flat YAML file of dotted keys.

    Raises:
        ConfigError: the file is missing, not YAML, or not flat, or a key stands there twice.
    """
    values = load_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: must hold 'key: value' lines")
    for key, value in values.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"{path}: {key} is nested; write dotted keys, such as {key}.{next(iter(value), 'name')}"
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
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def suite_files(suite: str) -> list[Path]:
    """The presets of a suite, the weaker first: its family's, and the one with the longest name its id starts with.

    ``mt10-v1`` reads ``suites/mt10.yaml``, ``mt1:reach-v3`` reads ``suites/mt1.yaml``. A suite that changes nothing has
    no file of its own.

    Raises:
        SuiteError: there is no such suite.
    """
    family = FOLDER / "families" / f"{envs.get_suite(suite).family}.yaml"
    own = [path for path in (FOLDER / "suites").glob("*.yaml") if _covers(path.stem, suite)]
    longest = sorted(own, key=lambda path: len(path.stem))[-1:]
    return [path for path in [family, *longest] if path.is_file()]


def _covers(preset: str, suite: str) -> bool:
    return suite == preset or suite.startswith((f"{preset}-", f"{preset}:"))


def method_file(method: str) -> Path:
    """The preset of a method, by name or by path."""
    known = methods()
    if method in known:
        return known[method]
    if method.endswith((".yaml", ".yml")):
        return Path(method)
    raise unknown("method", method, known)


def resolve(given: Flat, config_file: Path | None = None) -> TrainConfig:
    """Merge the layers, weakest first: defaults, family, suite, method, ``--config`` file, command line.

    Args:
        given: the command line's values by dotted key.

    Raises:
        ConfigError, SuiteError: with the key, the value, what is allowed, and the file it stands in.
    """
    own = read_yaml(config_file) if config_file else {}
    suite = given.get("suite", own.get("suite"))
    if suite is None:
        raise ConfigError("suite: none given; `python -m mtrl.train` lists them")
    layers = _of_suite(str(suite))
    method = None
    # A written configuration holds the method's values already, so its method may be one that has moved.
    if "algorithm" not in own or "method" in given:
        method = method_file(str(given.get("method", own.get("method", TrainConfig.method))))
        layers.append((f"{method}: ", read_yaml(method)))
        if "algorithm" not in layers[-1][1]:
            raise ConfigError(
                f"{method}: algorithm is missing; a method names one of {', '.join(ALGORITHMS)}"
            )
    values, sources = _merge([*layers, (f"{config_file}: ", own), ("", given)])
    return make_config(values | ({"method": method.stem} if method else {}), sources)


def plain(suite: str, algorithm: str) -> TrainConfig:
    """An algorithm with the values of a suite alone, as a method that changes nothing has them.

    Raises:
        ConfigError, SuiteError: there is no such suite or algorithm.
    """
    given = {"suite": suite, "algorithm": algorithm}
    return make_config(*_merge([*_of_suite(suite), ("", given)]))


def _of_suite(suite: str) -> list[tuple[str, Flat]]:
    return [(f"{path}: ", read_yaml(path)) for path in suite_files(suite)]


def _merge(layers: list[tuple[str, Flat]]) -> tuple[Flat, dict[str, str]]:
    """The strongest value of each key and where it was read.

    ``ALGORITHM.key`` stands for ``agent.key``, and so does ``key`` alone where no setting of the run has that name.
    A layer that names a choice takes the weaker layers' settings of that choice with it.
    """
    algorithm = str([values["algorithm"] for _, values in layers if "algorithm" in values][-1])
    of_agent = settings_of(settings_class(algorithm))
    merged: Flat = {}
    sources: dict[str, str] = {}
    for source, values in layers:
        layer: Flat = {}
        for key, value in values.items():
            owner, tail = owner_of(key), key.partition(".")[2]
            name = key.partition(".")[0]
            if owner == algorithm:
                layer[f"agent.{tail}"] = value
            elif owner is not None:
                _check_foreign(owner, key, source)
            elif name in of_agent and name not in TrainConfig.__dataclass_fields__:
                layer[f"agent.{key}"] = value
            else:
                layer[key] = value
        for named in [key.removesuffix(".kind") for key in layer]:
            for key in [key for key in merged if f"{key}.".startswith(f"{named}.")]:
                del merged[key], sources[key]
        merged |= layer
        sources |= dict.fromkeys(layer, source)
    return merged, sources


def owner_of(key: str) -> str | None:
    """The algorithm that a key ``ALGORITHM.key`` is a setting of; None for other keys."""
    head, dot, _ = key.replace("-", "_").partition(".")  # the command line has none of the dashes
    named = {name.replace("-", "_"): name for name in ALGORITHMS}
    return named.get(head) if dot else None


def _check_foreign(owner: str, key: str, source: str) -> None:
    """Files and sweeps hold settings of several algorithms; each must at least exist."""
    head, _, tail = key.partition(".")
    known = settings_of(settings_class(owner))
    if tail.partition(".")[0] not in known:
        raise unknown_key(key, [f"{head}.{name}" for name in known], source)
