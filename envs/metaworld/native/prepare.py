"""Models, bounds and states after reset, taken from the stock environments once and cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.envs.cache import announcement
from mtrl.envs.metaworld import store
from mtrl.envs.metaworld.memory import give_back
from mtrl.envs.metaworld.native.spec import Task
from mtrl.envs.progress import progress

Kept = dict[str, NDArray]


@dataclass(frozen=True)
class Prepared:
    """A task with its goals.

    Attributes:
        binary: uint8, the stripped model in MuJoCo's own format.
        bounds: float64 ``[BOUNDS_SIZE]``, see ``layout``.
        resets: float64 ``[num_goals, STATE_SIZE]``, ``[num_goals, INIT_SIZE]`` and ``[num_goals, 39]``: state, init and
            first observation that a stock reset to each goal leaves.
    """

    binary: NDArray[np.uint8]
    bounds: NDArray[np.float64]
    resets: tuple[NDArray[np.float64], ...]

    def model(self) -> mujoco.MjModel:
        return mujoco.MjModel.from_binary_path("task.mjb", {"task.mjb": self.binary.tobytes()})


def prepare(
    tasks: Sequence[Task], goals: Sequence[NDArray[np.float64]], num_threads: int
) -> list[Prepared]:
    """Loads every task's model and resets, and makes those that the cache lacks.

    Args:
        tasks: the tasks.
        goals: one array ``[num_goals, k]`` a task.
        num_threads: threads that make resets; a reset is about 7 ms, most of it in MuJoCo.
    """
    jobs = [_Job(task, vectors) for task, vectors in zip(tasks, goals)]
    missing = [job for job in jobs if not job.load()]
    if missing:
        total = sum(len(job.goals) for job in missing)
        title = announcement("Preparing Meta-World resets")
        with (
            progress(total=total, desc=title, unit="reset") as bar,
            ThreadPoolExecutor(num_threads) as threads,
        ):
            for future in [threads.submit(job.make, bar.update) for job in missing]:
                future.result()
    return [job.result() for job in jobs]


class _Job:
    """Model and resets of one task, each cached in a file named by a digest of what its content depends on."""

    def __init__(self, task: Task, goals: NDArray[np.float64]) -> None:
        self.task = task
        self.goals = goals
        entry = [getattr(task, field.name) for field in fields(task) if field.name != "reward"]
        origin = store.digest(_origin(), *entry)
        self._files = (
            f"{task.name}-model-{origin}",
            f"{task.name}-resets-{store.digest(origin, goals)}",
        )
        self._kept: list[Kept | None] = [None, None]

    def load(self) -> bool:
        self._kept = [store.load(name) for name in self._files]
        return None not in self._kept

    def make(self, made: Callable[[], Any]) -> None:
        # Not at the top: metaworld takes a second to import, and a start with everything kept does not need it.
        from mtrl.envs.metaworld.native import models, stock

        env = stock.make_stock(self.task.name)
        snapshots = []
        for goal in self.goals:
            snapshots.append(stock.snapshot(self.task, env, stock.stock_reset(env, goal)))
            made()
        arrays = {
            name: np.stack([getattr(each, name) for each in snapshots])
            for name in ("state", "init", "obs")
        }
        binary = _binary(models.stripped_model(env.fullpath, env.model, self.task))
        model: Kept = {"binary": binary, "bounds": stock.task_bounds(self.task, env)}
        env.close()
        del env
        give_back()
        self._kept = [model, arrays]
        for name, content in zip(self._files, (model, arrays)):
            store.save(name, content)

    def result(self) -> Prepared:
        model, resets = self._kept
        assert model is not None and resets is not None
        return Prepared(**model, resets=(resets["state"], resets["init"], resets["obs"]))


def _binary(model: mujoco.MjModel) -> NDArray[np.uint8]:
    binary = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, binary)
    return binary


@cache
def _origin() -> str:
    """Digest of the packages that resets and models come from and of our own code that reads them."""
    packages = [
        version(name) for name in ("metaworld", "mujoco", "gymnasium", "numpy", "scipy")
    ]
    sources = [
        Path(__file__).with_name(f"{name}.py").read_bytes()
        for name in ("layout", "models", "spec", "stock")
    ]
    return store.digest(*packages, *sources)
