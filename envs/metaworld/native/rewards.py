"""Building blocks of the stock V2 rewards, as scalar functions.

Stock mixes precisions: the gripper's effort is a float32 and turns what it meets into float32 unless that is a float64
scalar or array (a Python float is "weak"). Values that may be float32 are therefore returned as ``(value, is32)``, and
further operations on them go through ``rounded`` or ``hamacher32``, one call per stock operation. Doing one operation
in double and rounding it is exactly the float32 operation.

Vectors are tuples of three floats, which live in registers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mtrl.envs.compiled import kernel
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.kernel import clip as clip

Vec = tuple[float, float, float]


@kernel
def vec(array: Any, start: int) -> Vec:
    """The position at ``start`` of world, init or obs."""
    return array[start], array[start + 1], array[start + 2]


@kernel
def read(world: Any, number: int) -> Vec:
    """The ``number``-th of the task's ``reads`` (a joint's position is its first component)."""
    return vec(world, at.READ + 3 * number)


@kernel
def kept(init: Any, number: int) -> Vec:
    """The ``number``-th of the task's ``kept`` attributes (a single number is the first component)."""
    return vec(init, at.KEPT + 3 * number)


@kernel
def tcp_center(world: Any) -> Vec:
    """Stock's ``tcp_center``: the middle between the fingertips."""
    right, left = vec(world, at.RIGHT_TIP), vec(world, at.LEFT_TIP)
    return (right[0] + left[0]) / 2.0, (right[1] + left[1]) / 2.0, (right[2] + left[2]) / 2.0


@kernel
def add(a: Vec, b: Vec) -> Vec:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@kernel
def sub(a: Vec, b: Vec) -> Vec:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@kernel
def mul(a: Vec, b: Vec) -> Vec:
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


@kernel
def norm(a: Vec) -> float:
    return math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


@kernel
def norm2(x: float, y: float) -> float:
    return math.sqrt(x * x + y * y)


@kernel
def distance(a: Vec, b: Vec) -> float:
    return norm(sub(a, b))


@kernel
def quat_error(obs: Any, ideal_w: float, ideal_z: float) -> float:
    """Distance of the first object's quaternion (wxyz) from ``(ideal_w, 0, 0, ideal_z)``."""
    w, x, y, z = obs[7] - ideal_w, obs[8], obs[9], obs[10] - ideal_z
    return math.sqrt(w * w + x * x + y * y + z * z)


@kernel
def rounded(value: float, is32: bool) -> float:
    """The result of one stock operation that may have been carried out in float32."""
    return np.float64(np.float32(value)) if is32 else value


@kernel
def tolerance(x: float, low: float, high: float, margin: float) -> float:
    """1 inside [low, high], falling off with a long tail to 0.1 at ``margin`` outside. Stock: ``sigmoid="long_tail"``.

    NaN for a negative margin, where stock raises.
    """
    if margin < 0.0:
        return math.nan
    if low <= x <= high:
        return 1.0
    if margin == 0.0:
        return 0.0
    d = (low - x if x < low else x - high) / margin * 3.0
    return 1.0 / (d * d + 1.0)


@kernel
def tolerance_gaussian(x: float, low: float, high: float, margin: float) -> float:
    """As ``tolerance`` with stock's ``sigmoid="gaussian"`` (also its default)."""
    if margin < 0.0:
        return math.nan
    if low <= x <= high:
        return 1.0
    if margin == 0.0:
        return 0.0
    d = (low - x if x < low else x - high) / margin * math.sqrt(-2.0 * math.log(0.1))
    return math.exp(-0.5 * (d * d))


@kernel
def hamacher32(a: float, b: float, is32: bool) -> float:
    """Stock's ``hamacher_product``, in float32 if either factor is a float32 and the other a float32 or Python float.

    NaN outside [0, 1], where stock raises.
    """
    a, b = rounded(a, is32), rounded(b, is32)
    if not (0.0 <= a <= 1.0 and 0.0 <= b <= 1.0):
        return math.nan
    product = rounded(a * b, is32)
    denominator = rounded(rounded(a + b, is32) - product, is32)
    return rounded(product / denominator, is32) if denominator > 0.0 else 0.0


@kernel
def hamacher(a: float, b: float) -> float:
    """Stock's ``hamacher_product`` of two doubles."""
    return hamacher32(a, b, False)


