"""Base caging with tools: pegs, nuts, handles, hammer and stick, where the goal is reached by something held."""

from __future__ import annotations

from typing import Any

from envs.metaworld.native import layout as at
from envs.metaworld.native.jit import kernel
from envs.metaworld.native.rewards import (
    Vec,
    add,
    caging_high,
    distance,
    hamacher32,
    kept,
    mul,
    norm,
    read,
    sub,
    tcp_center,
    tolerance,
    vec,
    write,
)
from envs.metaworld.native.spec import ZEROS, Object, Task, body, site, xyzw


@kernel
def inserted(handle: Vec, end: Vec) -> bool:
    return end[0] >= handle[0] and abs(end[1] - handle[1]) <= 0.04 and abs(end[2] - handle[2]) <= 0.06


def stick_pull(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    stick, handle, opened, end = vec(obs, 4), vec(obs, 11), obs[3], read(world, 0)
    obj_init, target, stick_init = vec(init, at.OBJ_INIT), vec(init, at.TARGET), kept(init, 0)
    offset, scale = (0.05, 0.0, 0.0), (1.0, 1.0, 2.0)
    container = add(handle, offset)
    tcp_to_stick, handle_to_target = distance(stick, tcp_center(world)), distance(handle, target)
    margin = norm(mul(sub(stick_init, add(obj_init, offset)), scale))
    stick_in_place = tolerance(norm(mul(sub(stick, container), scale)), 0.0, 0.05, margin)
    stick_in_place_2 = tolerance(distance(stick, target), 0.0, 0.05, distance(stick_init, target))
    container_in_place = tolerance(distance(container, target), 0.0, 0.05, distance(obj_init, target))
    grasped, is32 = caging_high(world, init, stick, obj_init, effort, 0.014, 0.05, 0.01, 1.0)
    held = tcp_to_stick < 0.02 and opened > 0.0 and stick[2] - 0.01 > stick_init[2]
    if held:
        grasped, is32 = 1.0, False
    both = hamacher32(grasped, stick_in_place, is32)
    reward = both
    if held:
        reward = 1.0 + both + 5.0 * stick_in_place
        if inserted(handle, end):
            reward = 1.0 + both + 5.0 + 2.0 * stick_in_place_2 + 1.0 * container_in_place
            if handle_to_target <= 0.12:
                reward = 10.0
    success = handle_to_target <= 0.12 and inserted(handle, end)
    lifted = world[at.TOUCH] > 0.0 and opened > 0.0 and stick[2] - 0.02 > obj_init[2]
    write(out, reward, success, tcp_to_stick <= 0.03, lifted, grasped, stick_in_place, handle_to_target)


TASKS = (
    Task(
        "stick-pull-v3",
        stick_pull,
        (Object(body("stick"), xyzw(body("stick"))), Object(site("insertion"), ZEROS)),
        reads=(site("stick_end"),),
        kept=("stick_init_pos",),
        touch="objGeom",
    ),
)
