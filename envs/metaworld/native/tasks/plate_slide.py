"""Plate-slide family: reach the puck, then slide it to its goal."""

from __future__ import annotations

from typing import Any

from envs.metaworld.native import layout as at
from envs.metaworld.native.rewards import distance, hamacher, tcp_center, tolerance, vec, write
from envs.metaworld.native.spec import Object, Task, geom, xyzw

PUCK = (Object(geom("puck"), xyzw(geom("puck"))),)


def plate_slide(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, obj_init, target = vec(obs, 4), vec(init, at.OBJ_INIT), vec(init, at.TARGET)
    obj_to_target, tcp_to_obj = distance(obj, target), distance(tcp_center(world), obj)
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target))
    grasped = tolerance(tcp_to_obj, 0.0, 0.05, distance(vec(init, at.INIT_TCP), obj_init))
    reward = 10.0 if obj_to_target < 0.05 else 8.0 * hamacher(grasped, in_place)
    write(out, reward, obj_to_target <= 0.07, tcp_to_obj <= 0.03, 0.0, grasped, in_place, obj_to_target)


TASKS = (Task("plate-slide-v3", plate_slide, PUCK, fixture="puck_goal"),)
