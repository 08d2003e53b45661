"""Own caging: tasks that replace the base class's caging reward with one of their own."""

from __future__ import annotations

from typing import Any

from envs.metaworld.native import layout as at
from envs.metaworld.native.jit import kernel
from envs.metaworld.native.rewards import (
    Vec,
    distance,
    gripper_closed,
    hamacher,
    hamacher32,
    norm2,
    rounded,
    tcp_center,
    tolerance,
    vec,
    write,
)
from envs.metaworld.native.spec import Object, Task, body, geom, xyzw


@kernel
def side_caging(world: Any, obj_y: float, left: bool, obj_radius: float, success_margin: float) -> float:
    """How well one pad is placed beside the object.

    Stock's ``init_left_pad`` and ``init_right_pad`` are views of the live pads here, not copies taken at reset.
    """
    pad_y = world[(at.LEFT_PAD if left else at.RIGHT_PAD) + 1]
    delta = pad_y - obj_y if left else obj_y - pad_y
    return tolerance(delta, obj_radius, success_margin, abs(abs(obj_y - pad_y) - 0.05))


@kernel
def xz_caging(world: Any, init: Any, obj: Vec, success_margin: float) -> float:
    tcp, init_tcp, obj_init = tcp_center(world), vec(init, at.INIT_TCP), vec(init, at.OBJ_INIT)
    margin = norm2(obj_init[0] - init_tcp[0], obj_init[2] - init_tcp[2]) - success_margin
    return tolerance(norm2(tcp[0] - obj[0], tcp[2] - obj[2]), 0.0, success_margin, margin)


def pick_place(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = vec(obs, 4), obs[3], vec(init, at.OBJ_INIT), vec(init, at.TARGET)
    obj_to_target, tcp_to_obj = distance(obj, target), distance(obj, tcp_center(world))
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target))
    left = side_caging(world, obj[1], True, 0.015, 0.05)
    right = side_caging(world, obj[1], False, 0.015, 0.05)
    caging = hamacher(hamacher(left, right), xz_caging(world, init, obj, 0.005))
    closed, is32 = gripper_closed(effort, 1.0)
    if not caging > 0.97:
        closed, is32 = 0.0, False
    grasped = rounded(rounded(hamacher32(caging, closed, is32) + rounded(caging, is32), is32) / 2.0, is32)
    reward = hamacher32(grasped, in_place, is32)
    if tcp_to_obj < 0.02 and opened > 0.0 and obj[2] - 0.01 > obj_init[2]:
        reward = rounded(reward + rounded(1.0 + 5.0 * in_place, is32), is32)
    if obj_to_target < 0.05:
        reward = 10.0
    lifted = world[at.TOUCH] > 0.0 and opened > 0.0 and obj[2] - 0.02 > obj_init[2]
    write(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, lifted, grasped, in_place, obj_to_target)


TASKS = (Task("pick-place-v3", pick_place, (Object(body("obj"), xyzw(geom("objGeom"))),), touch="objGeom"),)
