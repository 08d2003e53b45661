"""Own caging: tasks that replace the base class's caging reward with one of their own."""

from __future__ import annotations

from typing import Any

from mtrl.envs.compiled import kernel
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.rewards import (
    Vec,
    add,
    caging_high,
    clip,
    distance,
    gripper_closed,
    hamacher,
    hamacher32,
    kept,
    mul,
    norm,
    norm2,
    rounded,
    sub,
    tcp_center,
    tolerance,
    vec,
    write,
)
from mtrl.envs.metaworld.native.spec import ZEROS, Object, Task, body, geom, site, wxyz, xyzw


@kernel
def side_caging(
    world: Any, obj_y: float, left: bool, obj_radius: float, success_margin: float
) -> float:
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


@kernel
def pads_only(
    world: Any, init: Any, obj: Vec, obj_radius: float, grip_margin: float, xz_margin: float
) -> float:
    """The caging reward of push-back, soccer, sweep and sweep-into.

    Gripping is how narrow the pads stand; the effort does not count, so everything stays in double precision.
    """
    y_caging = hamacher(
        side_caging(world, obj[1], False, obj_radius, 0.05),
        side_caging(world, obj[1], True, obj_radius, 0.05),
    )
    y_gripping = hamacher(
        side_caging(world, obj[1], False, obj_radius, obj_radius + grip_margin),
        side_caging(world, obj[1], True, obj_radius, obj_radius + grip_margin),
    )
    caging = hamacher(y_caging, xz_caging(world, init, obj, xz_margin))
    return (caging + (y_gripping if caging > 0.95 else 0.0)) / 2.0


def pick_place(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    obj_to_target, tcp_to_obj = distance(obj, target), distance(obj, tcp_center(world))
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target))
    left = side_caging(world, obj[1], True, 0.015, 0.05)
    right = side_caging(world, obj[1], False, 0.015, 0.05)
    caging = hamacher(hamacher(left, right), xz_caging(world, init, obj, 0.005))
    closed, is32 = gripper_closed(effort, 1.0)
    if not caging > 0.97:
        closed, is32 = 0.0, False
    grasped = rounded(
        rounded(hamacher32(caging, closed, is32) + rounded(caging, is32), is32) / 2.0, is32
    )
    reward = hamacher32(grasped, in_place, is32)
    if tcp_to_obj < 0.02 and opened > 0.0 and obj[2] - 0.01 > obj_init[2]:
        reward = rounded(reward + rounded(1.0 + 5.0 * in_place, is32), is32)
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


