"""The table of logged names equals what runs log."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.curricula.registry import CURRICULA
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.settings import Entry
from mtrl.envs import get_suite
from mtrl.settings import presets
from mtrl.trainer import train
from scripts.pages.metrics import METRICS, features_of, metrics_of, tags_of

TINY = {
    "total_env_steps": 480,
    "envs_per_task": 2,
    "eval.every": 480,
    "eval.episodes_per_task": 2,
}
TINY |= {
    "eval.envs_per_task": 2,
    "log_every": 240,
    "torch_threads": 1,
    "num_threads": 1,
    "device": "cpu",
}
OF_ALGORITHM = {
    "mtppo": {
        "agent.width": 8,
        "agent.rollout_per_task": 20,
        "agent.minibatches": 1,
        "agent.epochs": 1,
    },
    "mtsac": {
        "agent.width": 8,
        "agent.learning_starts": 20,
        "agent.batch_per_task": 8,
        "agent.buffer_per_task": 200,
    },
    "sb3-ppo": {"agent.n_steps": 20, "agent.net_arch": (8,)},
    "sb3-sac": {"agent.net_arch": (8,), "agent.buffer_size": 1_000},
}
OF_EPISODES = {
    "rollout/ep_rew_mean",
    "rollout/ep_len_mean",
    "rollout/success_rate",
    "task <task>/rollout_success",
}
OF_COUPLING = {
    f"{prefix}{network}_{norm}_norm"
    for prefix in ("train/", "task <task>/train_")
    for network in ("actor", "critic")
    for norm in ("pull", "unpulled")
}
# Between them, these log every name there is.
CASES = [
    "mg3 mtppo",
    "mg3 mtsac",
    "mg3 mtsac aggregator=cagrad gradient_diagnostics=true",
    "mg3 mtppo aggregator=cagrad:flat_minima=0.05",
    "mg3 mtppo aggregator=cagrad:look_ahead=0.05 replay=prioritised sample_weighting=rmtl",
    "mg3 mtppo critic_aggregator=famo",
    "mg3 mtsac critic_aggregator=pcgrad:free=1",
    "mg3 mtppo network=changing",
    "mg3 mtppo network=ltb",
    "mg3 mtsac network=mtl-lora",
    "mg3 single-task-ppo",
    "mg3 camrl",
    "mg3 camrl-ppo curriculum=camrl:warmup=0,switch=false",
    "mg3 camrl-shared curriculum=camrl-shared:warmup=0,switch=false",
    "mg3 mtppo-paced",
    "mg3 son-goku",
    "mg3 mtppo curriculum=mrcl",
    "mg3 mtppo curriculum=learning-progress",
    "mg3 mtppo curriculum=competence-progress",
    "mg3 mtppo curriculum=drats",
    "mg3 mtppo curriculum=task-grouping",
    "mt1:reach-v3 sb3-ppo",
    "mt1:reach-v3 sb3-sac",
]
SLOW = [
    f"mg3 {name}" for name in presets.methods() if name not in ("camrl-ppo-prior", "sb3-sac")
]
SLOW += [f"mg3 mtppo critic_aggregator={name}" for name in AGGREGATORS]
SLOW += ["mg3 mtsac curriculum=success-focal", "mg3 mtppo-pcgrad gradient_diagnostics=true"]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that masks tasks."""
    entry = Entry("tests.agents.networks.test_changes:Changing", "Masks tasks.")
    monkeypatch.setitem(NETWORKS.entries, "changing", entry)


def config_of(case: str, folder: Path) -> presets.TrainConfig:
    suite, method, *extra = case.split()
    algorithm = str(presets.read_yaml(presets.method_file(method))["algorithm"])
    given = (
        {"suite": suite, "method": method, "run_dir": str(folder)}
        | TINY
        | OF_ALGORITHM[algorithm]
    )
    given |= {f"agent.{key}": value for key, value in (item.split("=", 1) for item in extra)}
    return presets.resolve(given)


def logged(folder: Path, tasks: tuple[str, ...]) -> set[str]:
    """Names in TensorBoard's file, ``<task>`` for any task's name."""
    events = EventAccumulator(
        str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}
    )
    events.Reload()
    names = set()
    for tag in [*events.Tags()["scalars"], *events.Tags()["images"]]:
        for task in tasks:
            tag = tag.replace(f"task {task}/", "task <task>/").replace(f"/{task}", "/<task>")
        if tag.startswith("network/"):
            tag = re.sub(r"_\d+$", "_<layer>", tag)
        names.add(tag)
    return names


def compare(case: str, folder: Path) -> None:
    config = config_of(case, folder)
    train(config)
    suite = get_suite(config.suite)
    features = features_of(config, suite.discrete)
    expected, names = tags_of(features), logged(config.folder, suite.task_names)
    if not names & OF_EPISODES:  # no training episode ended in so short a run
        assert config.algorithm.startswith("sb3") or not suite.discrete
        expected -= OF_EPISODES
    if "warmup=0" not in case:  # too short for a coupled round
        expected -= OF_COUPLING
    assert names == expected


@pytest.mark.parametrize("case", CASES)
def test_a_run_logs_the_names_in_the_table(case: str, tmp_path: Path) -> None:
    compare(case, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_every_preset_logs_the_names_in_the_table(case: str, tmp_path: Path) -> None:
    compare(case, tmp_path / "run")


def test_short_runs_cover_the_table(tmp_path: Path) -> None:
    covered = set()
    for case in CASES:
        config = config_of(case, tmp_path)
        covered |= {
            id(metric)
            for metric in metrics_of(features_of(config, get_suite(config.suite).discrete))
        }
    # That networks show what they declare is tested for each of them, and that agents log it here for two.
    uncovered = [metric.key for metric in METRICS if id(metric) not in covered]
    assert [key for key in uncovered if not key.startswith("network/")] == []
    assert len(uncovered) < len(METRICS) / 4
    assert all(metric.meaning.endswith(".") for metric in METRICS)
    assert CURRICULA and len({(metric.key, metric.condition) for metric in METRICS}) == len(
        METRICS
    )
