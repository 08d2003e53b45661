"""Read bounds and resets from the stock environment, which the engine follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from numpy.typing import ArrayLike, NDArray

from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.spec import Task

_ATTRIBUTES = (
    (at.OBJ_INIT, "obj_init_pos"),
    (at.TARGET, "_target_pos"),
    (at.INIT_TCP, "init_tcp"),
    (at.HAND_INIT, "hand_init_pos"),
)


@dataclass(frozen=True)
class Snapshot:
    """The result of a reset: state ``[STATE_SIZE]``, init ``[INIT_SIZE]`` and the first observation ``[39]``."""

    state: NDArray[np.float64]
    init: NDArray[np.float64]
    obs: NDArray[np.float64]


def make_stock(name: str) -> Any:
    """A stock environment with an observable goal, without a goal set."""
    env = ALL_V3_ENVIRONMENTS[name]()
    env._partially_observable = False
    # Cached with the bounds of a hidden goal.
    env.__dict__.pop("sawyer_observation_space", None)
    env._set_task_called = True
    return env


def stock_reset(env: Any, goal: ArrayLike) -> NDArray[np.float64]:
    """Reset ``env`` to ``goal`` (stock's ``rand_vec``); returns the first observation."""
    env._freeze_rand_vec = True
    env._last_rand_vec = np.array(goal, np.float64)
    return env.reset()[0]


def snapshot(task: Task, env: Any, obs: NDArray[np.float64]) -> Snapshot:
    """The state and init that the engine keeps of ``env``, which was just reset and returned ``obs``."""
    state, init = np.zeros(at.STATE_SIZE), np.zeros(at.INIT_SIZE)
    data, model = env.data, env.model
    state[at.QPOS : at.QPOS + model.nq] = data.qpos
    state[at.QVEL : at.QVEL + model.nv] = data.qvel
    state[at.WARMSTART : at.WARMSTART + model.nv] = data.qacc_warmstart
    state[at.MOCAP : at.MOCAP + 3] = data.mocap_pos[0]
    state[at.PREVIOUS : at.PREVIOUS + at.HALF_OBS] = env._prev_obs
    kept = tuple((at.KEPT + 3 * number, name) for number, name in enumerate(task.kept))
    for place, name in _ATTRIBUTES + kept:
        value = getattr(env, name)
        numbers = np.atleast_1d(np.nan if value is None else np.asarray(value, np.float64))
        init[place : place + numbers.size] = numbers
    if task.fixture is not None:
        init[at.FIXTURE :] = model.body(task.fixture).pos
    return Snapshot(state, init, np.array(obs))


def task_bounds(task: Task, env: Any) -> NDArray[np.float64]:
    """The task's ``bounds`` array (see ``layout``)."""
    bounds = np.zeros(at.BOUNDS_SIZE)
    space = env.sawyer_observation_space
    bounds[at.MOCAP_LOW : at.MOCAP_LOW + 3] = env.mocap_low
    bounds[at.MOCAP_HIGH : at.MOCAP_HIGH + 3] = env.mocap_high
    bounds[at.OBS_LOW : at.OBS_LOW + at.OBS_SIZE] = space.low
    bounds[at.OBS_HIGH : at.OBS_HIGH + at.OBS_SIZE] = space.high
    bounds[at.OBS_BASE :] = observation_base(task)
    return bounds


def observation_base(task: Task) -> NDArray[np.float64]:
    """The constant part of the half observation ``[18]``: the objects' offsets, and quaternions that never change."""
    base = np.zeros(at.HALF_OBS)
    for number, item in enumerate(task.objects):
        start = 4 + 7 * number
        base[start : start + 3] = item.offset
        if item.quat.convention == "unit":
            base[start + 3] = 1.0
    return base
