"""What is said at the start of a run."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import pytest

from mtrl import make_vec
from mtrl.agents import MTPPO
from mtrl.settings.presets import resolve
from mtrl.trainer import train
from mtrl.training import expected, progress
from mtrl.training.card import run_card
from tests.mtrl.conftest import ShortConfig


def test_card_of_a_real_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    config = resolve({"suite": "mg3", "seed": 4, "agent.width": 16, "device": "cpu"})
    env = make_vec("mg3", 2, seed=4)
    agent = MTPPO(env, config.agent, device="cpu")
    lines = run_card(config, env, agent).splitlines()
    assert max(map(len, lines)) <= 100
    rows = {line.split()[0]: line for line in lines if not line.startswith(" ")}
    assert "mg3, 3 tasks: " in rows["suite"] and "7 x 7 cells" in rows["observation"]
    assert rows["action"].split(maxsplit=1)[1].startswith("one of ")
    assert "stock, horizon" in rows["reward"] and rows["network"].endswith(
        "mlp, multi-head, width 16"
    )
    assert f"{agent.num_parameters:,} parameters" in rows["method"]
    assert (
        "2 environments per task, seed 4" in rows["training"]
        and "backend native" in rows["machine"]
    )
    assert rows["time"].split(maxsplit=1)[1] == expected.UNKNOWN
    assert rows["folder"].split()[1] == "runs/mg3/mtppo/seed-4"
    env.close()


def test_a_run_says_how_long_it_takes_once_it_knows(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(expected, "MEASURED_S", 0.0)
    train(short_config(total_env_steps=120, checkpoint_every=60))
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("time ")]
    assert told[0].endswith(expected.UNKNOWN) and len(told) == 2
    assert re.fullmatch(
        r"time +about \d+ s left at [\d,]+ env steps/s, measured over \d+ s; evaluations come on top",
        told[1],
    )


def test_a_run_that_continues_says_it_at_once(
    short_config: ShortConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train(short_config(total_env_steps=120, checkpoint_every=60))
    capsys.readouterr()
    train(short_config(total_env_steps=180, checkpoint_every=60))
    (told,) = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("time ")
    ]
    assert re.fullmatch(
        r"time +about \d+ s left at [\d,]+ env steps/s, as fast as it was so far", told
    )


def test_a_run_shows_it_on_stderr(
    short_config: ShortConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    train(short_config(total_env_steps=60, checkpoint_every=60))
    captured = capsys.readouterr()
    assert captured.err.startswith("suite        mt10:fake, 3 tasks: task-0, task-2, task-1\n")
    assert captured.err.count("\nmethod ") == 1 and captured.out == ""


def test_a_notebook_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: type("ZMQInteractiveShell", (), {})()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(progress, "tqdm", lambda **how: made.append(how))
    progress.Progress("mt10", 5, 100)
    assert made == [
        {"total": 100, "initial": 5, "desc": "mt10", "unit": " env steps", "unit_scale": True}
    ]
    ipython.get_ipython = lambda: None  # type: ignore[attr-defined]
    assert not progress.in_notebook()
