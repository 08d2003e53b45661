"""``python -m mtrl.train SUITE [--method NAME] [--any.dotted.key=value]``: train an agent, or continue a run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl import cli, envs
from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.curricula.registry import CURRICULA
from mtrl.agents.data.registry import REWARD_SCALES
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.sac.registry import VALUES
from mtrl.agents.settings import Registry
from mtrl.envs.specs import Suite
from mtrl.errors import ConfigError
from mtrl.settings import presets
from mtrl.settings.config import TrainConfig, algorithm_of, explained
from mtrl.threads import spin_briefly
from mtrl.training.allocator import keep_freed_memory
from mtrl.training.console import lasting_streams

USAGE = """usage: python -m mtrl.train SUITE [--method NAME] [--config FILE] [--KEY=VALUE ...]
       python -m mtrl.train FILE.yaml [...]               a suite of your own gymnasium environments
       python -m mtrl.train SUITE --seeds 1,2,3 [...]     seeds of one method together, each in a folder of its own
       python -m mtrl.train --resume RUN[,RUN...] [--total-env-steps=N]
       python -m mtrl.train SUITE --track wandb [...]     copy TensorBoard's points to Weights & Biases
       python -m mtrl.train SUITE --help    every setting, with its value for that suite and method
       python -m mtrl.train --network NAME --help    the settings of a network; so for every other choice by name
       python -m mtrl.train                 suites and methods"""

CHOICES: dict[str, Registry[Any]] = {
    "network": NETWORKS,
    "actor_network": NETWORKS,
    "critic_network": NETWORKS,
    "aggregator": AGGREGATORS,
    "actor_aggregator": AGGREGATORS,
    "critic_aggregator": AGGREGATORS,
    "curriculum": CURRICULA,
    "value": VALUES,
    "reward_scale": REWARD_SCALES,
}
"""Options whose value is a name with settings of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 1 failed, 2 bad input, 128 + signal if interrupted)."""
    spin_briefly()  # before torch is imported
    keep_freed_memory()
    arguments = list(sys.argv[1:] if argv is None else argv)
    with lasting_streams():
        return cli.run_command("mtrl.train", lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    words, options = cli.parse(arguments)
    wants_help = options.pop("help", None) is not None
    if not arguments or (
        wants_help and not words and not {"resume", "config", "suite"} & options.keys()
    ):
        chosen = {key: name for key, name in options.items() if key in CHOICES}
        about = explained_choices(chosen) if chosen else overview()
        print(f"{cli.fitted(USAGE)}\n\n{about}")
        return 0
    tracker = options.pop("track", None)
    configs = read_configs(words, options)
    if wants_help:
        config = configs[0]
        title = f"Settings of {config.suite} with {config.method}:"
        print(f"{cli.fitted(USAGE)}\n\n{title}\n{_settings(config)}")
        return 0
    # Imports torch, which listing and checking settings do without.
    from mtrl.trainer import (
        train_together,
    )
    from mtrl.training.tracking import tracked

    with tracked(tracker, configs):
        train_together(configs, shlex.join(["python", "-m", "mtrl.train", *arguments]))
    return 0


def read_configs(words: list[str], options: dict[str, str]) -> list[TrainConfig]:
    """The configurations that a command line asks for: one, or one for every seed that is to train together.

    With ``seeds`` a ``run_dir`` holds the folders ``seed-N``; ``resume`` may name several folders.

    Raises:
        ConfigError, SuiteError: one sentence about the first thing that is wrong.
    """
    options = dict(options)
    seeds = options.pop("seeds", None)
    resume = options.get("resume", "")
    if seeds is not None:
        for other in ("seed", "resume"):
            if other in options:
                raise ConfigError(f"seeds: does not go with --{other}; give one of them")
        base = options.get("run_dir")
        own = [
            {"seed": seed} | ({"run_dir": str(Path(base) / f"seed-{seed}")} if base else {})
            for seed in _list(seeds)
        ]
        return [read_config(words, options | each) for each in own]
    if "," not in resume or Path(resume).is_dir():
        return [read_config(words, options)]
    configs = [read_config(words, options | {"resume": folder}) for folder in resume.split(",")]
    return _only_seeds_differ(configs)


def _list(seeds: str) -> list[str]:
    """The seeds in ``1,2,3``. Raises ConfigError for anything else."""
    found = [seed.strip() for seed in seeds.split(",")]
    if not all(seed.isascii() and seed.isdecimal() for seed in found):
        raise ConfigError(f"seeds: {seeds!r} is not a list of whole numbers, such as 1,2,3")
    distinct = [str(int(seed)) for seed in found]
    twice = next((seed for seed in distinct if distinct.count(seed) > 1), None)
    if twice is not None:
        raise ConfigError(f"seeds: {twice} is there twice; every seed has one folder")
    return distinct


def _only_seeds_differ(configs: list[TrainConfig]) -> list[TrainConfig]:
    seeds = [config.seed for config in configs]
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise ConfigError(f"resume: seed {twice} is there twice; every seed continues once")
    first = configs[0].flat()
    for config in configs[1:]:
        for key, value in config.flat().items():
            if key not in ("seed", "run_dir") and value != first[key]:
                raise ConfigError(
                    f"resume: {key} is {first[key]!r} in {configs[0].folder} and {value!r} in {config.folder}; "
                    "runs that continue together differ in their seeds only"
                )
    return configs


def read_config(words: list[str], options: dict[str, str]) -> TrainConfig:
    """The configuration that a command line asks for.

    Raises:
        ConfigError, SuiteError: one sentence about the first thing that is wrong.
    """
    given = dict(options)
    if len(words) > 1:
        raise ConfigError(
            f"{words[1]!r}: one suite at a time, and settings are written --key=value"
        )
    if words:
        given["suite"] = words[0]
    config_file = given.pop("config", None)
    resume = given.pop("resume", None)
    if resume is not None:
        if not (Path(resume) / "config.yaml").is_file():
            raise ConfigError(f"resume: {resume} is not a run folder (no config.yaml)")
        config_file, given["run_dir"] = str(Path(resume) / "config.yaml"), resume
    config = presets.resolve(given, Path(config_file) if config_file else None)
    for key in given:
        owner = algorithm_of(key)
        if owner not in (None, config.algorithm):
            raise ConfigError(
                f"{key}: a setting of {owner}, and this run trains {config.algorithm}; choose a --method"
            )
    return config


def overview() -> str:
    """Suites, methods, networks, gradient methods and curricula, one line each."""
    groups: dict[str, list[Suite]] = {}
    for suite_id in envs.suite_ids():
        groups.setdefault(suite_id.partition(":")[0], []).append(envs.get_suite(suite_id))
    parts = {
        "Suites": [_suite_line(name, members) for name, members in groups.items()],
        "Methods (--method NAME)": [
            (name, presets.summary(path)) for name, path in presets.methods().items()
        ],
        "Networks (--network NAME[:KEY=VALUE,...])": _entries(NETWORKS),
        "Gradient methods (--aggregator NAME[:KEY=VALUE,...])": _entries(AGGREGATORS),
        "Curricula (--curriculum NAME[:KEY=VALUE,...])": _entries(CURRICULA),
        "Values of MTSAC's critics (--value NAME[:KEY=VALUE,...])": _entries(VALUES),
        "Scales of MTSAC's rewards (--reward-scale NAME[:KEY=VALUE,...])": _entries(
            REWARD_SCALES
        ),
    }
    return "\n\n".join(
        f"{cli.fitted(f'{title}:')}\n{cli.columns(rows)}" for title, rows in parts.items()
    )


def explained_choices(chosen: dict[str, str]) -> str:
    """The settings that choices bring, with their values, by option.

    Raises AgentError for an unknown name or setting and for a value that is not allowed.
    """
    parts = []
    for key, name in chosen.items():
        registry = CHOICES[key]
        choice, _ = registry.read(name, key)
        title = f"{choice.kind}: {registry.entries[choice.kind].summary}"
        settings = registry.settings(choice.kind)
        known = {f"{key}.{setting}": about for setting, about in settings.items()}
        values = {f"{key}.{setting}": value for setting, value in choice.settings}
        lines = cli.settings_help(known, values) if known else "  no settings of its own"
        parts.append(f"{title}\n{lines}")
    return "\n\n".join(parts)


def _entries(registry: Registry[Any]) -> list[tuple[str, str]]:
    return [(name, entry.summary) for name, entry in registry.entries.items()]


def _suite_line(name: str, members: list[Suite]) -> tuple[str, str]:
    suite = members[0]
    protocol = f"{suite.family}, reward {suite.reward_version}, horizon {suite.horizon}"
    if ":" not in suite.id:
        return name, f"{suite.num_tasks} tasks; {protocol}"
    examples = ", ".join(member.task_names[0] for member in members[:3])
    return f"{name}:TASK", f"one of {len(members)} tasks ({examples}, ...); {protocol}"


def _settings(config: TrainConfig) -> str:
    known = explained(config)
    known.pop("declaration", None)  # no setting to choose: the suite's file says it
    return cli.settings_help(known, config.flat())


if __name__ == "__main__":
    sys.exit(main())
