"""Films of a policy, one episode of each task, through the stock renderer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray

from mtrl import envs
from mtrl.agents import Agent
from mtrl.errors import WorkbenchError
from mtrl.evaluation.evaluator import evaluation_seed
from mtrl.settings.config import TrainConfig
from mtrl.training.run_folder import writing

FPS = 20
MAX_PIXELS = 320  # of the longer side; a gif of one episode then has a few megabytes
Frames = list[NDArray[np.uint8]]


def film(config: TrainConfig, agent: Agent, folder: Path) -> list[Path]:
    """Record the deterministic policy's first evaluation episode of every task. Returns the files, in suite order.

    Raises:
        WorkbenchError: this machine cannot render, or the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    env = envs.make_vec(
        config.suite,
        1,
        backend="stock",
        seed=evaluation_seed(config.eval.seed),
        goals="cycle",
        goal_seed=config.benchmark_seed,
        num_workers=config.num_workers,
        render_mode="rgb_array",
    )
    try:
        frames = record(env, agent)
    finally:
        env.close()
    return [write_film(folder / name, task) for name, task in zip(env.suite.task_names, frames)]


def record(env: envs.TaskVectorEnv, agent: Agent) -> list[Frames]:
    """Frames of one episode per task, at ``FPS`` of simulated time."""
    skip = max(1, round(env.metadata.get("render_fps", FPS) / FPS))
    obs, memory = env.rebase(0), None
    start = np.ones(env.num_envs, dtype=bool)
    running = start.copy()
    frames: list[Frames] = [[] for _ in range(env.num_envs)]
    step = 0
    while running.any():
        if step % skip == 0:
            for index, frame in enumerate(_render(env)):
                if running[index]:
                    shrink = -(-max(frame.shape[:2]) // MAX_PIXELS)
                    frames[index].append(frame[::shrink, ::shrink])
        action, memory = agent.predict(obs, memory, start, deterministic=True, task_id=env.task_id)
        obs, _, terminated, truncated, _ = env.step(action)
        start = terminated | truncated
        running &= ~start
        step += 1
    return frames


def _render(env: envs.TaskVectorEnv) -> Frames:
    """A frame of every environment; their sizes may differ."""
    try:
        frames = env.frames()
    except (
        RuntimeError,
        OSError,
        ImportError,
        AttributeError,
    ) as error:  # what OpenGL raises without a display
        hint = "without a display set MUJOCO_GL to egl or osmesa"
        raise WorkbenchError(f"video: this machine cannot render ({error}); {hint}") from error
    if not frames:
        raise WorkbenchError(
            f"video: the {env.backend} backend of {env.suite.id} returned no frames"
        )
    return [np.asarray(frame, dtype=np.uint8) for frame in frames]


def write_film(path: Path, frames: Frames) -> Path:
    """Write frames as mp4 where imageio-ffmpeg is installed, else as gif. Returns the file."""
    if importlib.util.find_spec("imageio_ffmpeg"):
        file = path.with_name(path.name + ".mp4")
        options: dict[str, Any] = {"fps": FPS, "plugin": "FFMPEG"}
    else:
        file = path.with_name(path.name + ".gif")
        options = {"duration": 1000 / FPS, "loop": 0}
    with writing(file):
        imageio.imwrite(file, np.stack(frames), **options)
    return file
