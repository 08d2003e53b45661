"""Base caging, moving an object: the base class's caging reward times or plus the object's way to its goal.

``pick-place-wall`` and ``shelf-place`` ask stock for no density: ``pinch`` without ``caging_high``'s average.
"""

from __future__ import annotations

import math
from typing import Any

from mtrl.envs.compiled import kernel
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.rewards import (
    caging_high,
    caging_medium,
    clip,
    distance,
    hamacher,
    hamacher32,
    mul,
    norm,
    norm2,
    pinch,
    rounded,
    sub,
    tcp_center,
    tolerance,
    vec,
    write,
)
from mtrl.envs.metaworld.native.spec import Object, Task, body, geom, wxyz, xyzw


@kernel
def plus32(a: float, b: float, is32: bool) -> float:
    """Stock's ``a + b`` where ``a`` may be a float32 and ``b`` is a Python float."""
    return rounded(a + rounded(b, is32), is32)


def push(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    tcp_to_obj, target_to_obj = distance(obj, tcp_center(world)), distance(obj, target)
    in_place = tolerance(target_to_obj, 0.0, 0.05, distance(obj_init, target))
    grasped, is32 = caging_high(world, init, obj, obj_init, effort, 0.015, 0.05, 0.005, 1.0)
    reward = rounded(2.0 * grasped, is32)
    if tcp_to_obj < 0.02 and opened > 0.0:
        reward = plus32(reward, plus32(plus32(reward, 1.0, is32), 5.0 * in_place, is32), is32)
    if target_to_obj < 0.05:
        reward = 10.0
    lifted = world[at.TOUCH] > 0.0 and opened > 0.0 and obj[2] - 0.02 > obj_init[2]
    write(
        out,
        reward,
        target_to_obj <= 0.05,
        tcp_to_obj <= 0.03,
        lifted,
        grasped,
        in_place,
        target_to_obj,
    )


@kernel
def funnel(radius: float) -> float:
    """Height of the floor around a bin, 0 near its middle."""
    return 0.02 * math.log(radius - 0.03) + 0.2 if radius > 0.03 else 0.0


def bin_picking(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    hand, obj, obj_init, target = (
        vec(obs, 0),
        vec(obs, 4),
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    target_to_obj = distance(obj, target)
    if math.isnan(
        init[at.KEPT]
    ):  # stock sets the margin at the first step after a reset, not in the reset
        init[at.KEPT] = target_to_obj
    in_place = tolerance(target_to_obj, 0.0, 0.05, init[at.KEPT])
    floor = min(
        funnel(norm2(hand[0] - obj_init[0], hand[1] - obj_init[1])),
        funnel(norm2(hand[0] - target[0], hand[1] - target[1])),
    )
    above_floor = (
        1.0 if hand[2] >= floor else tolerance(max(floor - hand[2], 0.0), 0.0, 0.01, 0.05)
    )
    grasped, is32 = caging_high(world, init, obj, obj_init, effort, 0.015, 0.05, 0.01, 0.7)
    reward = hamacher32(grasped, in_place, is32)
    near = distance(obj, hand) < 0.04
    held = near and obj[2] - 0.02 > obj_init[2] and not obs[3] < 0.43
    if held:
        reward = plus32(reward, 1.0 + 5.0 * hamacher(above_floor, in_place), is32)
    if target_to_obj < 0.05:
        reward = 10.0
    write(out, reward, target_to_obj <= 0.05, near, held, grasped, in_place, target_to_obj)


def push_wall(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    tcp_to_obj, obj_to_target = distance(obj, tcp_center(world)), distance(obj, target)
    midpoint, scale = (-0.05, 0.77, obj[2]), (3.0, 1.0, 1.0)
    # The midpoint follows the object's height, so the margin changes from step to step.
    margin = norm(mul(sub(obj_init, midpoint), scale))
    around = tolerance(norm(mul(sub(obj, midpoint), scale)), 0.0, 0.05, margin)
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target))
    grasped, is32 = caging_high(world, init, obj, obj_init, effort, 0.015, 0.05, 0.005, 1.0)
    reward = rounded(2.0 * grasped, is32)
    if tcp_to_obj < 0.02 and opened > 0.0:
        reward = plus32(reward, 1.0, is32)
        if obj[1] > 0.75:
            reward = plus32(plus32(reward, 4.0, is32), 3.0 * in_place, is32)
        else:
            reward = plus32(reward, 4.0 * around, is32)
    if obj_to_target < 0.05:
        reward = 10.0
    lifted = world[at.TOUCH] > 0.0 and opened > 0.0 and obj[2] - 0.02 > obj_init[2]
    write(
        out,
        reward,
        obj_to_target <= 0.07,
        tcp_to_obj <= 0.03,
        lifted,
        grasped,
        in_place,
        obj_to_target,
    )


def pick_place_wall(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    tcp_to_obj, obj_to_target = distance(obj, tcp_center(world)), distance(obj, target)
    midpoint, scale = (target[0], 0.77, 0.25), (1.0, 1.0, 3.0)
    margin = norm(mul(sub(obj_init, midpoint), scale))
    over = tolerance(norm(mul(sub(obj, midpoint), scale)), 0.0, 0.05, margin)
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target))
    _, grasped, is32 = pinch(world, init, obj, obj_init, effort, 0.015, 0.05, 0.005, 1.0)
    reward = hamacher32(grasped, over, is32)
    if tcp_to_obj < 0.02 and opened > 0.0 and obj[2] - 0.015 > obj_init[2]:
        reward = plus32(reward, 1.0, is32)
        if obj[1] > 0.75:
            reward = plus32(plus32(reward, 4.0, is32), 3.0 * in_place, is32)
        else:
            reward = plus32(reward, 4.0 * over, is32)
    if obj_to_target < 0.05:
        reward = 10.0
    lifted = world[at.TOUCH] > 0.0 and opened > 0.0 and obj[2] - 0.02 > obj_init[2]
    write(
        out,
        reward,
        obj_to_target <= 0.07,
        tcp_to_obj <= 0.03,
        lifted,
        grasped,
        in_place,
        obj_to_target,
    )


def coffee_mug(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    """Coffee-pull and coffee-push: the same reward in other scenes."""
    obj, opened, obj_init, target = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    scale, tcp_to_obj = (2.0, 2.0, 1.0), distance(obj, tcp_center(world))
    scaled = norm(mul(sub(obj, target), scale))
    in_place = tolerance(scaled, 0.0, 0.05, norm(mul(sub(obj_init, target), scale)))
    grasped, is32 = caging_medium(
        world, init, obj, obj_init, effort, 0.02, 0.05, 0.04, 0.05, 0.7
    )
    reward = hamacher32(grasped, in_place, is32)
    if tcp_to_obj < 0.04 and opened > 0.0:
        reward = plus32(reward, 1.0 + 5.0 * in_place, is32)
    if scaled < 0.05:
        reward = 10.0
    obj_to_target = distance(obj, target)  # what success and info see is not scaled
    # Stock's grasp_success asks for contact with the geom "mug", which is visual only.
    write(
        out,
        reward,
        obj_to_target <= 0.07,
        tcp_to_obj <= 0.03,
        False,
        grasped,
        in_place,
        obj_to_target,
    )


def hand_insert(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    tcp_to_obj, target_to_obj = distance(obj, tcp_center(world)), distance(obj, target)
    in_place = tolerance(target_to_obj, 0.0, 0.05, distance(obj_init, target))
    grasped, is32 = caging_high(world, init, obj, obj_init, effort, 0.015, 0.05, 0.005, 1.0)
    reward = hamacher32(grasped, in_place, is32)
    if tcp_to_obj < 0.02 and opened > 0.0:
        reward = plus32(reward, 1.0 + 7.0 * in_place, is32)
    if target_to_obj < 0.05:
        reward = 10.0
    lifted = world[at.TOUCH] > 0.0 and opened > 0.0 and obj[2] - 0.02 > obj_init[2]
    write(
        out,
        reward,
        target_to_obj <= 0.05,
        tcp_to_obj <= 0.03,
        lifted,
        grasped,
        in_place,
        target_to_obj,
    )


def shelf_place(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    tcp_to_obj, obj_to_target = distance(obj, tcp_center(world)), distance(obj, target)
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target))
    _, grasped, is32 = pinch(world, init, obj, obj_init, effort, 0.02, 0.05, 0.01, 1.0)
    reward = hamacher32(grasped, in_place, is32)
    below, front = 0.0 < obj[2] < 0.24, target[1] - 3.0 * 0.05
    if below and target[0] - 0.15 < obj[0] < target[0] + 0.15:
        if front < obj[1] < target[1]:
            bound_loss = hamacher((obj[1] - front) / (3.0 * 0.05), (0.24 - obj[2]) / 0.24)
            in_place = clip(in_place - bound_loss, 0.0, 1.0)
            is32 = False  # np.clip gives an np.float64
        elif obj[1] > target[1]:
            in_place = 0.0
    if tcp_to_obj < 0.025 and opened > 0.0 and obj[2] - 0.01 > obj_init[2]:
        reward = plus32(reward, 1.0 + 5.0 * in_place, is32)
    if obj_to_target < 0.05:
        reward = 10.0
    lifted = world[at.TOUCH] > 0.0 and opened > 0.0 and obj[2] - 0.02 > obj_init[2]
    write(
        out,
        reward,
        obj_to_target <= 0.07,
        tcp_to_obj <= 0.03,
        lifted,
        grasped,
        in_place,
        obj_to_target,
    )


def basketball(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, goal = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    # The reward aims at a fixed height over the observed goal, and its distance is what info and success see.
    target, scale = (goal[0], goal[1], 0.3), (1.0, 1.0, 2.0)
    tcp_to_obj, target_to_obj = (
        distance(obj, tcp_center(world)),
        norm(mul(sub(obj, target), scale)),
    )
    in_place = tolerance(target_to_obj, 0.0, 0.08, norm(mul(sub(obj_init, target), scale)))
    grasped, is32 = caging_high(world, init, obj, obj_init, effort, 0.025, 0.06, 0.005, 1.0)
    held = tcp_to_obj < 0.035 and opened > 0.0 and obj[2] - 0.01 > obj_init[2]
    if held:
        grasped, is32 = 1.0, False
    reward = hamacher32(grasped, in_place, is32)
    if held:
        reward += 1.0 + 5.0 * in_place
    if target_to_obj < 0.08:
        reward = 10.0
    lifted = opened > 0.0 and obj[2] - 0.03 > obj_init[2]
    write(
        out,
        reward,
        target_to_obj <= 0.08,
        tcp_to_obj <= 0.05,
        lifted,
        grasped,
        in_place,
        target_to_obj,
    )


def pick_out_of_hole(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, obj_init, target, tcp = (
        vec(obs, 4),
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
        tcp_center(world),
    )
    obj_to_target, tcp_to_obj = distance(obj, target), distance(obj, tcp)
    radius = norm2(tcp[0] - obj_init[0], tcp[1] - obj_init[1])
    floor = 0.015 * math.log(radius - 0.03) + 0.15 if radius > 0.03 else 0.0
    above_floor = (
        1.0 if tcp[2] >= floor else tolerance(max(floor - tcp[2], 0.0), 0.0, 0.01, 0.02)
    )
    grasped, is32 = caging_high(world, init, obj, obj_init, effort, 0.015, 0.02, 0.03, 0.1)
    in_place = tolerance(obj_to_target, 0.0, 0.02, distance(obj_init, target))
    reward = hamacher32(grasped, in_place, is32)
    held = tcp_to_obj < 0.04 and obj[2] - 0.02 > obj_init[2] and not obs[3] < 0.33
    if held:
        reward = plus32(reward, 1.0 + 5.0 * hamacher(in_place, above_floor), is32)
    if obj_to_target < 0.05:
        reward = 10.0
    write(
        out,
        reward,
        obj_to_target <= 0.07,
        tcp_to_obj <= 0.03,
        held,
        grasped,
        in_place,
        obj_to_target,
    )


OBJ = (Object(body("obj"), wxyz("obj")),)
OBJ_XYZW = (Object(body("obj"), xyzw(geom("objGeom"))),)
OBJ_GEOM = (Object(geom("objGeom"), xyzw(geom("objGeom"))),)
MUG = (Object(body("obj"), xyzw(geom("mug"))),)

TASKS = (
    Task("push-v3", push, OBJ_XYZW, touch="objGeom"),
    Task("push-wall-v3", push_wall, OBJ_GEOM, touch="objGeom"),
    Task("pick-place-wall-v3", pick_place_wall, OBJ_GEOM, touch="objGeom"),
    Task("coffee-pull-v3", coffee_mug, MUG, fixture="coffee_machine"),
    Task("coffee-push-v3", coffee_mug, MUG, fixture="coffee_machine"),
    Task("hand-insert-v3", hand_insert, OBJ, touch="objGeom"),
    Task("shelf-place-v3", shelf_place, OBJ_XYZW, fixture="shelf", touch="objGeom"),
    Task(
        "basketball-v3",
        basketball,
        (Object(body("bsktball"), wxyz("bsktball")),),
        fixture="basket_goal",
    ),
    Task("pick-out-of-hole-v3", pick_out_of_hole, OBJ),
    Task("bin-picking-v3", bin_picking, OBJ, kept=("_target_to_obj_init",)),
)
