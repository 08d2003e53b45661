"""Plate-slide family: reach the puck, then slide it to its goal."""

from __future__ import annotations

from typing import Any

from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.rewards import (
    distance,
    hamacher,
    tcp_center,
    tolerance,
    vec,
    write,
)
from mtrl.envs.metaworld.native.spec import Object, Task, geom, xyzw

PUCK = (Object(geom("puck"), xyzw(geom("puck"))),)


def plate_slide(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, obj_init, target = vec(obs, 4), vec(init, at.OBJ_INIT), vec(init, at.TARGET)
    obj_to_target, tcp_to_obj = distance(obj, target), distance(tcp_center(world), obj)
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target))
    grasped = tolerance(tcp_to_obj, 0.0, 0.05, distance(vec(init, at.INIT_TCP), obj_init))
    reward = 10.0 if obj_to_target < 0.05 else 8.0 * hamacher(grasped, in_place)
    write(
        out,
        reward,
        obj_to_target <= 0.07,
        tcp_to_obj <= 0.03,
        0.0,
        grasped,
        in_place,
        obj_to_target,
    )


def plate_slide_other(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    """Sideways, back and back sideways: the plate counts once the gripper is low and at it."""
    obj, obj_init, target, tcp = (
        vec(obs, 4),
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
        tcp_center(world),
    )
    obj_to_target, tcp_to_obj = distance(obj, target), distance(tcp, obj)
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target) - 0.05)
    grasped = tolerance(
        tcp_to_obj, 0.0, 0.05, distance(vec(init, at.INIT_TCP), obj_init) - 0.05
    )
    reward = 1.5 * grasped
    if tcp[2] <= 0.03 and tcp_to_obj < 0.07:
        reward = 2.0 + 7.0 * in_place
    if obj_to_target < 0.05:
        reward = 10.0
    write(
        out,
        reward,
        obj_to_target <= 0.07,
        tcp_to_obj <= 0.03,
        0.0,
        grasped,
        in_place,
        obj_to_target,
    )


# Stock means to move puck_goal in plate-slide-side and plate-slide-back too, but writes data.body(...).xpos, which the
# next forward pass overwrites; there the fixture stays where the model has it.
TASKS = (
    Task("plate-slide-v3", plate_slide, PUCK, fixture="puck_goal"),
    Task("plate-slide-side-v3", plate_slide_other, PUCK),
    Task("plate-slide-back-v3", plate_slide_other, PUCK),
    Task("plate-slide-back-side-v3", plate_slide_other, PUCK, fixture="puck_goal"),
)
