"""The ``native`` backend: stock physics and V2 rewards in compiled code on all cores, state in plain arrays."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.cache import announcement
from mtrl.envs.compiled import is_kept
from mtrl.envs.copying import CopiedByState
from mtrl.envs.errors import SuiteError, nearest
from mtrl.envs.metaworld.arrays import Arrays
from mtrl.envs.metaworld.base import MetaWorldVectorEnv
from mtrl.envs.metaworld.goals import NUM_GOALS, Goals
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native import share
from mtrl.envs.metaworld.native.jit import compiled_reward
from mtrl.envs.metaworld.native.models import check_mujoco
from mtrl.envs.metaworld.native.pool import Pool
from mtrl.envs.metaworld.native.prepare import Prepared, prepare
from mtrl.envs.metaworld.native.simulation import Simulation
from mtrl.envs.metaworld.native.spec import Task
from mtrl.envs.metaworld.native.tasks import TASKS
from mtrl.envs.progress import progress
from mtrl.envs.settings import EnvSettings
from mtrl.envs.specs import Suite
from mtrl.envs.vector import Info

if TYPE_CHECKING:
    from mtrl.envs.metaworld.native.render import Painter

OPTIONS = frozenset(
    {"goals", "goal_seed", "stagger", "num_threads", "render_mode", "camera", "frame_size"}
)
METAWORLD_VERSION = "3.1.1"
CHUNKS_PER_THREAD = 8
"""A compromise: many chunks balance the threads, few use the caches better and need fewer simulations."""


def make(suite: Suite, settings: EnvSettings) -> NativeMetaWorld:
    return NativeMetaWorld(suite, settings)


class NativeMetaWorld(CopiedByState, MetaWorldVectorEnv):
    """Steps every environment in compiled code that calls MuJoCo, without the interpreter's lock.

    Trajectories, rewards and ``info`` equal those of the stock package, for any number of threads. Between
    ``step_async`` and ``step_wait`` the threads work while the caller does something else.

    Raises:
        SuiteError: mujoco or metaworld are not of the versions that the engine follows, or it lacks a task.
    """

    backend = "native"

    def __init__(self, suite: Suite, settings: EnvSettings) -> None:
        check_mujoco()
        if version("metaworld") != METAWORLD_VERSION:
            raise SuiteError(
                f"backend: native needs metaworld {METAWORLD_VERSION}, found {version('metaworld')}; "
                f"install metaworld=={METAWORLD_VERSION} or choose backend='stock'"
            )
        self._tasks = _tasks(suite)
        self._num_threads = settings.num_threads or _num_cpus()
        num_envs, rows = suite.num_tasks * settings.envs_per_task, suite.num_tasks * NUM_GOALS
        self._state, self._init = (
            np.zeros((num_envs, at.STATE_SIZE)),
            np.zeros((num_envs, at.INIT_SIZE)),
        )
        self._row = np.zeros(num_envs, np.int64)
        self._resets = tuple(
            np.zeros((rows, size)) for size in (at.STATE_SIZE, at.INIT_SIZE, at.OBS_SIZE)
        )
        self._goals_known: Goals = ()
        self._prepared: list[Prepared] = []
        self._simulations: list[Simulation] = []
        super().__init__(suite, settings, Arrays(num_envs, render=False))
        _compile_rewards(self._tasks)
        self._bounds = np.stack([each.bounds for each in self._prepared])
        self._chunks = _chunks(suite.num_tasks, settings.envs_per_task, self._num_threads)
        self._ends = self._chunks[:, share.PAST].copy()
        self._simulations = self._simulate()
        self._pool = self._make_pool()
        self._caller_helps = False
        self._painter: Painter | None = None
        if settings.render_mode is not None:
            self._painter = _painter(suite, settings)

    def step(self, actions: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray, Info]:
        self._caller_helps = True
        try:
            self.step_async(actions)
        finally:
            self._caller_helps = False
        return self.step_wait()

    def pause(self, tasks: NDArray[np.bool_]) -> None:
        super().pause(tasks)
        still = self.paused[self._chunks[:, share.TASK]]
        self._chunks[:, share.PAST] = np.where(still, self._chunks[:, share.FIRST], self._ends)

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """One frame [480, 480, 3] an environment, drawn by the stock package; of the last observation's state."""
        return self.frames()

    def frames(self, only: Sequence[int] | None = None) -> tuple[NDArray[np.uint8], ...]:
        self._check_idle("render")
        if self._painter is None:
            raise SuiteError("render needs make_vec(..., render_mode='rgb_array').")
        if not self._running:
            raise SuiteError("Call reset before render.")
        frames = []
        for env in range(self.num_envs) if only is None else only:
            task = int(self.task_id[env])
            state = self._state[env] if self._elapsed[env] else None
            frames.append(
                self._painter.frame(task, self.goals[task][self._streams.goal[env]], state)
            )
        return tuple(frames)

    def close_extras(self, **kwargs: Any) -> None:
        if self._stepping:
            self._end_step()
        self._pool.close()
        if self._painter is not None:
            self._painter.close()

    def _kept(self) -> dict[str, NDArray]:
        # Paused environments give ``obs`` again.
        exact: dict[str, NDArray] = {
            "state": self._state,
            "init": self._init,
            "obs": self._arrays.obs,
        }
        return super()._kept() | exact

    def _continue(self, state: Mapping[str, NDArray]) -> None:
        """Continues exactly, also in the middle of episodes."""
        self._seed_goals(int(self._goal_seed))
        self._arrays.final_obs[:] = self._arrays.obs
        self._running = bool((self._streams.episode >= 0).all())

    def _restart(self) -> None:
        which = self._arrays.restart
        rows = self._goal_rows()[which]
        self._state[which], self._init[which], self._arrays.obs[which] = (
            table[rows] for table in self._resets
        )

    def _begin_step(self) -> None:
        if self._arrays.truncated.any():
            self._row[:] = self._goal_rows()
        if self._pool.pid != os.getpid():
            self._pool = self._make_pool()
        self._pool.begin(self._caller_helps)

    def _end_step(self) -> None:
        if self._pool.pid != os.getpid():
            raise SuiteError(
                "step_wait in a fork of the process that called step_async; call reset first."
            )
        self._pool.finish()

    def _goals_changed(self) -> None:
        if self.goals is self._goals_known:
            return
        prepared = prepare(self._tasks, self.goals, self._num_threads)
        for number, table in enumerate(self._resets):
            table[:] = np.concatenate([each.resets[number] for each in prepared])
        self._goals_known = self.goals
        if not self._simulations:
            self._prepared = prepared

    def _simulate(self) -> list[Simulation]:
        """One simulation per chunk, in order. Drops each task's prepared model on the way, which halves peak memory."""
        simulations = []
        for task, entry in enumerate(self._tasks):
            model = self._prepared.pop(0).model()
            for _ in range(np.count_nonzero(self._chunks[:, share.TASK] == task)):
                simulations.append(Simulation(entry, model, self._bounds[task]))
        return simulations

    def _goal_rows(self) -> NDArray[np.int64]:
        return self.task_id * NUM_GOALS + self._streams.goal

    def _make_pool(self) -> Pool:
        arrays = self._arrays
        ctx = np.zeros(
            (len(self._simulations), max(sim.ctx.size for sim in self._simulations)), np.int64
        )
        for row, sim in zip(ctx, self._simulations):
            row[: sim.ctx.size] = sim.ctx
        pool = Pool(
            self._num_threads,
            self._chunks,
            (ctx, self._bounds),
            (self._state, self._init, arrays.action, arrays.truncated, self._row),
            self._resets,
            (arrays.obs, arrays.final_obs, arrays.reward, arrays.info),
        )
        weakref.finalize(self, pool.close)
        return pool


