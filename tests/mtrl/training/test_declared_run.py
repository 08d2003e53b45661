"""The promises of the workbench on a declared suite, whose file is gone once training has begun."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mtrl import evaluate, train
from mtrl.__main__ import main
from mtrl.agents import MTPPO
from mtrl.analysis.compare import read_side, report
from mtrl.envs import suites
from mtrl.evaluation.evaluator import make_evaluator
from mtrl.evaluation.video import film
from mtrl.leaderboard import __main__ as leaderboard
from mtrl.leaderboard.page import measures
from mtrl.leaderboard.runs import load
from mtrl.leaderboard.tables import tables
from mtrl.records import rows
from mtrl.records.results import problems, read_result
from mtrl.sharing.loading import load_trained
from mtrl.sharing.pack import pack
from mtrl.sweeps.spec import read_spec
from tests.helpers.classic import CLASSIC3, SWINGS, cartpole, written
from tests.helpers.runs import final_record, final_state

SETTINGS = [
    "--device=cpu", "--torch-threads=1", "--tensorboard=false", "--envs-per-task=2", "--total-env-steps=1152",
    "--log-every=192", "--checkpoint-every=384", "--eval.every=576", "--eval.episodes-per-task=2",
    "--agent.width=16", "--agent.rollout-per-task=64", "--agent.minibatches=2", "--agent.epochs=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of classic3, for which the file has been removed, below a folder of results."""
    folder = tmp_path_factory.mktemp("declared")
    file = shutil.copy(CLASSIC3, folder / "mine.yaml")
    assert train.main([str(file), f"--run-dir={folder / 'whole'}", *SETTINGS]) == 0
    Path(file).unlink()
    return folder / "whole"


