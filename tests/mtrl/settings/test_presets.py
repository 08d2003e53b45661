from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mtrl import envs
from mtrl.agents import AgentError, MTPPOConfig
from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.curricula.registry import CURRICULA
from mtrl.agents.settings import Registry, values_of
from mtrl.envs import SuiteError
from mtrl.errors import ConfigError
from mtrl.settings.algorithms import ALGORITHMS, settings_class
from mtrl.settings.config import TrainConfig, difference, flatten, make_config, to_yaml
from mtrl.settings.presets import (
    FOLDER,
    method_file,
    methods,
    read_yaml,
    resolve,
    suite_files,
    summary,
)
from tests.helpers.workbench import METHOD
from tests.mtrl.conftest import ShortConfig

FILES = sorted([*FOLDER.glob("families/*.yaml"), *FOLDER.glob("suites/*.yaml")])


def one_of_each() -> list[str]:
    """Every suite, and of the suites of a single task the first of each kind."""
    kinds: dict[str, str] = {}
    for suite in envs.suite_ids():
        kinds.setdefault(suite.partition(":")[0], suite)
    return list(kinds.values())


@pytest.mark.parametrize("suite", one_of_each())
def test_every_suite_resolves_with_every_method(suite: str) -> None:
    for method in methods():
        config = resolve({"suite": suite, "method": method})
        assert make_config(config.flat()) == config


def test_files_hold_differences_only() -> None:
    held = {path: read_yaml(path) for path in FILES}
    assert sum(len(values) for values in held.values()) <= 200
    assert all(len(values) <= 25 for values in held.values())
    suites = [path for path in FILES if path.parent.name == "suites"]
    assert all(len(held[path]) <= 5 for path in suites)
    defaults = {name: flatten(values_of(settings_class(name)())) for name in ALGORITHMS}
    for path in [path for path in FILES if path.parent.name == "families"]:
        for key, value in held[path].items():
            owner, _, name = key.partition(".")
            if owner in defaults:
                assert value != defaults[owner][name], f"{path}: {key} is the default"


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_resolves_and_says_what_it_is(name: str) -> None:
    config = resolve({"suite": "mt10", "method": name})
    assert config.method == name
    overlay = read_yaml(method_file(name))
    assert config.algorithm == overlay["algorithm"]
    for key, value in overlay.items():
        flat = config.flat()
        if key in flat:
            assert flat[key] == value
        else:
            assert flat[f"{key}.kind"] == value.partition(":")[0]
    assert summary(method_file(name)).endswith(".")


def test_one_hot_overlay_beats_the_suite() -> None:
    assert (
        resolve({"suite": "mt10", "method": "mtsac-one-hot"}).flat()["agent.heads"] == "one-hot"
    )


@pytest.mark.parametrize(
    ("suite", "files"),
    [
        ("mt10", ["metaworld"]),
        ("mt50-v1", ["metaworld", "mt50"]),
        ("mt1:reach-v3", ["metaworld", "mt1"]),
        ("mt1-v1:push-v3", ["metaworld", "mt1-v1"]),
        ("mg3", ["minigrid"]),
        ("mg10", ["minigrid", "mg10"]),
        ("mg1:DoorKey-6x6", ["minigrid"]),
        ("babyai1:GoToLocal", ["minigrid", "babyai1"]),
    ],
)
def test_suite_variants_share_files(suite: str, files: list[str]) -> None:
    assert [path.stem for path in suite_files(suite)] == files


def test_single_tasks_of_both_reward_versions_differ_in_the_limit_of_rewards_alone() -> None:
    new, old = read_yaml(FOLDER / "suites/mt1.yaml"), read_yaml(FOLDER / "suites/mt1-v1.yaml")
    assert new == old | {"mtsac.max_reward": 10.0}


def test_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(SuiteError, match="no suite 'mg99'; the nearest id is 'mg"):
        resolve({"suite": "mg99"})


@pytest.mark.parametrize(
    ("suite", "steps"),
    [("mt1:reach-v3", 2_000_000), ("mt10", 20_000_000), ("mt50", 100_000_000)],
)
def test_budgets_are_per_task(suite: str, steps: int) -> None:
    assert resolve({"suite": suite}).total_env_steps == steps
    assert (
        resolve({"suite": suite, "total_env_steps": "10_000/task"}).total_env_steps
        == steps // 200
    )
    assert resolve({"suite": suite, "total_env_steps": "1e4"}).total_env_steps == 10_000


def test_a_choice_takes_its_own_settings() -> None:
    short = resolve({"suite": "mt10", "aggregator": "cagrad:c=0.9"})
    long = resolve({"suite": "mt10", "aggregator.kind": "cagrad", "aggregator.c": "0.9"})
    assert short == long
    flat = short.flat()
    assert (
        flat["agent.aggregator.kind"],
        flat["agent.aggregator.c"],
        flat["agent.aggregator.every"],
    ) == (
        "cagrad",
        0.9,
        1,
    )
    assert (
        resolve({"suite": "mt10", "method": "mtppo-cagrad", "aggregator.c": 0.9}).agent
        == short.agent
    )
    assert (
        resolve({"suite": "mt10", "actor_aggregator": "none"}).flat()["agent.actor_aggregator"]
        is None
    )


