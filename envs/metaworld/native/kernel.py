"""The compiled step: state in, five ``mj_step`` and one ``mj_forward``, observation, reward and state out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mtrl.envs.compiled import kernel
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.jit import (
    call_reward,
    call_two,
    load_f64,
    load_i32,
    load_i64,
    store_f64,
)
from mtrl.envs.metaworld.native.physics import advance, forget_pairs, forward, is_diverged

ACTION_SCALE = np.float32(0.01)


@kernel
def clip(value: float, low: float, high: float) -> float:
    """As ``numpy.clip``: NaN stays NaN."""
    if value < low:
        return low
    return high if value > high else value


@kernel
def copy_in(address: int, row: NDArray, start: int, count: int) -> None:
    for i in range(count):
        store_f64(address, i, row[start + i])


@kernel
def copy_out(address: int, row: NDArray, start: int, count: int) -> None:
    for i in range(count):
        row[start + i] = load_f64(address, i)


@kernel
def load(ctx: NDArray, state: NDArray, init: NDArray) -> None:
    """Put one environment's state into the simulation."""
    forget_pairs(ctx)
    copy_in(ctx[at.DATA_QPOS], state, at.QPOS, ctx[at.NQ])
    copy_in(ctx[at.DATA_QVEL], state, at.QVEL, ctx[at.NV])
    copy_in(ctx[at.DATA_WARMSTART], state, at.WARMSTART, ctx[at.NV])
    if ctx[at.MODEL_FIXTURE] != 0:
        copy_in(ctx[at.MODEL_FIXTURE], init, at.FIXTURE, 3)
    copy_in(ctx[at.DATA_MOCAP_POS], state, at.MOCAP, 3)
    for i in range(4):
        # The gripper always points down: (1, 0, 1, 0).
        store_f64(ctx[at.DATA_MOCAP_QUAT], i, 1.0 - (i & 1))


@kernel
def grip(ctx: NDArray, effort: float) -> None:
    store_f64(ctx[at.DATA_CTRL], 0, effort)
    store_f64(ctx[at.DATA_CTRL], 1, -effort)


@kernel
def settle(ctx: NDArray, state: NDArray, init: NDArray) -> bool:
    """Call ``load``, then the ``mj_forward`` that the previous step postponed. Returns whether there was one."""
    load(ctx, state, init)
    if state[at.OWED] == 0.0:
        return False
    grip(ctx, state[at.EFFORT])
    if is_diverged(ctx):
        call_two(ctx[at.MJ_FORWARD], ctx[at.MODEL], ctx[at.DATA])
        return False
    forward(ctx, ctx[at.STEP_MODEL])
    return True


@kernel
def place(ctx: NDArray, bounds: NDArray, state: NDArray, action: NDArray) -> None:
    """Set the controls and the mocap position by the action."""
    for i in range(3):
        # Stock clips and scales the float32 action in float32 and adds it in double.
        delta = np.float32(clip(action[i], -1.0, 1.0)) * ACTION_SCALE
        moved = clip(
            state[at.MOCAP + i] + np.float64(delta),
            bounds[at.MOCAP_LOW + i],
            bounds[at.MOCAP_HIGH + i],
        )
        store_f64(ctx[at.DATA_MOCAP_POS], i, moved)
    grip(ctx, np.float64(action[3]))


@kernel
def simulate(
    ctx: NDArray, bounds: NDArray, state: NDArray, init: NDArray, action: NDArray
) -> None:
    """Put one environment's ``state`` into the simulation and advance it by one environment step."""
    settled = settle(ctx, state, init)
    place(ctx, bounds, state, action)
    state[at.OWED] = advance(ctx, settled)
    state[at.EFFORT] = action[3]


@kernel
def save(ctx: NDArray, state: NDArray) -> None:
    """Take the simulation's state back; the mocap position too, since MuJoCo resets it when it diverges."""
    copy_out(ctx[at.DATA_QPOS], state, at.QPOS, ctx[at.NQ])
    copy_out(ctx[at.DATA_QVEL], state, at.QVEL, ctx[at.NV])
    copy_out(ctx[at.DATA_WARMSTART], state, at.WARMSTART, ctx[at.NV])
    copy_out(ctx[at.DATA_MOCAP_POS], state, at.MOCAP, 3)


@kernel
def pad_force(ctx: NDArray, pad: int) -> float:
    """Sum of the first constraint force of each contact between one finger pad and the touch geom."""
    touch = ctx[at.TOUCH_GEOM]
    forces = load_i64(ctx[at.EFC_FORCE], 0)
    contact = load_i64(ctx[at.CONTACTS], 0)
    total = 0.0
    for _ in range(load_i32(ctx[at.NCON], 0)):
        first = load_i32(contact + ctx[at.CONTACT_GEOMS], 0)
        second = load_i32(contact + ctx[at.CONTACT_GEOMS], 1)
        if (first == pad and second == touch) or (first == touch and second == pad):
            row = load_i32(contact + ctx[at.CONTACT_EFC], 0)
            if (
                row < 0
            ):  # a contact without constraint has row -1, which stock reads as "the last one"
                row += load_i32(ctx[at.NEFC], 0)
            total += load_f64(forces, row)
        contact += ctx[at.CONTACT_SIZE]
    return total


