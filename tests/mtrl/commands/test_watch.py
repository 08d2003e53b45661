"""``mtrl watch``: a window where there is one, one sentence where there is none."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from mtrl import demos
from mtrl.commands import watch
from mtrl.evaluation import watching
from tests.mtrl.test_commands import complaint

MG7 = str(demos.demo_folder("mg7"))


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")


def test_without_a_screen(no_screen: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch.main([MG7]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "mtrl watch: there is no screen here; film the run with `mtrl evaluate RUN --video DIR`"
    )


def test_episodes_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two episodes of two tasks: each begins at its own level, and frames are those of the task."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(watching, "pace", lambda env: (1, 10_000.0))
    shown: list[Any] = []
    show = watching._show

    def note(pygame: Any, frame: np.ndarray) -> None:
        show(pygame, frame)
        window = pygame.display.get_surface()
        shown.append((pygame.display.get_caption()[0], frame.shape, window.get_size()))

    monkeypatch.setattr(watching, "_show", note)
    assert watch.main([MG7, "--tasks=DistShift1,DoorKey-6x6", "--episodes=2"]) == 0
    titles = list(dict.fromkeys(title for title, _, _ in shown))
    assert titles == ["mg7 DoorKey-6x6", "mg7 DistShift1"]
    for _, (height, width, _), size in shown:
        assert min(size) >= watching.SMALLEST - min(height, width)
        assert size[0] * height == size[1] * width


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere", "RUN: nowhere is not a run folder (no config.yaml)"),
        ("MG7 --tasks=DoorKey", "tasks: 'DoorKey' is unknown; "),
        ("MG7 --task=x", "task: unknown setting; did you mean tasks?"),
        ("MG7 MG7", "RUN: 2 given; name one run folder"),
    ],
)
def test_refuses(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = watch.main([MG7 if word == "MG7" else word for word in arguments.split()])
    assert words in complaint("mtrl watch", status, capsys)