def test_another_choice_drops_the_settings_of_the_weaker_layers(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("suite: mt10\nmethod: mtppo\naggregator.kind: cagrad\naggregator.c: 0.9\n")
    assert resolve({}, own).flat()["agent.aggregator.c"] == 0.9
    assert resolve({"aggregator.kind": "mgda"}, own).flat()["agent.aggregator.kind"] == "mgda"
    assert "agent.aggregator.c" not in resolve({"aggregator": "mgda"}, own).flat()


@pytest.mark.parametrize("suite", ["mg3", "camrl-minigrid", "babyai10", "mg1:DoorKey-6x6"])
@pytest.mark.parametrize("method", ["mtppo", "mtppo-reference", "toppo"])
def test_methods_of_ppo_fit_minigrid(suite: str, method: str) -> None:
    config = resolve({"suite": suite, "method": method})
    assert config.agent.rollout_per_task % config.envs_per_task == 0  # type: ignore[attr-defined]
    assert (config.algorithm, config.stagger, config.agent.width) == ("mtppo", False, 128)  # type: ignore[attr-defined]


def test_layers_in_order(faked: None, tmp_path: Path) -> None:
    overlay, own = tmp_path / "mine.yaml", tmp_path / "own.yaml"
    overlay.write_text(
        "algorithm: fake\nagent.learning_rate: 0.5\nlog_every: 7\neval.every: 7\nseed: 7\n"
    )
    own.write_text(f"suite: mt10:fake\nmethod: {overlay}\nlog_every: 8\nseed: 8\n")
    config = resolve({"seed": "9"}, own)
    flat = config.flat()
    assert (flat["method"], flat["agent.learning_rate"], flat["eval.every"]) == ("mine", 0.5, 7)
    assert (flat["log_every"], flat["seed"]) == (8, 9)


def test_written_configuration_reads_back(short_config: ShortConfig, tmp_path: Path) -> None:
    config = short_config(agent__widths="3,4", seed=5, goal_seed=None)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    again = resolve({}, path)
    assert again == config
    assert again.sha256 == config.sha256
    assert difference(yaml.safe_load(path.read_text()), again) is None


def test_digests(short_config: ShortConfig) -> None:
    config = short_config()
    elsewhere = short_config("other")
    assert config.sha256 == elsewhere.sha256
    assert config.run_id == short_config(total_env_steps=900).run_id
    assert config.sha256 != short_config(total_env_steps=900).sha256
    assert config.run_id != short_config(seed=1).run_id
    assert "/" not in config.run_id
    assert ":" not in config.run_id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {b: 1}", "a is nested; write dotted keys, such as a.b"),
        ("- 1", "must hold 'key: value' lines"),
        ("1: 2", "must hold 'key: value' lines"),
        ("a: [", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
        ("algorithm: fake\nlog_evry: 3", "log_evry: unknown setting; did you mean log_every?"),
        (
            "algorithm: fake\nlog_every: often",
            "log_every: 'often' is not a whole number of env steps of at least 1 as N or N/task",
        ),
        ("seed: 1\nseed: 2", "seed stands there twice"),
        (
            "algorithm: fake\nagent.learning_rate: .inf",
            "agent.learning_rate: inf is not a finite number",
        ),
        (
            "algorithm: fake\nagent.learning_rate: .nan",
            "agent.learning_rate: nan is not a finite number",
        ),
        (
            "algorithm: fake\nenvs_per_task: 0",
            "envs_per_task: 0 is not a whole number of at least 1",
        ),
        ("algorithm: fake\ngoals: cycel", "goals: 'cycel' is unknown; did you mean 'cycle'?"),
        ("seed: 1", "algorithm is missing"),
        ("algorithm: nope", "algorithm: 'nope' is unknown"),
    ],
)
def test_bad_preset_files_are_named(faked: None, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve({"suite": "mt10:fake", "method": str(path)})
    assert words in str(caught.value)
    if "algorithm: 'nope'" not in words:
        assert str(path) in str(caught.value)


def test_settings_of_other_algorithms_do_not_leak(faked: None) -> None:
    flat = resolve({"suite": "mt10:fake", "method": METHOD}).flat()
    assert "agent.batch_per_task" not in flat
    assert "fake" in ALGORITHMS


@pytest.mark.parametrize("registry", [AGGREGATORS, CURRICULA], ids=["aggregators", "curricula"])
def test_every_setting_of_a_choice_is_explained(registry: Registry[object]) -> None:
    for name in registry:
        unexplained = [
            key for key, setting in registry.settings(name).items() if not setting.about
        ]
        assert not unexplained, name
        assert registry.entries[name].summary.endswith(".")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"aggregator": "cagard"},
            "agent.aggregator: 'cagard' is unknown; did you mean 'cagrad'?",
        ),
        (
            {"aggregator": "cagrad:cc=3"},
            "agent.aggregator.cc: unknown setting; did you mean 'c'?",
        ),
        ({"aggregator": "cagrad:c"}, "agent.aggregator: 'c' in 'cagrad:c' is not of the form"),
        ({"aggregator": "cagrad:c=x"}, "agent.aggregator.c: 'x' is not a number"),
        ({"aggregator": "cagrad:c=inf"}, "agent.aggregator.c: 'inf' is not a finite number"),
        ({"aggregator": "cagrad:c=-1"}, "agent.aggregator.c=-1.0 is not allowed"),
        ({"aggregator": "mean:every=0"}, "agent.aggregator: k=0 is not allowed"),
        (
            {"aggregator": 3},
            "agent.aggregator: {'kind': 3} is not an aggregator as NAME or NAME:KEY=VALUE",
        ),
        ({"aggregator.c": 3}, "agent.aggregator.c: unknown setting; use one of ema, every"),
        (
            {"actor_aggregator.c": 3},
            "agent.actor_aggregator: {'c': 3} is not an aggregator as NAME or NAME:KEY=VALUE,...",
        ),
        (
            {"actor_aggregator": "famo"},
            "agent.actor_aggregator: 'famo' takes logarithms or ratios",
        ),
        (
            {"curriculum.kind": "mrlc"},
            "agent.curriculum: 'mrlc' is unknown; did you mean 'mrcl'?",
        ),
        ({"mtsac.widht": 3}, "mtsac.widht: unknown setting; did you mean mtsac.width?"),
    ],
)
def test_wrong_choices_get_one_sentence(given: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"suite": "mt10", **given})
    assert words in str(caught.value)


