"""The default MiniGrid backend: levels, steps and views in compiled code, state in plain arrays."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.copying import CopiedByState
from mtrl.envs.errors import SuiteError
from mtrl.envs.minigrid import base
from mtrl.envs.minigrid.base import MiniGridVectorEnv
from mtrl.envs.minigrid.batch import START, run_range
from mtrl.envs.minigrid.cells import (
    BORDER,
    HEIGHT,
    STATE_SLOTS,
    WALL,
    WIDTH,
    appearance,
    lookthrough,
    visibility,
)
from mtrl.envs.minigrid.drawing import Drawing
from mtrl.envs.minigrid.rng import RNG_WORDS
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Suite

OPTIONS = base.OPTIONS | {"num_threads"}
MINIGRID_VERSION = "3.2.0"
ENVS_PER_THREAD = 512
"""Below this many environments a thread's start costs about as much as the step."""


def make(suite: Suite, settings: EnvSettings) -> NativeMiniGrid:
    return NativeMiniGrid(suite, settings)


def _num_cpus() -> int:
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )


class NativeMiniGrid(CopiedByState, MiniGridVectorEnv):
    """Steps all environments in one compiled call, or one per thread.

    Levels are made by the engine itself, draw for draw as minigrid makes them from the same seed, so every episode is a
    fresh level, resets never wait, and the number of levels has no bound. Results do not depend on the number of
    threads. Up to ``ENVS_PER_THREAD`` environments per thread the step is done within ``step_async``.

    Raises:
        SuiteError: the installed minigrid is not the version that the engine follows.
    """

    backend = "native"

    def __init__(self, suite: Suite, settings: EnvSettings) -> None:
        if version("minigrid") != MINIGRID_VERSION:
            raise SuiteError(
                f"Backend 'native' follows minigrid {MINIGRID_VERSION}, but {version('minigrid')} is installed; "
                "install that version or use backend 'stock'."
            )
        super().__init__(suite, settings)
        num, words = self.num_envs, self.obs_layout.mission_words
        self._table = np.stack([task.row() for task in self.grid_tasks])
        rows, columns = (
            self._table[:, HEIGHT].max() + 2 * BORDER,
            self._table[:, WIDTH].max() + 2 * BORDER,
        )
        self._arrays = {
            "grid": np.full((num, rows, columns), WALL, np.uint8),
            "level": np.zeros((num, STATE_SLOTS), np.int64),
            "rng": np.zeros((num, RNG_WORDS), np.uint64),
            "mission": np.zeros((num, words), np.uint8),
        }
        self._looks = (appearance(), lookthrough(), visibility())
        threads = settings.num_threads or max(1, min(_num_cpus(), num // ENVS_PER_THREAD))
        cuts = np.linspace(0, num, threads + 1).astype(int).tolist()
        self._ranges = list(pairwise(cuts))
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._pending: list[Future[None]] = []
        self._out: tuple[NDArray, ...] = ()

    def start_content(self, index: int) -> bytes | None:
        """The grid, the agent and the mission."""
        arrays = self._arrays
        return b"".join(arrays[name][index].tobytes() for name in ("grid", "level", "mission"))

    def frame(self, index: int) -> NDArray[np.uint8]:
        task = self.grid_tasks[self.task_id[index]]
        return Drawing(task.env_id).frame(
            self._arrays["grid"][index], self._arrays["level"][index]
        )

    def close_extras(self, **kwargs: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _kept(self) -> dict[str, NDArray]:
        return self._arrays

    def _start(self) -> NDArray[np.uint8]:
        self._begin_step(np.full(self.num_envs, START, np.int64))
        return self._end_step()[0]

    def _begin_step(self, actions: NDArray[np.int64]) -> None:
        num = self.num_envs
        obs = np.empty((num, self.obs_layout.num_bytes), np.uint8)
        self._out = (
            obs,
            np.empty_like(obs),
            np.empty(num),
            np.empty(num, np.bool_),
            np.empty(num, np.bool_),
        )
        shared = self._shared()
        if self._pool is None:
            run_range(0, num, actions, *shared, *self._out)
        else:
            work = (*shared, *self._out)
            self._pending = [
                self._pool.submit(run_range, low, high, actions, *work)
                for low, high in self._ranges
            ]

    def _end_step(self) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        for future in self._pending:
            future.result()
        self._pending = []
        obs, final_obs, reward, terminated, truncated = self._out
        return obs, final_obs, reward, terminated, truncated

    def _shared(self) -> tuple[Any, ...]:
        """Arguments of the kernels: the table, the looks, the streams and the state."""
        streams = self._streams
        stream = (streams.key, streams.episode, streams.start, streams.stride, streams.first)
        levels = (streams.levels.seeds, streams.levels.sizes, streams.cycle)
        return self.task_id, self._table, *self._looks, *stream, *levels, *self._arrays.values()