@kernel
def gather(ctx: NDArray, world: NDArray, owed: bool) -> None:
    """Fill ``world`` with the positions, joint angles and the touch flag that the task's reward reads."""
    row = at.ROWS + at.ROW_SIZE * ctx[at.NUM_ROWS]
    for _ in range(ctx[at.NUM_READS]):
        copy_out(ctx[row + 2], world, ctx[row + 1], ctx[row])
        row += at.ROW_SIZE
    world[at.TOUCH] = 0.0
    if (
        ctx[at.TOUCH_GEOM] >= 0
        and not owed  # then the pads are not even near, and the contacts are those of an earlier position
        and pad_force(ctx, ctx[at.LEFT_PAD_GEOM]) > 0
        and pad_force(ctx, ctx[at.RIGHT_PAD_GEOM]) > 0
    ):
        world[at.TOUCH] = 1.0


@kernel
def matrix_quat(m: int, half: NDArray, start: int) -> None:
    """Quaternion (x, y, z, w) of the rotation matrix at ``m``, by the rule and with the sign of scipy's Rotation."""
    trace = load_f64(m, 0) + load_f64(m, 4) + load_f64(m, 8)
    largest, choice = load_f64(m, 0), 0
    for i in range(1, 4):
        value = trace if i == 3 else load_f64(m, 4 * i)
        if value > largest:
            largest, choice = value, i
    if choice == 3:
        half[start + 0] = load_f64(m, 7) - load_f64(m, 5)
        half[start + 1] = load_f64(m, 2) - load_f64(m, 6)
        half[start + 2] = load_f64(m, 3) - load_f64(m, 1)
        half[start + 3] = 1.0 + trace
    else:
        i, j, k = choice, (choice + 1) % 3, (choice + 2) % 3
        half[start + i] = 1.0 - trace + 2.0 * load_f64(m, 4 * i)
        half[start + j] = load_f64(m, 3 * j + i) + load_f64(m, 3 * i + j)
        half[start + k] = load_f64(m, 3 * k + i) + load_f64(m, 3 * i + k)
        half[start + 3] = load_f64(m, 3 * k + j) - load_f64(m, 3 * j + k)
    norm = 0.0
    for i in range(4):
        norm += half[start + i] * half[start + i]
    norm = math.sqrt(norm)
    for i in range(4):
        half[start + i] /= norm


@kernel
def observe(ctx: NDArray, bounds: NDArray, world: NDArray, half: NDArray) -> None:
    """The half observation: hand position, gripper opening, then position and quaternion of one or two objects."""
    for i in range(at.HALF_OBS):
        half[i] = bounds[at.OBS_BASE + i]
    opening = 0.0
    for i in range(3):
        half[i] = world[at.HAND + i]
        difference = world[at.RIGHT_CLAW + i] - world[at.LEFT_CLAW + i]
        opening += difference * difference
    half[3] = clip(math.sqrt(opening) / 0.1, 0.0, 1.0)
    for number in range(ctx[at.NUM_ROWS]):
        row = at.ROWS + at.ROW_SIZE * number
        kind, start, source = ctx[row], ctx[row + 1], ctx[row + 2]
        if kind == at.COPY3 or kind == at.COPY4:
            for i in range(3 if kind == at.COPY3 else 4):
                half[start + i] += load_f64(source, i)
        elif kind == at.MATRIX_QUAT:
            matrix_quat(source, half, start)
        else:  # the point on the dial's rim that its angle points at
            angle = load_f64(ctx[row + 3], 0)
            half[start + 0] = load_f64(source, 0) + math.sin(angle) * 0.05
            half[start + 1] = load_f64(source, 1) + -math.cos(angle) * 0.05
            half[start + 2] = load_f64(source, 2)


@kernel
def step_one(
    ctx: NDArray,
    bounds: NDArray,
    state: NDArray,
    init: NDArray,
    action: NDArray,
    obs: NDArray,
    out: NDArray,
    world: NDArray,
    half: NDArray,
) -> None:
    """Advance one environment by one step.

    Args:
        ctx: int64, addresses and sizes (``layout``) of the simulation; no two threads may share one.
        bounds: float64 ``[BOUNDS_SIZE]``.
        state: float64 ``[STATE_SIZE]``, updated in place.
        init: float64 ``[INIT_SIZE]``; a reward function may update what it keeps there.
        action: float32 ``[4]``.
        obs: float64 ``[39]``, written.
        out: float64 ``[OUT_SIZE]``, written.
        world, half: float64 ``[WORLD_SIZE]`` and ``[HALF_OBS]``, for intermediate results.
    """
    simulate(ctx, bounds, state, init, action)
    save(ctx, state)
    gather(ctx, world, state[at.OWED] != 0.0)
    observe(ctx, bounds, world, half)
    for i in range(at.HALF_OBS):
        obs[i] = half[i]
        obs[at.HALF_OBS + i] = state[at.PREVIOUS + i]
        state[at.PREVIOUS + i] = half[i]
    for i in range(3):
        obs[36 + i] = init[at.TARGET + i]
    for i in range(
        at.OBS_SIZE
    ):  # the reward sees the clipped observation, the next frame stack the unclipped
        obs[i] = clip(obs[i], bounds[at.OBS_LOW + i], bounds[at.OBS_HIGH + i])
    call_reward(
        ctx[at.REWARD_FUNCTION],
        world.ctypes.data,
        init.ctypes.data,
        np.float64(action[3]),
        obs.ctypes.data,
        out.ctypes.data,
    )


@kernel
def step_rows(
    ctx: NDArray,
    bounds: NDArray,
    state: NDArray,
    init: NDArray,
    actions: NDArray,
    obs: NDArray,
    out: NDArray,
) -> None:
    """``step_one`` for environments ``[n, ...]`` of one task in one simulation."""
    world, half = np.zeros(at.WORLD_SIZE), np.zeros(at.HALF_OBS)
    for env in range(state.shape[0]):
        step_one(
            ctx, bounds, state[env], init[env], actions[env], obs[env], out[env], world, half
        )