def test_an_algorithm_without_a_method_has_the_values_of_the_suite_alone() -> None:
    plain = resolve({"suite": "mg3", "algorithm": "mtppo"})
    assert (plain.method, plain.agent) == ("mtppo", resolve({"suite": "mg3"}).agent)
    with pytest.raises(ConfigError, match="algorithm: '' is unknown; use one of mtppo, mtsac"):
        make_config({"suite": "mg3"})


def test_a_wrong_value_names_the_file_that_it_stands_in_last(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("suite: mt10\naggregator.kind: cagrad\naggregator.c: -1\nlog_every: 0\n")
    for given, start in (
        ({"log_every": 9}, f"{own}: agent.aggregator.c=-1"),
        ({"log_every": 9, "aggregator.every": 2}, f"{own}: agent.aggregator.c=-1"),
        ({"aggregator": "mean"}, f"{own}: log_every: 0 is not"),
        ({"aggregator": "mean", "log_every": "0"}, "log_every: '0' is not"),
        ({"log_every": 9, "aggregator": "cagrad:c=-2"}, "agent.aggregator.c=-2"),
        ({"log_every": 9, "aggregator": "none"}, "agent.aggregator: 'none' is unknown"),
    ):
        with pytest.raises(ConfigError) as caught:
            resolve(given, own)
        assert str(caught.value).startswith(start)


def test_a_choice_that_is_none_takes_no_settings() -> None:
    given = {"suite": "mt10", "actor_aggregator.c": 0.9, "actor_aggregator": "none"}
    with pytest.raises(
        ConfigError, match=r"agent.actor_aggregator: {'c': 0.9} is not an aggre"
    ):
        resolve(given)


def test_runs_are_configured_in_a_program_too() -> None:
    config = TrainConfig(suite="mt10", algorithm="mtppo", agent={"width": 8})  # type: ignore[arg-type]
    assert config.agent == MTPPOConfig(width=8)
    assert config == make_config({"suite": "mt10", "algorithm": "mtppo", "agent.width": "8"})
    for given, words in (
        ({"agent": {"width": 0}}, "agent.width: 0 is not a whole number of at least 1"),
        ({"agent": 3}, "agent: 3 is not allowed; input should be an instance of AgentConfig"),
        (
            {"agent": {}, "eval": {"every": 0}},
            "eval.every: 0 is not a whole number of env steps of at least 1",
        ),
        ({"agent": {}, "suite": "mt11"}, "There is no suite 'mt11'"),
    ):
        with pytest.raises(AgentError) as caught:
            TrainConfig(**{"suite": "mt10", "algorithm": "mtppo"} | given)  # type: ignore[arg-type]
        assert str(caught.value).startswith(words)


def test_agents_say_the_same_of_their_settings() -> None:
    with pytest.raises(
        AgentError, match=r"aggregator: {'c': 1} is not an aggregator as NAME or NAME:KEY=VALUE"
    ):
        MTPPOConfig(aggregator={"c": 1})  # type: ignore[arg-type]
    with pytest.raises(AgentError, match=r"widht: unknown setting; did you mean 'width'?"):
        MTPPOConfig(widht=3)  # type: ignore[call-arg]
    assert MTPPOConfig(aggregator={"kind": "cagrad", "c": 0.9}).aggregator.kind == "cagrad"  # type: ignore[arg-type]