def push_back(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    tcp_to_obj, target_to_obj = distance(obj, tcp_center(world)), distance(obj, target)
    margin = distance(obj_init, target)
    in_place = tolerance(target_to_obj, 0.0, 0.05, margin)
    grasped = pads_only(world, init, obj, 0.007, 0.003, 0.01)
    reward = hamacher(grasped, in_place)
    if tcp_to_obj < 0.01 and 0.0 < opened < 0.55 and margin - target_to_obj > 0.01:
        reward += 1.0 + 5.0 * in_place
    if target_to_obj < 0.05:
        reward = 10.0
    lifted = world[at.TOUCH] > 0.0 and opened > 0.0 and obj[2] - 0.02 > obj_init[2]
    write(
        out,
        reward,
        target_to_obj <= 0.07,
        tcp_to_obj <= 0.03,
        lifted,
        grasped,
        in_place,
        target_to_obj,
    )


def soccer(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened, obj_init, target = (
        vec(obs, 4),
        obs[3],
        vec(init, at.OBJ_INIT),
        vec(init, at.TARGET),
    )
    scale, tcp_to_obj = (3.0, 1.0, 1.0), distance(obj, tcp_center(world))
    scaled = norm(mul(sub(obj, target), scale))
    # The margin is how far the ball has moved, not how far its start is from the goal: 0 until it is touched.
    in_place = tolerance(scaled, 0.0, 0.07, norm(mul(sub(obj, obj_init), scale)))
    goal_line = target[1] - 0.1
    if obj[1] > goal_line and abs(obj[0] - target[0]) > 0.1:
        in_place = clip(in_place - 2.0 * ((obj[1] - goal_line) / (1.0 - goal_line)), 0.0, 1.0)
    grasped = pads_only(world, init, obj, 0.013, 0.01, 0.005)
    reward = 10.0 if scaled < 0.07 else 3.0 * grasped + 6.5 * in_place
    obj_to_target = distance(obj, target)  # what success and info see is not scaled
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


def sweep(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, obj_init, target = vec(obs, 4), vec(init, at.OBJ_INIT), vec(init, at.TARGET)
    tcp_to_obj, obj_to_target = distance(obj, tcp_center(world)), distance(obj, target)
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target))
    grasped = pads_only(world, init, obj, 0.02, 0.01, 0.005)
    reward = 10.0 if obj_to_target < 0.05 else 2.0 * grasped + 6.0 * hamacher(grasped, in_place)
    touched = world[at.TOUCH] > 0.0 and obs[3] > 0.0
    write(
        out,
        reward,
        obj_to_target <= 0.05,
        tcp_to_obj <= 0.03,
        touched,
        grasped,
        in_place,
        obj_to_target,
    )


def sweep_into(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, obj_init = vec(obs, 4), vec(init, at.OBJ_INIT)
    # The goal is a hole: its height does not count, and the margin changes with the object's.
    target = (init[at.TARGET], init[at.TARGET + 1], obj[2])
    tcp_to_obj, obj_to_target = distance(obj, tcp_center(world)), distance(obj, target)
    in_place = tolerance(obj_to_target, 0.0, 0.05, distance(obj_init, target))
    grasped = pads_only(world, init, obj, 0.02, 0.005, 0.01)
    reward = 10.0 if obj_to_target < 0.05 else 2.0 * grasped + 6.0 * hamacher(grasped, in_place)
    touched = world[at.TOUCH] > 0.0 and obs[3] > 0.0
    write(
        out,
        reward,
        obj_to_target <= 0.05,
        tcp_to_obj <= 0.03,
        touched,
        grasped,
        in_place,
        obj_to_target,
    )


def stick_push(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    stick, container, opened = add(vec(obs, 4), (0.015, 0.0, 0.0)), vec(obs, 11), obs[3]
    obj_init, target, stick_init = vec(init, at.OBJ_INIT), vec(init, at.TARGET), kept(init, 0)
    tcp_to_stick, container_to_target = (
        distance(stick, tcp_center(world)),
        distance(container, target),
    )
    stick_in_place = tolerance(
        distance(stick, target), 0.0, 0.12, distance(stick_init, target) - 0.12
    )
    container_in_place = tolerance(
        container_to_target, 0.0, 0.12, distance(obj_init, target) - 0.12
    )
    # Stock's own caging function is the base one with the stick's start in place of the object's.
    grasped, _ = caging_high(world, init, stick, stick_init, effort, 0.04, 0.05, 0.01, 1.0)
    reward, lifted = grasped, opened > 0.0 and stick[2] - 0.01 > stick_init[2]
    if tcp_to_stick < 0.02 and lifted:
        grasped = 1.0
        reward = (
            10.0
            if container_to_target <= 0.12
            else 2.0 + 5.0 * stick_in_place + 3.0 * container_in_place
        )
    held = lifted and world[at.TOUCH] > 0.0
    success = held and container_to_target <= 0.12  # only while the stick is held
    write(
        out,
        reward,
        success,
        tcp_to_stick <= 0.03,
        held,
        grasped,
        stick_in_place,
        container_to_target,
    )


TASKS = (
    Task(
        "pick-place-v3",
        pick_place,
        (Object(body("obj"), xyzw(geom("objGeom"))),),
        touch="objGeom",
    ),
    Task(
        "push-back-v3",
        push_back,
        (Object(geom("objGeom"), xyzw(geom("objGeom"))),),
        touch="objGeom",
    ),
    Task(
        "soccer-v3",
        soccer,
        (Object(body("soccer_ball"), xyzw(body("soccer_ball"))),),
        fixture="goal_whole",
        touch="objGeom",
    ),
    Task("sweep-v3", sweep, (Object(body("obj"), wxyz("obj")),), touch="objGeom"),
    Task(
        "sweep-into-v3",
        sweep_into,
        (Object(body("obj"), xyzw(geom("objGeom"))),),
        touch="objGeom",
    ),
    Task(
        "stick-push-v3",
        stick_push,
        (
            Object(body("stick"), xyzw(body("stick"))),
            Object(site("insertion"), ZEROS, (0.0, 0.09, 0.0)),
        ),
        kept=("stick_init_pos",),
        touch="objGeom",
    ),
)