@kernel
def gripper_closed(effort: float, desired: float) -> tuple[float, bool]:
    """Stock's ``min(max(0, action[-1]), desired) / desired`` and whether it is a float32.

    Where the clipping picks one of the bounds the result is a Python number; a NaN action gives 0.
    """
    if not effort > 0.0:
        return 0.0, False
    if rounded(desired, True) < effort:
        return 1.0, False
    return rounded(effort / rounded(desired, True), True), True


@kernel
def pinch(
    world: Any,
    init: Any,
    obj: Vec,
    obj_init: Vec,
    effort: float,
    obj_radius: float,
    pad_success_thresh: float,
    xz_thresh: float,
    desired_effort: float,
) -> tuple[float, float, bool]:
    """Caging, and caging combined with gripping: ``(caging, combined, is32 of combined)``.

    The common part of the base class's ``_gripper_caging_reward``; ``obj_init`` is what it calls ``self.obj_init_pos``.
    """
    left = pad_caging(
        world[at.LEFT_PAD + 1], obj[1], obj_init[1], obj_radius, pad_success_thresh
    )
    right = pad_caging(
        world[at.RIGHT_PAD + 1], obj[1], obj_init[1], obj_radius, pad_success_thresh
    )
    tcp, init_tcp = tcp_center(world), vec(init, at.INIT_TCP)
    margin = norm2(obj_init[0] - init_tcp[0], obj_init[2] - init_tcp[2]) - xz_thresh
    caging_xz = tolerance(norm2(tcp[0] - obj[0], tcp[2] - obj[2]), 0.0, xz_thresh, margin)
    caging = hamacher(hamacher(left, right), caging_xz)
    closed, is32 = gripper_closed(effort, desired_effort)
    if not caging > 0.97:
        closed, is32 = 0.0, False
    return caging, hamacher32(caging, closed, is32), is32


@kernel
def pad_caging(
    pad_y: float, obj_y: float, obj_init_y: float, obj_radius: float, pad_success_thresh: float
) -> float:
    margin = abs(abs(pad_y - obj_init_y) - pad_success_thresh)
    return tolerance(abs(pad_y - obj_y), obj_radius, pad_success_thresh, margin)


@kernel
def caging_high(
    world: Any,
    init: Any,
    obj: Vec,
    obj_init: Vec,
    effort: float,
    obj_radius: float,
    pad_success_thresh: float,
    xz_thresh: float,
    desired_effort: float,
) -> tuple[float, bool]:
    """Stock's ``_gripper_caging_reward(..., high_density=True)``: ``(value, is32)``."""
    caging, combined, is32 = pinch(
        world,
        init,
        obj,
        obj_init,
        effort,
        obj_radius,
        pad_success_thresh,
        xz_thresh,
        desired_effort,
    )
    return rounded(rounded(combined + rounded(caging, is32), is32) / 2.0, is32), is32


@kernel
def caging_medium(
    world: Any,
    init: Any,
    obj: Vec,
    obj_init: Vec,
    effort: float,
    obj_radius: float,
    pad_success_thresh: float,
    object_reach_radius: float,
    xz_thresh: float,
    desired_effort: float,
) -> tuple[float, bool]:
    """Stock's ``_gripper_caging_reward(..., medium_density=True)``: ``(value, is32)``."""
    _, combined, is32 = pinch(
        world,
        init,
        obj,
        obj_init,
        effort,
        obj_radius,
        pad_success_thresh,
        xz_thresh,
        desired_effort,
    )
    reach_margin = abs(distance(obj_init, vec(init, at.INIT_TCP)) - object_reach_radius)
    reach = tolerance(distance(obj, tcp_center(world)), 0.0, object_reach_radius, reach_margin)
    return rounded(rounded(combined + rounded(reach, is32), is32) / 2.0, is32), is32


@kernel
def write(
    out: Any,
    reward: float,
    success: bool,
    near_object: float,
    grasp_success: float,
    grasp_reward: float,
    in_place_reward: float,
    obj_to_target: float,
) -> None:
    """Fill ``out``; the last act of every reward function."""
    out[at.REWARD] = reward
    out[at.SUCCESS] = 1.0 if success else 0.0
    out[at.NEAR_OBJECT] = near_object
    out[at.GRASP_SUCCESS] = grasp_success
    out[at.GRASP_REWARD] = grasp_reward
    out[at.IN_PLACE_REWARD] = in_place_reward
    out[at.OBJ_TO_TARGET] = obj_to_target