def _tasks(suite: Suite) -> tuple[Task, ...]:
    for spec in suite.tasks:
        if spec.env_id not in TASKS:
            near = nearest(spec.env_id, TASKS, 0.0)
            raise SuiteError(
                f"Backend 'native' has no task {spec.env_id!r} of {suite.id}; the nearest is {near!r}."
            )
    return tuple(TASKS[spec.env_id] for spec in suite.tasks)


def _chunks(num_tasks: int, envs_per_task: int, num_threads: int) -> NDArray[np.int64]:
    """Cuts each task's environments into equal chunks. Each chunk has its own simulation."""
    wanted = 1 if num_threads == 1 else -(-num_threads * CHUNKS_PER_THREAD // num_tasks)
    cuts = np.linspace(0, envs_per_task, min(wanted, envs_per_task) + 1).astype(np.int64)
    rows = [
        (task, task * envs_per_task + first, task * envs_per_task + past)
        for task in range(num_tasks)
        for first, past in pairwise(cuts)
    ]
    return np.column_stack([np.array(rows, np.int64), np.arange(len(rows))])


def _compile_rewards(tasks: Sequence[Task]) -> None:
    """Compiles the reward functions that are not kept from an earlier start, saying so."""
    silent = all(is_kept(task.reward) for task in tasks)
    title = announcement("Compiling Meta-World rewards")
    for task in progress(tasks, desc=title, unit="task", disable=silent):
        compiled_reward(task.reward)


def _painter(suite: Suite, settings: EnvSettings) -> Painter:
    # Not at the top: metaworld takes a second to import.
    from mtrl.envs.metaworld.native.render import Painter

    tasks = [task.env_id for task in suite.tasks]
    return Painter(tasks, settings.camera, settings.frame_size)


def _num_cpus() -> int:
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )
