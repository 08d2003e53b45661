"""Curricula from the command line: runs, resumed runs, the page they leave, and one sentence for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtrl import train
from tests.helpers.fakes import FakeEnv
from tests.helpers.runs import final_record, final_state
from tests.mtrl.test_commands import complaint
from tests.mtrl.training.test_logger import events_of

SMALL = [
    "--width=16",
    "--depth=2",
    "--batch-per-task=8",
    "--buffer-per-task=200",
    "--learning-starts=10",
]
SHORT = [
    "--total-env-steps=360",
    "--checkpoint-every=120",
    "--eval.every=360",
    "--eval.episodes-per-task=2",
]
SHORT += ["--eval.envs-per-task=2", "--device=cpu", "--log-every=60", "--envs-per-task=2"]


def _arguments(run: Path, *more: str) -> list[str]:
    return ["mt10:fake", f"--run-dir={run}", *SMALL, *SHORT, *more]


def test_camrl_runs_resumes_bit_for_bit_and_shows_its_decisions(
    faked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    method = ["--method=camrl", "--curriculum=camrl:round_steps=12,warmup=1"]
    assert train.main(_arguments(whole, *method)) == 0
    step, steps = FakeEnv.step_wait, [0]

    def die(self: FakeEnv) -> object:
        steps[0] += 1
        if steps[0] == 45:
            raise SystemExit("killed")
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(FakeEnv, "step_wait", die)
        with pytest.raises(SystemExit):
            train.main(_arguments(killed, *method))
    assert train.main(_arguments(killed, *method)) == 0
    assert final_state(killed) == final_state(whole)
    assert final_record(killed) == final_record(whole)
    events = events_of(whole)
    assert len(events.Images("curriculum/transfer")) > 3
    shown = (
        "multi_task_mode",
        "indicator_extremes",
        "indicator_youth",
        "indicator_performance",
        "share/task-0",
    )
    assert {f"curriculum/{name}" for name in (*shown, "order/task-2")} <= set(
        events.Tags()["scalars"]
    )
    assert final_record(whole)["method"]["curriculum"] == "camrl:round_steps=12,warmup=1"


@pytest.mark.parametrize(
    "method",
    ["single-task", "camrl-shared", "mrcl", "camrl-ppo", "single-task-ppo", "mrcl-ppo"],
)
def test_the_shipped_methods_run(faked: None, tmp_path: Path, method: str) -> None:
    sizes = (
        ["--width=16", "--rollout-per-task=40", "--minibatches=4"]
        if method.endswith("ppo")
        else SMALL
    )
    arguments = [
        "mt10:fake",
        f"--run-dir={tmp_path / 'run'}",
        *sizes,
        *SHORT,
        "--tensorboard=false",
    ]
    assert (
        train.main(
            [*arguments, f"--method={method}", "--total-env-steps=240", "--envs-per-task=2"]
        )
        == 0
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--curriculum=camr"], "curriculum: 'camr' is unknown; did you mean 'camrl'?"),
        (
            ["--curriculum=camrl"],
            "curriculum: 'camrl' does not fit heads=multi-head; use heads=separate",
        ),
        (
            ["--heads=separate", "--curriculum=camrl:prior=task-0/tsk-1"],
            "prior: 'tsk-1' is unknown; did you mean",
        ),
        (
            ["--heads=separate", "--aggregator=pcgrad"],
            "aggregator: 'pcgrad' has no shared gradient",
        ),
        (
            ["--curriculum=mrcl:windw=3"],
            "curriculum.windw: unknown setting; did you mean 'window'?",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(
    faked: None,
    tmp_path: Path,
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = train.main(_arguments(tmp_path / "run", "--method=mtsac", *more))
    assert message in complaint("mtrl.train", status, capsys)
