"""``mtrl tune`` with the fake suites and agent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtrl.commands import tune
from mtrl.records.results import read_result, success_mean
from mtrl.tuning import search as searching
from mtrl.tuning.spec import Range, read_tune_spec
from tests.helpers.workbench import METHOD
from tests.mtrl.test_commands import complaint

SPEC = f"""
suite: mt10:fake
method: {METHOD}
total_env_steps: 240
seeds: [1, 2]
trials: 2
settings: {{eval.every: 60, checkpoint_every: 120, eval.episodes_per_task: 2, eval.envs_per_task: 2,
  tensorboard: false, device: cpu}}
space:
  agent.learning_rate: {{low: 1e-3, high: 1e-1, log: true}}
  agent.widths: ["8,8", "4,4"]
"""


@pytest.fixture
def file(faked: None, tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC)
    return path


def test_the_file_is_read(file: Path) -> None:
    spec = read_tune_spec(file)
    assert (spec.name, spec.seeds, spec.trials) == ("mine", (1, 2), 2)
    assert spec.space["agent.learning_rate"] == Range(1e-3, 1e-1, log=True)
    config = spec.config({"agent.learning_rate": 0.02}, 2, Path("x"))
    assert (config.seed, config.agent.learning_rate, config.eval.every) == (2, 0.02, 60)  # type: ignore[attr-defined]


def test_trials_train_every_seed_and_the_journal_goes_on(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    folder = tmp_path / "tuning"
    assert tune.main([str(file), f"--folder={folder}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    trials = [line for line in lines if line.startswith("trial ")]
    assert len(trials) == 2 and "agent.learning_rate=" in trials[0]
    means = []
    for trial in (0, 1):
        records = [
            read_result(folder / f"trial-{trial}" / f"seed-{s}" / "result.json") for s in (1, 2)
        ]
        rates = [success_mean(record["evaluations"][-1]["per_task"]) for record in records]
        means.append(sum(rates) / 2)
        assert f"success {means[-1]:.3f}" in trials[trial]
    assert f"success {max(means):.3f}" in lines[-2] and lines[-1].startswith(
        "mtrl train mt10:fake"
    )
    file.write_text(SPEC.replace("trials: 2", "trials: 3"))
    assert tune.main([str(file), f"--folder={folder}"]) == 0
    said = capsys.readouterr().out
    assert (
        said.count("\ntrial ") + said.startswith("trial ") == 1
        and (folder / "trial-2").is_dir()
    )


def test_pruning_stops_a_trial(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna = pytest.importorskip("optuna")
    monkeypatch.setattr(
        optuna.pruners,
        "MedianPruner",
        lambda *rest, **how: optuna.pruners.ThresholdPruner(lower=2.0),
    )
    study = searching.search(read_tune_spec(file), tmp_path / "tuning", say=lambda line: None)
    assert {trial.state.name for trial in study.trials} == {"PRUNED"}
    for trial in study.trials:
        record = read_result(
            tmp_path / "tuning" / f"trial-{trial.number}" / "seed-1" / "result.json"
        )
        assert len(record["evaluations"]) < 4
        assert list(trial.intermediate_values) == [0]


def test_evaluations_are_reported_once_all_seeds_have_them(tmp_path: Path, file: Path) -> None:
    from mtrl.trainer import train_together

    spec, reported = read_tune_spec(file), []  # type: ignore[var-annotated]
    configs = [spec.config({}, seed, tmp_path / f"seed-{seed}") for seed in spec.seeds]
    trial: Any = SimpleNamespace(
        report=lambda value, step: reported.append((step, value)), should_prune=lambda: False
    )
    watched = searching.Watched(trial, configs)
    assert not watched.should_stop() and reported == []
    records = train_together(configs)
    assert not watched.should_stop()
    expected = [
        sum(success_mean(record["evaluations"][i]["per_task"]) for record in records) / 2
        for i in range(4)
    ]
    assert [step for step, _ in reported] == [0, 1, 2, 3]
    assert [value for _, value in reported] == pytest.approx(expected)
    watched.should_stop()
    assert len(reported) == 4


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("suite: mt10:fake", "suit: mt10:fake", "suit: unknown key; did you mean suite?"),
        ("space:", "spaces:", "spaces: unknown key; did you mean space?"),
        ("seeds: [1, 2]", "seeds: 3", "seeds: 3 is not a list of whole numbers"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "seeds: [1, 1] has a seed twice"),
        ("settings: {", "settings: [{", "settings: [{"),
        ("trials: 2", "trials: 2\nsampler_seed: x", "sampler_seed: 'x' is not a whole number"),
        ("high: 1e-1,", "high: 1e-1, step: 0.1,", "step must be above 0, and goes without log"),
        ("trials: 2", "trials: 0", "trials: 0 is not a whole number of at least 1"),
        ("low: 1e-3", "low: 1", "low must be below high, and above 0 with log"),
        ("low: 1e-3", "lowest: 1e-3", "is neither a list of choices nor low and high"),
        ("low: 1e-3", "low: much", "'much' is not a number"),
        ("agent.learning_rate", "agent.learning_rat", "did you mean agent.learning_rate?"),
        ('"4,4"', '"4,x"', "agent.widths: "),
    ],
)
def test_refuses(
    file: Path, old: str, new: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SPEC.replace(old, new)
    file.write_text(text.replace("device: cpu}", "device: cpu}]") if "[{" in new else text)
    assert words in complaint("mtrl tune", tune.main([str(file)]), capsys)


def test_refuses_what_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.yaml: cannot be read" in complaint(
        "mtrl tune", tune.main(["nowhere.yaml"]), capsys
    )
    assert "SPEC: 2 given" in complaint("mtrl tune", tune.main(["a", "b"]), capsys)
