"""The ``stock`` backend: metaworld's own environments, in this process or in workers."""

from __future__ import annotations

import atexit
import os
import weakref
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.metaworld.arrays import Arrays
from mtrl.envs.metaworld.base import MetaWorldVectorEnv
from mtrl.envs.metaworld.simulators import Group
from mtrl.envs.metaworld.workers import RENDER, RESET, STEP, Workers
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Suite

OPTIONS = frozenset({"goals", "goal_seed", "stagger", "num_workers", "render_mode"})
_ENVS_PER_WORKER = 10


def make(suite: Suite, settings: EnvSettings) -> MetaWorldVectorEnv:
    """Makes the backend, in processes of its own or in this one."""
    num_workers = settings.num_workers
    if num_workers is None:
        num_workers = default_workers(suite.num_tasks * settings.envs_per_task)
    return (
        _WorkerVectorEnv(suite, settings, num_workers)
        if num_workers
        else _LocalVectorEnv(suite, settings)
    )


class _StockVectorEnv(MetaWorldVectorEnv):
    backend = "stock"

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """One frame [480, 480, 3] an environment, of the state that the last observation describes."""
        self._check_idle("render")
        if self._arrays.frames is None:
            raise SuiteError("render needs make_vec(..., render_mode='rgb_array').")
        if not self._running:
            raise SuiteError("Call reset before render.")
        self._render()
        return tuple(self._arrays.frames.copy())

    @abstractmethod
    def _render(self) -> None:
        """Fill ``_arrays.frames``."""


class _LocalVectorEnv(_StockVectorEnv):
    """All environments in this process; ``step_wait`` does the work."""

    def __init__(self, suite: Suite, settings: EnvSettings) -> None:
        num_envs = suite.num_tasks * settings.envs_per_task
        super().__init__(
            suite, settings, Arrays(num_envs, render=settings.render_mode is not None)
        )
        tasks = [suite.tasks[task].env_id for task in self.task_id]
        self._group = Group(tasks, suite.reward_version, self._arrays, first=0)
        if settings.render_mode is not None:
            # OpenGL contexts must be freed before their platform, whose exit handler was registered earlier.
            atexit.register(_close, weakref.ref(self))

    def _restart(self) -> None:
        self._group.reset()

    def _begin_step(self) -> None:
        pass

    def _end_step(self) -> None:
        self._group.step()

    def _render(self) -> None:
        self._group.render()

    def close_extras(self, **kwargs: Any) -> None:
        self._group.close()


class _WorkerVectorEnv(_StockVectorEnv):
    """Environments in worker processes, which step while the caller does something else."""

    def __init__(self, suite: Suite, settings: EnvSettings, num_workers: int) -> None:
        render = settings.render_mode is not None
        self._workers = Workers(suite, settings.envs_per_task, num_workers, render)
        super().__init__(suite, settings, self._workers.arrays)
        self._workers.wait()

    def _restart(self) -> None:
        self._command(RESET)

    def _begin_step(self) -> None:
        self._workers.send(STEP)

    def _end_step(self) -> None:
        self._workers.wait()

    def _render(self) -> None:
        self._command(RENDER)

    def _command(self, command: bytes) -> None:
        self._workers.send(command)
        self._workers.wait()

    def close_extras(self, **kwargs: Any) -> None:
        self._workers.close()


def _close(reference: weakref.ref[_LocalVectorEnv]) -> None:
    env = reference()
    if env is not None:
        env.close()


def default_workers(num_envs: int) -> int:
    """One worker for every ten environments, at most one a CPU; none where that makes fewer than two."""
    cpus = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )
    workers = min(cpus, num_envs // _ENVS_PER_WORKER)
    return workers if workers > 1 else 0
