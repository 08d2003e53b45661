"""Show a policy in a window, drawn by pygame, which minigrid installs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtrl import envs
from mtrl.agents import Agent
from mtrl.agents.data.arrays import host, placed
from mtrl.errors import WorkbenchError
from mtrl.evaluation.video import pace

SMALLEST = 480
"""Pixels of the window's shorter side; smaller frames are drawn larger."""


def check_screen() -> None:
    """Raises WorkbenchError where no window can be opened."""
    if not sys.platform.startswith("linux"):
        return
    if not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    ):
        raise WorkbenchError(
            "there is no screen here; film the run with `mtrl evaluate RUN --video DIR`"
        )


def watch(
    env: envs.TaskVectorEnv, agent: Agent, tasks: Sequence[int], episodes: int | None = None
) -> int:
    """Play the tasks in turn, episode after episode, until the window is closed. Returns the episodes played.

    Args:
        env: with one environment of each task, made for drawing.
        episodes: how many to play in all; None for no end.

    Raises:
        WorkbenchError: no window can be opened.
    """
    pygame = _pygame()
    skip, rate = pace(env)
    clock = pygame.time.Clock()
    played = 0
    try:
        while episodes is None or played < episodes:
            task = tasks[played % len(tasks)]
            pygame.display.set_caption(f"{env.suite.id} {env.suite.task_names[task]}")
            # The boundary makes each round of the tasks another episode.
            if not _play(pygame, env, agent, task, played // len(tasks), skip, rate, clock):
                break
            played += 1
    finally:
        pygame.quit()
    return played


def _pygame() -> Any:
    check_screen()
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    try:
        pygame.display.init()
    except pygame.error as error:
        raise WorkbenchError(f"no window can be opened ({error})") from error
    return pygame


def _play(
    pygame: Any,
    env: envs.TaskVectorEnv,
    agent: Agent,
    task: int,
    boundary: int,
    skip: int,
    rate: float,
    clock: Any,
) -> bool:
    """Play one episode of ``task``. Returns False once the window was closed."""
    env.pause(np.arange(env.num_tasks) != task)
    obs, memory = env.rebase(boundary)[task : task + 1], None
    start, step = np.ones(1, dtype=bool), 0
    while True:
        if step % skip == 0:
            _show(pygame, env.frames([task])[0])
            clock.tick(rate)
            if any(event.type == pygame.QUIT for event in pygame.event.get()):
                return False
        ids = np.array([task])
        action, memory = agent.predict(obs, memory, start, deterministic=True, task_id=ids)
        actions = placed(np.repeat(host(action), env.num_tasks, axis=0), env.device)
        rows, _, terminated, truncated, _ = env.step(actions)
        obs, start, step = rows[task : task + 1], np.zeros(1, dtype=bool), step + 1
        if terminated[task] or truncated[task]:
            return True


def _show(pygame: Any, frame: np.ndarray) -> None:
    """Draw a frame ``[height, width, 3]``, enlarged by a whole number where it is small."""
    scale = max(1, SMALLEST // min(frame.shape[:2]))
    picture = frame.repeat(scale, 0).repeat(scale, 1).swapaxes(0, 1)
    window = pygame.display.get_surface()
    if window is None or window.get_size() != picture.shape[:2]:
        window = pygame.display.set_mode(picture.shape[:2])
    window.blit(pygame.surfarray.make_surface(picture), (0, 0))
    pygame.display.flip()
