"""Films of a policy, one episode of each task, drawn by the stock renderers."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray

from mtrl import envs
from mtrl.agents import Agent
from mtrl.agents.data.arrays import host, placed
from mtrl.envs.errors import choices
from mtrl.envs.frames import padded
from mtrl.errors import ConfigError, WorkbenchError
from mtrl.evaluation.evaluator import evaluation_env
from mtrl.settings.config import TrainConfig
from mtrl.training.run_folder import writing

FPS = 16
SIZE = (320, 240)
"""Width and height of Meta-World's frames; a gif of one episode then has about a megabyte."""
CAMERA = "close"
TAIL_S = 0.75
"""How long a film goes on after the first success."""
GRID_WIDTH = 640
GRID_NAME = "all-tasks"
Frames = list[NDArray[np.uint8]]


def film(
    config: TrainConfig,
    agent: Agent,
    folder: Path,
    tasks: Sequence[str] | None = None,
    camera: str | None = None,
    report: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Record the deterministic policy's first evaluation episode of every task, and all of them in one grid.

    Args:
        tasks: names of those to film; all by default.
        camera: of Meta-World; ``close`` by default.
        report: called with each file as soon as it is written.

    Returns:
        The files, in suite order; with several tasks the grid comes last.

    Raises:
        ConfigError: a task that the suite lacks.
        SuiteError: a camera that the suite lacks.
        WorkbenchError: this machine cannot render, or the folder cannot be written.
    """
    wanted = places(config.suite, tasks)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    env = filming_env(config, camera)
    skip, rate = pace(env)
    files, small = [], []
    try:
        for task in wanted:
            frames = record(env, agent, task, skip)
            files.append(write_film(folder / env.suite.task_names[task], frames, rate))
            report(files[-1])
            small.append(_shrunk(frames, len(wanted)))
    finally:
        env.close()
    if len(wanted) > 1:
        files.append(write_film(folder / GRID_NAME, grid(small), rate))
        report(files[-1])
    return files


def check_film(
    config: TrainConfig, folder: Path, tasks: Sequence[str] | None, camera: str | None
) -> None:
    """Raise what ``film`` would raise for its arguments, before an evaluation takes its time. Makes the folder."""
    places(config.suite, tasks)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if camera is not None:
        filming_env(config, camera).close()


def places(suite: str, tasks: Sequence[str] | None) -> list[int]:
    """Positions of the named tasks in the suite, in its order; of all for None. Raises ConfigError for an unknown
    one."""
    names = envs.get_suite(suite).task_names
    for task in tasks or ():
        if task not in names:
            raise ConfigError(f"tasks: {task!r} is unknown; {choices(task, names)}")
    return [place for place, name in enumerate(names) if tasks is None or name in tasks]


def filming_env(config: TrainConfig, camera: str | None = None) -> envs.TaskVectorEnv:
    """An environment of each task that plays the evaluation's episodes and can be drawn.

    Raises:
        SuiteError: a camera that the suite lacks, or this machine cannot render.
    """
    drawing: dict[str, Any] = {}
    if camera is not None:
        drawing = {"camera": camera}  # a backend without it refuses it in its own words
    if _draws_closely(config):
        drawing = {"camera": camera or CAMERA, "frame_size": SIZE}
    return evaluation_env(config, 1, backend=config.backend, render_mode="rgb_array", **drawing)


def _draws_closely(config: TrainConfig) -> bool:
    """Whether the run's environments accept a camera and a frame size. Meta-World's native backend does."""
    if config.backend == "stock" or envs.get_suite(config.suite).family != "metaworld":
        return False
    return "native" in envs.backends(config.suite)


def pace(env: envs.TaskVectorEnv) -> tuple[int, float]:
    """Steps from one frame to the next, and frames a second, so that films run in simulated time."""
    steps_per_second = env.metadata.get("render_fps", FPS)
    skip = max(1, round(steps_per_second / FPS))
    return skip, steps_per_second / skip


def record(env: envs.TaskVectorEnv, agent: Agent, task: int, skip: int) -> Frames:
    """Frames of a task's first episode, every ``skip`` steps; it ends soon after success. Other tasks stand still.

    Args:
        env: with one environment of each task.
    """
    env.pause(np.arange(env.num_tasks) != task)
    obs, memory = env.rebase(0)[task : task + 1], None
    start = np.ones(1, dtype=bool)
    tail = round(TAIL_S * env.metadata.get("render_fps", FPS))
    frames: Frames = []
    step, last = 0, math.inf
    while step <= last:
        if step % skip == 0:
            frames.append(_frame(env, task))
        action, memory = agent.predict(
            obs, memory, start, deterministic=True, task_id=np.array([task])
        )
        actions = placed(np.repeat(host(action), env.num_tasks, axis=0), env.device)
        rows, _, terminated, truncated, info = env.step(actions)
        obs, start = rows[task : task + 1], np.zeros(1, dtype=bool)
        step += 1
        if terminated[task] or truncated[task]:
            break
        if info["success"][task]:
            last = min(last, step + tail)
    return frames


def _frame(env: envs.TaskVectorEnv, task: int) -> NDArray[np.uint8]:
    try:
        frames = env.frames([task])
    except (RuntimeError, OSError, ImportError, AttributeError) as error:
        # What OpenGL raises without a display.
        hint = "without a display set MUJOCO_GL to egl or osmesa"
        raise WorkbenchError(f"video: this machine cannot render ({error}); {hint}") from error
    if not frames:
        raise WorkbenchError(
            f"video: the {env.backend} backend of {env.suite.id} returned no frames"
        )
    return np.asarray(frames[0], dtype=np.uint8)


def _shrunk(frames: Frames, films: int) -> Frames:
    """Frames small enough for ``films`` of them in one grid, by leaving out pixels."""
    columns = math.ceil(math.sqrt(films))
    step = max(1, math.ceil(columns * frames[0].shape[1] / GRID_WIDTH))
    return [frame[::step, ::step] for frame in frames]


def grid(films: Sequence[Frames]) -> Frames:
    """All films beside each other; the last frame of a shorter one stays."""
    columns = math.ceil(math.sqrt(len(films)))
    pictures: Frames = []
    for index in range(max(map(len, films))):
        cells = list(padded([frames[min(index, len(frames) - 1)] for frames in films]))
        cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
        rows = [
            np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)
        ]
        pictures.append(np.concatenate(rows, 0))
    return pictures


def write_film(path: Path, frames: Frames, rate: float) -> Path:
    """Write frames as mp4 where imageio-ffmpeg is installed, else as gif. Returns the file.

    Args:
        rate: frames a second.
    """
    if importlib.util.find_spec("imageio_ffmpeg"):
        file = path.with_name(path.name + ".mp4")
        options: dict[str, Any] = {"fps": rate, "plugin": "FFMPEG"}
    else:
        file = path.with_name(path.name + ".gif")
        options = {"duration": 1000 / rate, "loop": 0}
    with writing(file):
        imageio.imwrite(file, np.stack(frames), **options)
    return file
