"""Reach family: only the distance between gripper and goal counts."""

from __future__ import annotations

from typing import Any

from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.rewards import distance, tcp_center, tolerance, vec, write
from mtrl.envs.metaworld.native.spec import Object, Task, body, geom, xyzw


def reach(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    target = vec(init, at.TARGET)
    tcp_to_target = distance(tcp_center(world), target)
    in_place = tolerance(tcp_to_target, 0.0, 0.05, distance(vec(init, at.HAND_INIT), target))
    # near_object and grasp_reward are the distance itself, as stock has it
    write(
        out,
        10.0 * in_place,
        tcp_to_target <= 0.05,
        tcp_to_target,
        1.0,
        tcp_to_target,
        in_place,
        tcp_to_target,
    )


def reach_wall(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    target = vec(init, at.TARGET)
    tcp_to_target = distance(tcp_center(world), target)
    in_place = tolerance(tcp_to_target, 0.0, 0.05, distance(vec(init, at.HAND_INIT), target))
    write(out, 10.0 * in_place, tcp_to_target <= 0.05, 0.0, 0.0, 0.0, in_place, tcp_to_target)


PUCK = (Object(body("obj"), xyzw(geom("objGeom"))),)
TASKS = (Task("reach-v3", reach, PUCK), Task("reach-wall-v3", reach_wall, PUCK))
