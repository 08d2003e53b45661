from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest

from mtrl.errors import WorkbenchError
from mtrl.evaluation import video
from tests.helpers import fakes
from tests.helpers.fakes import HORIZON, FakeAgent, FakeEnv
from tests.mtrl.conftest import ShortConfig


def render(self: FakeEnv) -> list[np.ndarray]:
    """A gray that brightens with the clock, one picture per environment."""
    return [np.full((16, 24, 3), 10 * clock, np.uint8) for clock in self.clock]


def test_one_film_per_task(
    short_config: ShortConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def make_vec(suite: str, envs_per_task: int, **settings: Any) -> FakeEnv:
        asked.update(settings)
        return fakes.make_vec(suite, envs_per_task, **settings | {"backend": "auto"})

    monkeypatch.setattr(video.envs, "make_vec", make_vec)
    monkeypatch.setattr(FakeEnv, "render", render)
    agent = FakeAgent(fakes.make_vec("mt10:fake", seed=0))
    files = video.film(short_config(), agent, tmp_path / "films")
    assert [file.stem for file in files] == ["task-0", "task-2", "task-1"]
    assert (asked["backend"], asked["render_mode"], asked["goals"]) == (
        "stock",
        "rgb_array",
        "cycle",
    )
    frames = imageio.imread(files[0], index=None)
    assert len(frames) == HORIZON
    assert frames[5].mean() == pytest.approx(50, abs=6)


def test_no_display_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_display(self: FakeEnv) -> None:
        raise RuntimeError("no EGL device")

    monkeypatch.setattr(FakeEnv, "render", no_display)
    env = fakes.make_vec("mt1:fake", seed=0)
    with pytest.raises(
        WorkbenchError, match=r"cannot render \(no EGL device\); without a display set MUJOCO_GL"
    ):
        video.record(env, FakeAgent(env))
    monkeypatch.setattr(FakeEnv, "render", lambda self: None)
    with pytest.raises(WorkbenchError, match="returned no frames"):
        video.record(env, FakeAgent(env))


def test_folder_that_cannot_be_made(short_config: ShortConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match="cannot be written"):
        video.film(
            short_config(),
            FakeAgent(fakes.make_vec("mt10:fake", seed=0)),
            tmp_path / "file" / "films",
        )
