"""Presets: what a family of suites, a suite and a method change of the defaults, merged in a fixed order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mtrl import configs, envs
from mtrl.errors import ConfigError
from mtrl.settings.algorithms import ALGORITHMS
from mtrl.settings.config import TrainConfig, make_config, run_settings, unknown, unknown_key
from mtrl.settings.fields import Flat, choice_of

FOLDER = Path(configs.__file__).parent
Values = Flat
_OPTIONS_OF_COMMANDS = ("config", "resume", "seeds")


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice; YAML itself would keep the last value in silence."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.YAMLError(f"{key} stands there twice")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(text: str) -> Any:
    """What a YAML text holds; no key may stand twice. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> Values:
    """A flat YAML file of dotted keys.

    Raises:
        ConfigError: the file is missing, not YAML, or not flat, or a key stands there twice.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8-sig"))
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


def resolve(given: Values, config_file: Path | None = None) -> TrainConfig:
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
    layers = [(f"{path}: ", read_yaml(path)) for path in suite_files(str(suite))]
    # A written configuration holds the method's values already, so its method may be one that has moved.
    complete = "algorithm" in own and "method" not in given
    if complete:
        layers.append(("", {"method": own.get("method", TrainConfig.method)}))
    else:
        named = str(given.get("method", own.get("method", TrainConfig.method)))
        path = method_file(named)
        values = read_yaml(path)
        if "algorithm" not in values:
            raise ConfigError(
                f"{path}: algorithm is missing; a method names one of {', '.join(ALGORITHMS)}"
            )
        layers.append((f"{path}: ", values | {"method": path.stem}))
        own.pop("method", None)
        given = {key: value for key, value in given.items() if key != "method"}
    if config_file:
        layers.append((f"{config_file}: ", own))
    return make_config(*_merge([*layers, ("", given)]))


def plain(suite: str, algorithm: str) -> TrainConfig:
    """An algorithm with the values of a suite alone, as a method that changes nothing has them.

    Raises:
        ConfigError, SuiteError: there is no such suite or algorithm.
    """
    layers = [(f"{path}: ", read_yaml(path)) for path in suite_files(suite)]
    return make_config(*_merge([*layers, ("", {"suite": suite, "algorithm": algorithm})]))


def _merge(layers: list[tuple[str, Values]]) -> tuple[Values, dict[str, str]]:
    """The strongest value of each key and where it was read.

    ``ALGORITHM.key`` stands for ``agent.key``, and so does ``key`` alone where no setting of the run has that name.
    A layer that names another choice takes the weaker layers' settings of that choice with it.
    """
    algorithm = str(
        next(values["algorithm"] for _, values in reversed(layers) if "algorithm" in values)
    )
    known = run_settings(algorithm)
    merged: Values = {}
    sources: dict[str, str] = {}
    for source, values in layers:
        layer: Values = {}
        for key, value in values.items():
            owner, tail = owner_of(key), key.partition(".")[2]
            if owner not in (None, algorithm):
                _check_foreign(str(owner), key, tail, source)
                continue
            layer[_full_key(tail if owner else key, owner is not None, known)] = value
        for choice in {key.removesuffix(".kind") for key in layer if _names_choice(key, known)}:
            for key in [key for key in merged if key == choice or key.startswith(f"{choice}.")]:
                del merged[key], sources[key]
        merged |= layer
        sources |= dict.fromkeys(layer, source)
    return merged, sources


def _full_key(key: str, of_agent: bool, known: Values) -> str:
    """``agent.key`` for a setting of the agent that was written without the prefix."""
    head = key.partition(".")[0]
    if of_agent or (
        key not in known and f"agent.{head}" in known and head not in known and head != "agent"
    ):
        return f"agent.{key}"
    return key


def _names_choice(key: str, known: Values) -> bool:
    """Whether ``key`` is a choice in its short form, or its kind."""
    return choice_of(f"{key}.", known) == key or (
        key.endswith(".kind") and choice_of(key, known) is not None
    )


def owner_of(key: str) -> str | None:
    """The algorithm that a key ``ALGORITHM.key`` is a setting of; None for other keys."""
    head, dot, _ = key.partition(".")
    named = {name.replace("-", "_"): name for name in ALGORITHMS}
    return (
        named.get(head.replace("-", "_")) if dot else None
    )  # dashes of the command line arrive as underscores


def _check_foreign(owner: str, key: str, tail: str, source: str) -> None:
    """Files and sweeps hold settings of several algorithms; each must at least exist."""
    settings = run_settings(owner)
    if f"agent.{tail}" not in settings and choice_of(f"agent.{tail}", settings) is None:
        head = key.partition(".")[0]
        own = {
            f"{head}.{name.removeprefix('agent.')}": s
            for name, s in settings.items()
            if name.startswith("agent.")
        }
        raise unknown_key(key, source, own)
