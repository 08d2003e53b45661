"""What a user sees: every wrong input is one sentence and exit status 2."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mtrl import cli, evaluate, train, trainer
from mtrl.errors import ConfigError
from mtrl.evaluation.evaluator import make_evaluator
from mtrl.training.checkpoint import newest_first
from tests.helpers.workbench import METHOD

SETTINGS = [
    f"--method={METHOD}",
    "--total-env-steps=90",
    "--checkpoint-every=60",
    "--eval.every=60",
    "--device=cpu",
]
SETTINGS += ["--eval.episodes-per-task=4", "--eval.envs-per-task=2", "--tensorboard=false"]


@pytest.fixture
def run(faked: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A finished run."""
    folder = tmp_path / "run"
    assert train.main(["mt10:fake", f"--run-dir={folder}", *SETTINGS]) == 0
    capsys.readouterr()
    return folder


def complaint(command: str, status: int, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that failed for bad input."""
    assert status == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{command}: ")
    return lines[0].removeprefix(f"{command}: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("mt10:fak", "There is no suite 'mt10:fak'; the nearest id is"),
        ("--seed=1", "suite: none given; `python -m mtrl.train` lists them"),
        ("mt10:fake mt1:fake", "'mt1:fake': one suite at a time"),
        ("mt10:fake --method mtsax", "method: 'mtsax' is unknown; did you mean 'mtsac'?"),
        (
            "mt10:fake --method missing.yaml",
            "missing.yaml: cannot be read (No such file or directory)",
        ),
        ("mt10:fake --metod x", "metod: unknown setting; did you mean method?"),
        (
            "mt10:fake --learning-rat 1",
            "learning_rat: unknown setting; did you mean agent.learning_rate?",
        ),
        (
            "mt10:fake --agent.learning-rat 1",
            "agent.learning_rat: unknown setting; did you mean agent.learning_rate?",
        ),
        (
            "mt10:fake --mtsac.widht 3",
            "mtsac.widht: unknown setting; did you mean mtsac.width?",
        ),
        (
            "mt10:fake --mtsac.width 3",
            "mtsac.width: a setting of mtsac, and this run trains fake; choose a --method",
        ),
        ("mt10:fake --conf x", "conf: unknown setting; did you mean config?"),
        ("mt10:fake --qqq 1", "qqq: unknown setting; --help shows all"),
        ("mt10:fake --seed", "--seed: needs a value, as in --seed=VALUE"),
        ("mt10:fake --seed --log-every=3", "--seed: needs a value"),
        ("mt10:fake --seed x", "seed: 'x' is not a whole number"),
        ("mt10:fake --seed=-1", "seed: '-1' is not a whole number of at least 0"),
        (
            "mt10:fake --total-env-steps=0",
            "total_env_steps: '0' is not a whole number of env steps of at least 1 as N or N/task",
        ),
        (
            "mt10:fake --eval.every=0",
            "eval.every: '0' is not a whole number of env steps of at least 1 as N or N/task",
        ),
        (
            "mt10:fake --eval.every=1/tsk",
            "eval.every: '1/tsk' is not a whole number of env steps of at least 1 as N or N/task",
        ),
        (
            "mt10:fake --num-threads=0",
            "num_threads: '0' is not a whole number of at least 1 or none",
        ),
        ("mt10:fake --goals=fixed", "goals: 'fixed' is unknown; use one of cycle, random"),
        ("mt10:fake --tensorboard=perhaps", "tensorboard: 'perhaps' is not true or false"),
        ("mt10:fake --device=tpu", "device: 'tpu' is unknown; use auto, cpu, cuda or cuda:N"),
        ("mt10:fake --device=cuda:99", "device: 'cuda:99' is not there"),
        (
            "mt10:fake --device=cpu --graph=on",
            "graph: 'on' records CUDA graphs, and the device is cpu; use auto or off, or a GPU",
        ),
        ("mt10:fake --graph=yes", "graph: 'yes' is unknown; use one of auto, off, on"),
        ("mt10:fake --backend=warp", "backend must be one of"),
        ("--resume nowhere", "resume: nowhere is not a run folder (no config.yaml)"),
        ("mt10:fake --config nowhere.yaml", "nowhere.yaml: cannot be read"),
    ],
)
def test_train_refuses(
    faked: None,
    arguments: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = arguments.split()
    method = [] if "--method" in given or "--resume" in given else [f"--method={METHOD}"]
    assert words in complaint("mtrl.train", train.main([*given, *method]), capsys)
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_another_run_of_the_folder(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = train.main(["mt10:fake", f"--run-dir={run}", *SETTINGS, "--seed=1"])
    assert "holds another run: seed is 0 there and 1 here" in complaint(
        "mtrl.train", status, capsys
    )
    status = train.main(["--resume", str(run), "--seed=1"])
    assert "holds another run: seed is 0 there and 1 here" in complaint(
        "mtrl.train", status, capsys
    )


def test_train_refuses_when_every_checkpoint_is_damaged(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in newest_first(run / "checkpoints"):
        (path / "manifest.json").write_text("{")
    status = train.main(["--resume", str(run)])
    assert "manifest.json is truncated" in complaint("mtrl.train", status, capsys)


def test_broken_configuration_in_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "config.yaml").write_text("suite: [")
    assert "config.yaml: is not valid YAML" in complaint(
        "mtrl.train", train.main(["--resume", str(run)]), capsys
    )


def test_resume_of_a_finished_run_and_of_a_longer_one(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--resume", str(run)]) == 0
    assert (
        "finished at 90 env steps; raise total_env_steps to continue it"
        in capsys.readouterr().out
    )
    assert train.main(["--resume", str(run), "--total-env-steps=120"]) == 0
    captured = capsys.readouterr()
    assert "from 90 env steps" in captured.out
    assert "finished: success" in captured.err


def test_run_can_move(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = run.rename(tmp_path / "moved")
    assert train.main(["--resume", str(moved)]) == 0
    assert not run.exists()
    assert f"{moved}: finished" in capsys.readouterr().out


def test_default_folder(faked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["mt10:fake", *SETTINGS, "--seed=3"]) == 0
    assert (tmp_path / "runs/mt10-fake/fake/seed-3/result.json").is_file()


def test_help_knows_the_suite_in_a_file(
    faked: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"suite: mt10:fake\nmethod: {METHOD}\nlog_every: 77\n")
    assert train.main([f"--config={file}", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Settings of mt10:fake with fake:" in shown and "--log-every=77" in shown


def test_lists_and_help(
    faked: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train.main([]) == 0
    overview = capsys.readouterr().out
    for words in (
        "usage: python -m mtrl.train SUITE",
        "mt10:TASK",
        "mtsac-one-hot",
        "one shared head",
    ):
        assert words in overview
    for width in (40, 60, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        assert (
            train.main(["mt10:fake", f"--method={METHOD}", "--agent.widths=3,4", "--help"]) == 0
        )
        text = capsys.readouterr().out
        settings = text.partition("Settings of")[2]
        for words in (
            "--agent.widths=3,4",
            "--eval.every=60000",
            "--run-dir=none",
            "One of random, cycle",
        ):
            assert words in settings
        assert max(map(len, text.splitlines())) <= width


def test_evaluate_prints_a_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert evaluate.main([str(run), "--episodes=6", "--envs-per-task=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("checkpoint at 90 env steps")
    assert lines[1].split() == [
        "task",
        "success",
        "95%",
        "interval",
        "final",
        "step",
        "return",
        "length",
    ]
    assert lines[2].startswith("task-0")
    assert lines[-1].startswith("mean over tasks")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_evaluate_says_how_many_goals_differ_where_episodes_repeat_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fake has 50 goals a task and acts without sampling: 10 of 60 episodes tell nothing new."""
    assert evaluate.main([str(run), "--episodes=50"]) == 0
    assert " - " in capsys.readouterr().out.splitlines()[2]
    assert evaluate.main([str(run), "--episodes=60"]) == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert "of 50 levels" in line and " - " not in line


def test_evaluate_with_a_seed_plays_other_goals(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Returns follow the distance to the goals."""
    tables = []
    for words in ([], ["--seed=7"], ["--seed=8"], ["--seed=7"]):
        assert evaluate.main([str(run), "--episodes=6", *words]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[1] == tables[3]
    assert len(set(tables)) == 3


def test_evaluate_repeats_the_record(run: Path) -> None:
    saved = evaluate.find(run, "60")
    config = evaluate.evaluation_config(saved, {})
    evaluator = make_evaluator(config)
    results = evaluator.evaluate(evaluate.load_agent(config, saved, evaluator))
    recorded = trainer.train(config).get("evaluations")
    assert recorded is not None
    assert {name: vars(result) for name, result in results.items()} == recorded[0]["per_task"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere", "RUN: nowhere is not a run folder (no config.yaml)"),
        ("RUN RUN", "RUN: 2 given; name one run folder"),
        ("--episodes=3", "RUN: 0 given; name one run folder"),
        ("RUN --episode=3", "episode: unknown setting; did you mean episodes?"),
        ("RUN --qqq=3", "qqq: unknown setting; --help shows all"),
        ("RUN --episodes=many", "episodes: 'many' is not a whole number"),
        ("RUN --episodes=0", "eval.episodes_per_task: 0 is not a whole number of at least 1"),
        ("RUN --checkpoint=7", "checkpoint: 7 is not there; the run has 90, 60"),
        ("RUN --device=cuda:99", "device: 'cuda:99' is not there"),
        ("RUN --camera=close", "camera: goes with --video=DIR"),
        ("RUN --tasks=task-0", "tasks: goes with --video=DIR"),
    ],
)
def test_evaluate_refuses(
    run: Path, arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = evaluate.main([str(run) if word == "RUN" else word for word in arguments.split()])
    assert words in complaint("mtrl.evaluate", status, capsys)


def test_evaluate_checks_the_films_before_it_evaluates(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = evaluate.main([str(run), f"--video={tmp_path / 'films'}", "--tasks=task-9"])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.startswith("mtrl.evaluate: tasks: 'task-9' is unknown")
    (tmp_path / "file").touch()
    status = evaluate.main([str(run), f"--video={tmp_path / 'file' / 'films'}"])
    captured = capsys.readouterr()
    assert (status, captured.out) == (1, "")
    assert "cannot be written (Not a directory)" in captured.err


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        warnings.warn("an older one is used", stacklevel=1)
        return 0

    assert cli.run_command("mtrl", body) == 0
    assert capsys.readouterr().err == "warning: an older one is used\n"


def test_evaluate_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([]) == 0
    assert "usage: python -m mtrl.evaluate RUN" in capsys.readouterr().out


def test_evaluate_falls_back_with_a_warning(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (newest_first(run / "checkpoints")[0] / "agent.safetensors").unlink()
    assert evaluate.main([str(run)]) == 0
    captured = capsys.readouterr()
    assert "agent.safetensors cannot be read" in captured.err
    assert "checkpoint at 60 env steps" in captured.out


def test_parse() -> None:
    words, options = cli.parse(["mt10", "--a-b=1", "--agent.c-d", "-2", "--e=", "-h"])
    assert words == ["mt10"]
    assert options == {"a_b": "1", "agent.c_d": "-2", "e": "", "help": True}
    with pytest.raises(ConfigError, match="needs a value"):
        cli.parse(["--last"])


def test_options_of_commands() -> None:
    kinds = {"jobs": int, "ray": str, "dry_run": bool}
    assert cli.parse(["a", "--jobs=3", "--dry-run", "--ray", "3"], kinds) == (
        ["a"],
        {"jobs": 3, "ray": "3", "dry_run": True},
    )
    assert cli.parse(["a", "--job=3", "-h"], kinds) == ([], {"help": True})
    for token, words in (
        ("--jobs=x", "jobs: 'x' is not a whole number"),
        ("--job=3", "job: unknown setting; did you mean jobs?"),
        ("--qqq=3", "qqq: unknown setting; --help shows all"),
    ):
        with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
            cli.parse([token], kinds)


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m mtrl.train mt10 --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: python -m mtrl.train")
    assert done.stderr == "" and done.returncode in (0, 1)
