"""Doors, drawer, lever and box: rewards built from the tolerance function but shared with no other task."""

from __future__ import annotations

import math
from typing import Any

from mtrl.envs.compiled import kernel
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.rewards import (
    Vec,
    add,
    clip,
    distance,
    hamacher,
    kept,
    mul,
    norm,
    norm2,
    quat_error,
    read,
    rounded,
    sub,
    tcp_center,
    tolerance,
    tolerance_gaussian,
    vec,
    write,
)
from mtrl.envs.metaworld.native.spec import Object, Task, body, geom, joint, site, wxyz, xyzw


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
    opened = trying + 0.8 * tolerance(
        math.pi / 2.0 + math.pi / 6 - -theta, 0.0, 0.5, math.pi / 3.0
    )
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
    write(
        out,
        (caging + opening) * 5.0,
        handle_error <= 0.03,
        near,
        obs[3] > 0.0,
        caging,
        opening,
        handle_error,
    )


def door_close(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, target = vec(obs, 4), vec(init, at.TARGET)
    obj_to_target = distance(obj, target)
    in_place = tolerance_gaussian(
        obj_to_target, 0.0, 0.05, distance(vec(init, at.OBJ_INIT), target)
    )
    # The margin follows the door: stock measures it from the handle's current position.
    hand_margin = distance(vec(init, at.HAND_INIT), obj) + 0.1
    hand_in_place = tolerance_gaussian(
        distance(tcp_center(world), target), 0.0, 0.25 * 0.05, hand_margin
    )
    reward = 10.0 if obj_to_target < 0.05 else 3.0 * hand_in_place + 6.0 * in_place
    write(out, reward, obj_to_target <= 0.08, 0.0, 1.0, 1.0, hand_in_place, obj_to_target)


@kernel
def shoulder_to(hand: Vec, obj: Vec, scale: Vec) -> float:
    """Scaled distance from what stock calls the shoulder, a point above and beyond the hand, to ``obj``."""
    return norm(mul(sub(add(hand, (0.0, 0.055, 0.07)), obj), scale))


def door_unlock(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    lock, scale = vec(obs, 4), (0.25, 1.0, 0.5)
    shoulder_to_lock = shoulder_to(vec(obs, 0), lock, scale)
    # Stock's obj_init_pos is a view of the lock's live position, but the lock turns about that very point.
    margin = shoulder_to(vec(init, at.INIT_TCP), vec(init, at.OBJ_INIT), scale)
    ready = tolerance(shoulder_to_lock, 0.0, 0.02, margin)
    obj_to_target = abs(init[at.TARGET] - lock[0])
    pushed = tolerance(obj_to_target, 0.0, 0.005, 0.1)
    reward = 2.0 * ready + 8.0 * pushed
    write(
        out,
        reward,
        obj_to_target <= 0.02,
        shoulder_to_lock <= 0.05,
        obs[3] > 0.0,
        ready,
        pushed,
        obj_to_target,
    )


def lever_pull(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    lever, lever_init, target, scale = (
        vec(obs, 4),
        kept(init, 0),
        vec(init, at.TARGET),
        (4.0, 1.0, 4.0),
    )
    shoulder_to_lever = shoulder_to(vec(obs, 0), lever, scale)
    ready = tolerance(
        shoulder_to_lever, 0.0, 0.02, shoulder_to(vec(init, at.INIT_TCP), lever_init, scale)
    )
    lever_error = abs(-read(world, 0)[0] - math.pi / 2.0)
    engagement = tolerance(lever_error, 0.0, math.pi / 48.0, math.pi / 2.0 - math.pi / 12.0)
    in_place = tolerance(distance(lever, target), 0.0, 0.04, distance(lever_init, target))
    reward = 10.0 * hamacher(ready, in_place)
    success = lever_error <= math.pi / 24.0
    # in_place_reward is the angle's, which the reward does not use; obj_to_target is the gripper's way to the lever
    write(
        out,
        reward,
        success,
        shoulder_to_lever < 0.03,
        ready > 0.9,
        ready,
        engagement,
        shoulder_to_lever,
    )


def box_close(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    hand, target, grab = vec(obs, 0), vec(init, at.TARGET), grab_effort(effort)
    lid = add(vec(obs, 4), (0.0, 0.0, 0.02))
    upright = max(1.0 - quat_error(obs, 0.707, 0.707) / 0.2, 0.0)
    above = above_floor(norm2(hand[0] - lid[0], hand[1] - lid[1]), 0.02, hand[2])
    ready = hamacher(above, tolerance(distance(hand, lid), 0.0, 0.02, 0.5))
    error = norm(mul(sub(target, lid), (1.0, 1.0, 3.0)))
    lifted = (0.2 if lid[2] > 0.04 else 0.0) + 0.8 * tolerance(error, 0.0, 0.05, 0.25)
    success = distance(vec(obs, 4), target) < 0.08
    reward = 10.0 if success else 2.0 * hamacher(grab, ready) + 8.0 * lifted
    # near_object is the readiness itself and obj_to_target always 0, as stock has it
    write(out, reward * upright, success, ready, grab >= 0.5, grab, lifted, 0.0)


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
    Task(
        "door-close-v3",
        door_close,
        (Object(geom("handle"), xyzw(geom("handle"))),),
        fixture="door",
    ),
    Task(
        "door-unlock-v3",
        door_unlock,
        (Object(site("lockStartUnlock"), wxyz("door_link")),),
        fixture="door",
    ),
    Task(
        "lever-pull-v3",
        lever_pull,
        (Object(site("leverStart"), xyzw(geom("objGeom"))),),
        reads=(joint("LeverAxis"),),
        kept=("_lever_pos_init",),
        fixture="lever",
    ),
    Task(
        "box-close-v3",
        box_close,
        (Object(body("top_link"), wxyz("top_link")),),
        fixture="boxbody",
    ),
)
