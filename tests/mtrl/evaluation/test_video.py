from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest

from mtrl.envs import SuiteError, make_vec
from mtrl.errors import ConfigError, WorkbenchError
from mtrl.evaluation import video
from tests.helpers import fakes
from tests.helpers.fakes import HORIZON, FakeAgent, FakeEnv
from tests.mtrl.conftest import ShortConfig


def render(self: FakeEnv) -> list[np.ndarray]:
    """A gray that brightens with the clock, one picture per environment."""
    return [np.full((16, 24, 3), 10 * clock, np.uint8) for clock in self.clock]


def still(agent: FakeAgent) -> FakeAgent:
    """An agent that never moves, and so hardly ever succeeds."""
    agent.gain[:] = 0
    return agent


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the environment was made with; it can be drawn."""
    settings: dict[str, Any] = {}

    def make_vec(suite: str, envs_per_task: int, **given: Any) -> FakeEnv:
        settings.update(given, envs_per_task=envs_per_task)
        return fakes.make_vec(suite, envs_per_task, **given)

    monkeypatch.setattr(video.envs, "make_vec", make_vec)
    monkeypatch.setattr(FakeEnv, "render", render)
    return settings


def test_one_film_per_task_and_a_grid(
    short_config: ShortConfig, tmp_path: Path, asked: dict[str, Any]
) -> None:
    config, said = short_config(), []
    agent = still(FakeAgent(fakes.make_vec("mt10:fake", seed=0)))
    files = video.film(config, agent, tmp_path / "films", report=said.append)
    assert [file.stem for file in files] == ["task-0", "task-2", "task-1", "all-tasks"]
    assert said == files
    assert (asked["render_mode"], asked["goals"], asked["envs_per_task"]) == (
        "rgb_array",
        "cycle",
        1,
    )
    frames = imageio.imread(files[0], index=None)
    assert len(frames) == HORIZON
    assert frames[5].mean() == pytest.approx(50, abs=6)
    assert imageio.imread(files[-1], index=None).shape[1:3] == (32, 48)  # 2 x 2 cells


def test_a_film_ends_soon_after_success(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "TAIL_S", 3 / video.FPS)
    env = video.envs.make_vec("mt10:fake", 1, seed=0)
    agent = FakeAgent(env)
    agent.gain[:] = 1.0
    env.rebase(0)
    far = int(np.argmax(np.abs(env.goal)))
    steps = 0
    while abs(env.position[far] - env.goal[far]) >= 0.1:
        obs = env._obs()
        env.step(agent.predict(obs, deterministic=True, task_id=env.task_id)[0])
        steps += 1
    frames = video.record(env, agent, far, skip=1)
    assert len(frames) == steps + 1 + 3 and len(frames) < HORIZON


def test_chosen_tasks_only(
    short_config: ShortConfig, tmp_path: Path, asked: dict[str, Any]
) -> None:
    agent = FakeAgent(fakes.make_vec("mt10:fake", seed=0))
    files = video.film(short_config(), agent, tmp_path / "films", ["task-1"])
    assert [file.stem for file in files] == ["task-1"]
    with pytest.raises(ConfigError, match="tasks: 'task-7' is unknown; did you mean 'task-"):
        video.film(short_config(), agent, tmp_path / "films", ["task-7"])


def test_a_grid_holds_the_last_frames() -> None:
    films = [
        [np.full((4, 6, 3), 10 * i + j, np.uint8) for j in range(n)]
        for i, n in ((1, 3), (2, 1), (3, 2))
    ]
    pictures = video.grid(films)
    assert len(pictures) == 3 and pictures[0].shape == (8, 12, 3)
    last = pictures[2]
    assert (last[0, 0, 0], last[0, 6, 0], last[4, 0, 0], last[4, 6, 0]) == (12, 20, 31, 0)


def test_no_display_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_display(self: FakeEnv) -> None:
        raise RuntimeError("no EGL device")

    monkeypatch.setattr(FakeEnv, "render", no_display)
    env = fakes.make_vec("mt1:fake", seed=0)
    with pytest.raises(
        WorkbenchError,
        match=r"cannot render \(no EGL device\); without a display set MUJOCO_GL",
    ):
        video.record(env, FakeAgent(env), 0, 1)
    monkeypatch.setattr(FakeEnv, "render", lambda self: None)
    with pytest.raises(WorkbenchError, match="returned no frames"):
        video.record(env, FakeAgent(env), 0, 1)


def test_folder_that_cannot_be_made(short_config: ShortConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match="cannot be written"):
        video.film(
            short_config(),
            FakeAgent(fakes.make_vec("mt10:fake", seed=0)),
            tmp_path / "file" / "films",
        )


def test_cameras_and_sizes() -> None:
    """Frames are drawn at the size that is asked for, and the cameras show different things."""
    env = make_vec(
        "mt1:door-open-v3", 1, render_mode="rgb_array", camera="close", frame_size=(64, 48)
    )
    env.reset(seed=0)
    [near] = env.frames([0])
    assert near.shape == (48, 64, 3)
    env.close()
    with pytest.raises(SuiteError, match="camera must be one of close, corner"):
        make_vec("mt1:door-open-v3", 1, render_mode="rgb_array", camera="closer")


def test_minigrid_has_no_cameras() -> None:
    with pytest.raises(SuiteError, match="does not take camera='close'"):
        make_vec("mg1:Empty-5x5", 1, render_mode="rgb_array", camera="close")
    with pytest.raises(
        SuiteError, match=r"frame_size must be width and height in pixels, not \(3,\)"
    ):
        make_vec("mt1:reach-v3", 1, frame_size=(3,))  # type: ignore[arg-type]
