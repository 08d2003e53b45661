from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mtrl import agents
from mtrl.config import difference, run_settings, to_yaml
from mtrl.errors import ConfigError
from mtrl.presets import FOLDER, method_file, methods, read_yaml, resolve, suite_preset, summary
from tests.helpers.workbench import METHOD
from tests.mtrl.conftest import ShortConfig

SINGLE = {"mt1": "reach-v3", "mt1-v1": "reach-v3", "mg1": "DoorKey-6x6", "babyai1": "GoToLocal"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_suite_presets_are_complete_flat_and_valid(path: Path) -> None:
    preset = read_yaml(path)
    suite = f"{path.stem}:{SINGLE[path.stem]}" if path.stem in SINGLE else path.stem
    algorithms = [name for name in agents.AGENTS if any(key.startswith(f"{name}.") for key in preset)]
    assert algorithms
    for algorithm in algorithms:
        others = tuple(f"{name}." for name in algorithms if name != algorithm)
        given = {k.replace(f"{algorithm}.", "agent."): v for k, v in preset.items() if not k.startswith(others)}
        assert set(run_settings(algorithm)) - set(given) == {"suite", "algorithm"}
        config = resolve({"suite": suite, "algorithm": algorithm})
        overlay = {k: v for k, v in read_yaml(method_file(config.method)).items() if k != "algorithm"}
        assert {k: v for k, v in config.flat().items() if k in given} == given | {"method": config.method} | overlay


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_resolves_and_says_what_it_is(name: str) -> None:
    config = resolve({"suite": "mt10", "method": name})
    assert config.method == name
    overlay = read_yaml(method_file(name))
    assert config.algorithm == overlay.pop("algorithm")
    assert overlay.items() <= config.flat().items()
    assert summary(method_file(name)).endswith(".")


def test_one_hot_overlay_beats_the_suite() -> None:
    assert resolve({"suite": "mt10", "method": "mtsac-one-hot"}).flat()["agent.heads"] == "one-hot"


@pytest.mark.parametrize(
    ("suite", "preset"),
    [
        ("mt10", "mt10"),
        ("mt10-v1", "mt10"),
        ("mt1:reach-v3", "mt1"),
        ("mt1-v1:push-v3", "mt1-v1"),
        ("mg10", "mg10"),
        ("mg1:DoorKey-6x6", "mg1"),
        ("babyai1:GoToLocal", "babyai1"),
    ],
)
def test_suite_variants_share_a_preset(suite: str, preset: str) -> None:
    assert suite_preset(suite).stem == preset


def test_single_tasks_of_both_reward_versions_differ_in_the_limit_of_rewards_alone() -> None:
    new, old = read_yaml(suite_preset("mt1:push-v3")), read_yaml(suite_preset("mt1-v1:push-v3"))
    assert new.items() - old.items() == {("mtsac.max_reward", 10.0)}
    assert old.items() - new.items() == {("mtsac.max_reward", None)}


def test_no_preset_for_a_suite() -> None:
    words = r"mg99 can be built with envs.make_vec, .* train on one of .*mg10, .*mt1, mt10"
    with pytest.raises(ConfigError, match=words):
        suite_preset("mg99")


@pytest.mark.parametrize("suite", ["mg3", "camrl-minigrid", "babyai10", "mg1:DoorKey-6x6"])
@pytest.mark.parametrize("method", ["mtppo", "mtppo-reference", "toppo"])
def test_methods_of_ppo_fit_minigrid(suite: str, method: str) -> None:
    config = resolve({"suite": suite, "method": method})
    assert config.agent.rollout_per_task % config.envs_per_task == 0  # type: ignore[attr-defined]
    assert (config.algorithm, config.stagger, config.agent.width) == ("mtppo", False, 128)  # type: ignore[attr-defined]


def test_layers_in_order(faked: None, tmp_path: Path) -> None:
    overlay, own = tmp_path / "mine.yaml", tmp_path / "own.yaml"
    overlay.write_text("algorithm: fake\nagent.learning_rate: 0.5\nlog_every: 7\neval.every: 7\nseed: 7\n")
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
        ("algorithm: fake\nlog_every: often", "log_every: 'often' is not a whole number"),
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
    assert "fake" in agents.AGENTS
