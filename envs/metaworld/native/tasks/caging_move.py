"""Base caging, moving an object: the base class's caging reward times or plus the object's way to its goal."""

from __future__ import annotations

import math
from typing import Any

from envs.metaworld.native import layout as at
from envs.metaworld.native.jit import kernel
from envs.metaworld.native.rewards import (
    caging_high,
    distance,
    hamacher,
    hamacher32,
    norm2,
    rounded,
    tcp_center,
    tolerance,
    vec,
    write,
)
from envs.metaworld.native.spec import Object, Task, body, geom, wxyz, xyzw


def push(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = vec(obs, 4), obs[3], vec(init, at.OBJ_INIT), vec(init, at.TARGET)
    tcp_to_obj, target_to_obj = distance(obj, tcp_center(world)), distance(obj, target)
    in_place = tolerance(target_to_obj, 0.0, 0.05, distance(obj_init, target))
    grasped, is32 = caging_high(world, init, obj, obj_init, effort, 0.015, 0.05, 0.005, 1.0)
    reward = rounded(2.0 * grasped, is32)
    if tcp_to_obj < 0.02 and opened > 0.0:
        bonus = rounded(rounded(1.0 + reward, is32) + rounded(5.0 * in_place, is32), is32)
        reward = rounded(reward + bonus, is32)
    if target_to_obj < 0.05:
        reward = 10.0
    lifted = world[at.TOUCH] > 0.0 and opened > 0.0 and obj[2] - 0.02 > obj_init[2]
    write(out, reward, target_to_obj <= 0.05, tcp_to_obj <= 0.03, lifted, grasped, in_place, target_to_obj)


@kernel
def funnel(radius: float) -> float:
    """Height of the floor around a bin, 0 near its middle."""
    return 0.02 * math.log(radius - 0.03) + 0.2 if radius > 0.03 else 0.0


def bin_picking(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    hand, obj, obj_init, target = vec(obs, 0), vec(obs, 4), vec(init, at.OBJ_INIT), vec(init, at.TARGET)
    target_to_obj = distance(obj, target)
    if math.isnan(init[at.KEPT]):  # stock sets the margin at the first step after a reset, not in the reset
        init[at.KEPT] = target_to_obj
    in_place = tolerance(target_to_obj, 0.0, 0.05, init[at.KEPT])
    floor = min(
        funnel(norm2(hand[0] - obj_init[0], hand[1] - obj_init[1])),
        funnel(norm2(hand[0] - target[0], hand[1] - target[1])),
    )
    above_floor = 1.0 if hand[2] >= floor else tolerance(max(floor - hand[2], 0.0), 0.0, 0.01, 0.05)
    grasped, is32 = caging_high(world, init, obj, obj_init, effort, 0.015, 0.05, 0.01, 0.7)
    reward = hamacher32(grasped, in_place, is32)
    near = distance(obj, hand) < 0.04
    held = near and obj[2] - 0.02 > obj_init[2] and not obs[3] < 0.43
    if held:
        reward = rounded(reward + rounded(1.0 + 5.0 * hamacher(above_floor, in_place), is32), is32)
    if target_to_obj < 0.05:
        reward = 10.0
    write(out, reward, target_to_obj <= 0.05, near, held, grasped, in_place, target_to_obj)


TASKS = (
    Task("push-v3", push, (Object(body("obj"), xyzw(geom("objGeom"))),), touch="objGeom"),
    Task("bin-picking-v3", bin_picking, (Object(body("obj"), wxyz("obj")),), kept=("_target_to_obj_init",)),
)
