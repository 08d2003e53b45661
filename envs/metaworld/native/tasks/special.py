"""Doors, drawer, lever and box: rewards built from the tolerance function but shared with no other task."""

from __future__ import annotations

import math
from typing import Any

from envs.metaworld.native import layout as at
from envs.metaworld.native.jit import kernel
from envs.metaworld.native.rewards import (
    add,
    clip,
    distance,
    hamacher,
    mul,
    norm,
    norm2,
    read,
    rounded,
    sub,
    tolerance,
    vec,
    write,
)
from envs.metaworld.native.spec import Object, Task, body, geom, joint, wxyz, xyzw


@kernel
def grab_effort(effort: float) -> float:
    """``(clip(action[3], -1, 1) + 1) / 2``, computed in float32 and then made a Python float."""
    return rounded(rounded(clip(effort, -1.0, 1.0) + 1.0, True) / 2.0, True)


@kernel
def above_floor(radius: float, threshold: float, height: float) -> float:
    """1 above a funnel around the handle, less below it."""
    floor = 0.0 if radius <= threshold else 0.04 * math.log(radius - threshold) + 0.4
    return 1.0 if height >= floor else tolerance(floor - height, 0.0, 0.01, floor / 2.0)


def door_open(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    theta, hand, grab = read(world, 0)[0], vec(obs, 0), grab_effort(effort)
    door = add(vec(obs, 4), (-0.05, 0.0, 0.0))
    above = above_floor(norm2(hand[0] - door[0], hand[1] - door[1]), 0.12, hand[2])
    in_place = tolerance(norm(sub(sub(hand, door), (0.05, 0.03, -0.01))), 0.0, 0.06, 0.5)
    ready = hamacher(above, in_place)
    trying = 0.2 if theta < -math.pi / 90.0 else 0.0
    opened = trying + 0.8 * tolerance(math.pi / 2.0 + math.pi / 6 - -theta, 0.0, 0.5, math.pi / 3.0)
    reward = 2.0 * hamacher(ready, grab) + 8.0 * opened
    success = abs(obs[4] - init[at.TARGET]) <= 0.08
    if success:
        reward = 10.0
    write(out, reward, success, ready, grab >= 0.5, grab, opened, 0.0)


def drawer_open(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    gripper, handle, target = vec(obs, 0), vec(obs, 4), vec(init, at.TARGET)
    scale = (3.0, 3.0, 1.0)
    handle_error = distance(handle, target)
    opening = tolerance(handle_error, 0.0, 0.02, 0.2)
    handle_init = add(target, (0.0, 0.2, 0.0))
    margin = norm(mul(sub(handle_init, vec(init, at.INIT_TCP)), scale))
    caging = tolerance(norm(mul(sub(handle, gripper), scale)), 0.0, 0.01, margin)
    near = distance(handle, gripper) <= 0.03
    write(out, (caging + opening) * 5.0, handle_error <= 0.03, near, obs[3] > 0.0, caging, opening, handle_error)


TASKS = (
    Task(
        "door-open-v3",
        door_open,
        (Object(geom("handle"), xyzw(geom("handle"))),),
        reads=(joint("doorjoint"),),
        fixture="door",
    ),
    Task(
        "drawer-open-v3",
        drawer_open,
        (Object(body("drawer_link"), wxyz("drawer_link"), (0.0, -0.16, 0.0)),),
        fixture="drawer",
    ),
)