@pytest.fixture(autouse=True)
def forgetful(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins as in a process that has never read a declaration."""
    monkeypatch.setattr(suites, "_declared", {})
    rows._idle.cache_clear()
    rows._reference.cache_clear()


def results_of(run: Path, folder: Path) -> Path:
    """A folder of results that holds the run's file at its place."""
    record = json.loads((run / "result.json").read_text())
    place = folder / rows.place(record["method"]["params"])
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(run / "result.json", place)
    return folder


def test_the_record_carries_the_declaration(whole: Path) -> None:
    record = read_result(whole / "result.json")
    suite = suites.get_suite(record["protocol"]["suite"])
    assert suite.id.startswith("classic3@") and suite.num_tasks == 3
    assert record["method"]["params"]["declaration"] == suite.declaration
    assert record["protocol"]["tasks"] == list(suite.task_names)
    assert record["protocol"]["backend"] == "gymnasium"
    assert "every checkpoint starts new ones" in record["protocol"]["goals"]
    assert "gymnasium" in record["provenance"]["packages"]


def test_killed_and_resumed_is_bit_identical_and_says_how(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    advance, run = MTPPO.advance, tmp_path / "killed"
    file = shutil.copy(CLASSIC3, tmp_path / "mine.yaml")

    def die(self: MTPPO) -> Any:
        if self.env_steps >= 768:
            raise SystemExit("killed")
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(MTPPO, "advance", die)
        with pytest.raises(SystemExit, match="killed"):
            train.main([str(file), f"--run-dir={run}", *SETTINGS])
    Path(file).unlink()
    monkeypatch.setattr(suites, "_declared", {})
    capsys.readouterr()
    assert train.main(["--resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert (
        "episodes in progress cannot be saved in backend gymnasium, so every checkpoint" in said
    )
    assert final_state(run) == final_state(whole)
    assert final_record(run) == final_record(whole)


def test_evaluation_needs_the_run_folder_alone(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(whole)]) == 0
    shown = capsys.readouterr().out
    for name in ("CartPole-v1", "mean over tasks", "mean over balance", "mean over swing-up"):
        assert f"\n{name} " in shown
    suites._declared.clear()
    saved = evaluate.find(whole)
    config = evaluate.evaluation_config(saved, {})
    evaluator = make_evaluator(config)
    results = evaluator.evaluate(evaluate.load_agent(config, saved, evaluator))
    recorded = read_result(whole / "result.json")["evaluations"][-1]["per_task"]
    assert {name: vars(result) for name, result in results.items()} == recorded
    assert evaluator.distinct_levels is None


def test_films_and_agents_need_the_run_folder_alone(whole: Path, tmp_path: Path) -> None:
    config, agent = load_trained(whole)
    files = film(config, agent, tmp_path / "films", ["CartPole-v1", "MountainCar-v0"])
    assert [file.stem for file in files] == ["CartPole-v1", "MountainCar-v0", "all-tasks"]


def test_a_shared_agent_brings_the_suite_along(whole: Path, tmp_path: Path) -> None:
    card = (pack(whole, tmp_path / "shared") / "README.md").read_text()
    assert 'make_vec("suite.yaml", goal_seed=0)' in card
    file = tmp_path / "suite.yaml"
    file.write_text(card.partition("```yaml\n")[2].partition("```")[0])
    suites._declared.clear()
    assert (
        suites.get_suite(str(file)).id
        == read_result(whole / "result.json")["protocol"]["suite"]
    )


def test_the_leaderboard_needs_the_result_file_alone(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = results_of(whole, tmp_path / "results")
    found, omitted = load(results, results / "leaderboard")
    assert omitted == []
    (table,) = tables(found)
    assert table.rows[0].label.startswith("mtppo")
    assert "seeds training never has" in measures(table)
    assert list(table.packages) == ["gymnasium"]
    suites._declared.clear()
    out = tmp_path / "page"
    assert leaderboard.main(["build", str(results), f"--out={out}"]) == 0
    assert "classic3@" in (out / "index.html").read_text()
    suites._declared.clear()
    assert leaderboard.main(["verify", str(whole / "result.json")]) == 0
    assert "equal in every count" in capsys.readouterr().out


def test_plot_and_compare_need_the_result_file_alone(whole: Path, tmp_path: Path) -> None:
    assert main(["plot", str(whole), "--out", str(tmp_path / "curves.svg")]) == 0
    suites._declared.clear()
    side = read_side("A", whole)
    assert "The settings are the same." in report(side, side)


def test_a_record_whose_declaration_is_of_another_suite_is_refused(
    whole: Path, tmp_path: Path
) -> None:
    record = json.loads((whole / "result.json").read_text())
    record["protocol"]["suite"] = "classic3@00000000"
    (sentence,) = problems(record)
    assert sentence.startswith("method.params.declaration: is of suite classic3@")
    record["method"]["params"]["declaration"] = "{}"
    assert problems(record) == ["method.params.declaration: name: is missing; it is a name of at "
                                "most 80 letters, digits, dots, dashes and underscores."]  # fmt: skip
    del record["method"]["params"]["declaration"]
    path = tmp_path / "seed-0.json"
    path.write_text(json.dumps(record))
    _, (omission,) = load(tmp_path, tmp_path / "page")
    assert omission.reason == "protocol.suite: there is no suite 'classic3@00000000'"


def test_a_changed_file_is_another_suite(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "mine.yaml"
    changed.write_text(CLASSIC3.read_text().replace("475", "195"))
    assert train.main([str(changed), f"--run-dir={whole}", *SETTINGS]) == 2
    assert "holds another run: suite is 'classic3@" in capsys.readouterr().err
    run = tmp_path / "other"
    assert train.main([str(changed), f"--run-dir={run}", *SETTINGS[:-2]]) == 0
    results = results_of(run, results_of(whole, tmp_path / "results"))
    found, _ = load(results, results / "leaderboard")
    assert len(tables(found)) == 2


def test_help_shows_the_settings_of_the_file_s_suite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train.main([str(CLASSIC3), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Settings of classic3@" in shown and "--total-env-steps=600000" in shown
    assert "--agent.rollout-per-task=1000" in shown and "--declaration" not in shown


BAD: dict[str, tuple[Any, str]] = {
    "unknown id": ({"name": "a", "tasks": [cartpole(id="CartPol-v1")]}, "did you mean 'CartPole-v1'?"),
    "missing key": ({"name": "a", "tasks": [{"id": "CartPole-v1"}]}, "tasks[0].success: is missing; it is"),
    "misspelled key": ({"name": "a", "tasks": [cartpole(sucess=1)]}, "did you mean success?"),
    "mixed actions": ({"name": "a", "tasks": [cartpole(), *SWINGS["tasks"]]}, "all tasks of a suite have actions of"),
    "horizon 0": ({"name": "a", "tasks": [cartpole(horizon=0)]}, "0 is not a whole number of steps from 1"),
    "one name twice": ({"name": "a", "tasks": [cartpole(), cartpole()]}, "give each task a name of its own"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_ends_with_one_sentence_and_writes_nothing(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    declaration, expected = BAD[case]
    file = written(tmp_path, declaration)
    monkeypatch.chdir(tmp_path)
    assert train.main([file, *SETTINGS]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"mtrl.train: {file}: ") and expected in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["suite.yaml"]


SAC = [
    *SETTINGS[:4], "--method=mtsac", "--width=8", "--learning-starts=20", "--batch-per-task=4", "--buffer-per-task=50",
    "--eval.episodes-per-task=1", "--eval.envs-per-task=1",
]  # fmt: skip


def test_continuous_suites_train_too(tmp_path: Path) -> None:
    file = written(tmp_path, SWINGS)
    for method, settings in (("mtppo", SETTINGS), ("mtsac", [*SAC, "--total-env-steps=80"])):
        run = tmp_path / method
        assert train.main([file, f"--method={method}", f"--run-dir={run}", *settings]) == 0
        record = read_result(run / "result.json")
        assert list(record["evaluations"][-1]["per_task"]) == [
            "Pendulum-v1",
            "MountainCarContinuous-v0",
        ]


def test_of_the_sacs_only_ours_takes_discrete_actions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, {"name": "a", "tasks": [cartpole(horizon=9)]})
    assert train.main([file, f"--run-dir={tmp_path / 'a'}", *SAC, "--total-env-steps=60"]) == 0
    capsys.readouterr()
    run = tmp_path / "b"
    assert train.main([file, "--method=sb3-sac", f"--run-dir={run}", "--device=cpu"]) == 2
    assert "has discrete actions; sb3-sac needs a bounded Box" in capsys.readouterr().err
    assert not run.exists()


def test_a_sweep_names_files_from_its_own_folder(tmp_path: Path) -> None:
    shutil.copy(CLASSIC3, tmp_path / "mine.yaml")
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        "suites: [mine.yaml, mg3]\nmethods: [mtppo]\nseeds: 2\n"
        "total_env_steps: {mine.yaml: 900, mg3: 600}\n"
    )
    spec = read_spec(sweep)
    assert [unit.config.total_env_steps for unit in spec.units] == [900, 600, 900, 600]
    first = spec.units[0]
    assert first.arguments[0] == str(tmp_path / "mine.yaml")
    assert first.config.suite.startswith("classic3@")
    assert first.result.parts[1] == first.config.suite
