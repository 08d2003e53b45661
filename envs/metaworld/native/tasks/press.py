"""Press family: distance to a button or lock along one axis, plus the way of the gripper to it."""

from __future__ import annotations

from typing import Any

from mtrl.envs.compiled import kernel
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.rewards import (
    distance,
    hamacher,
    mul,
    norm,
    sub,
    tcp_center,
    tolerance,
    vec,
    write,
)
from mtrl.envs.metaworld.native.spec import UNIT, Object, Task, body, site, wxyz


def door_lock(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened = vec(obs, 4), obs[3]
    tcp_to_obj = norm(mul(sub(obj, vec(world, at.LEFT_PAD)), (0.25, 1.0, 0.5)))
    # The margin is tcp_to_obj itself: stock's init_left_pad is a view of the live pad, not a copy taken at reset.
    near_lock = tolerance(tcp_to_obj, 0.0, 0.01, tcp_to_obj)
    obj_to_target = abs(init[at.TARGET + 2] - obj[2])
    pressed = tolerance(obj_to_target, 0.0, 0.005, 0.1)
    reward = 2.0 * hamacher(max(opened, 0.0), near_lock) + 8.0 * pressed
    write(
        out,
        reward,
        obj_to_target <= 0.02,
        tcp_to_obj <= 0.05,
        opened > 0.0,
        near_lock,
        pressed,
        obj_to_target,
    )


@kernel
def approach(world: Any, init: Any, obs: Any, radius: float) -> tuple[float, float]:
    """Distance of the gripper to the button, and how near that is.

    Stock measures the margin, ``tcp_to_obj_init``, from the button's current position, so it changes as that moves.
    """
    obj = vec(obs, 4)
    tcp_to_obj = distance(obj, tcp_center(world))
    return tcp_to_obj, tolerance(tcp_to_obj, 0.0, radius, distance(obj, vec(init, at.INIT_TCP)))


@kernel
def press_forward(world: Any, init: Any, obs: Any, out: Any, margin: float) -> None:
    tcp_to_obj, near_button = approach(world, init, obs, 0.05)
    obj_to_target = abs(init[at.TARGET + 1] - obs[5])
    pressed = tolerance(obj_to_target, 0.0, 0.005, margin)
    reward = 2.0 * hamacher(max(obs[3], 0.0), near_button)
    if tcp_to_obj <= 0.05:
        reward += 8.0 * pressed
    write(
        out,
        reward,
        obj_to_target <= 0.02,
        tcp_to_obj <= 0.05,
        obs[3] > 0.0,
        near_button,
        pressed,
        obj_to_target,
    )


def button_press(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    press_forward(world, init, obs, out, init[at.KEPT])


def coffee_button(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    press_forward(world, init, obs, out, 0.03)


def button_press_wall(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    opened = obs[3]
    tcp_to_obj, near_button = approach(world, init, obs, 0.01)
    obj_to_target = abs(init[at.TARGET + 1] - obs[5])
    pressed = tolerance(obj_to_target, 0.0, 0.005, init[at.KEPT])
    if tcp_to_obj > 0.07:
        reward = 2.0 * hamacher((1.0 - opened) / 2.0, near_button)
    else:
        reward = 2.0 + 2.0 * (1.0 + opened) + 4.0 * (pressed * pressed)
    write(
        out,
        reward,
        obj_to_target <= 0.03,
        tcp_to_obj <= 0.05,
        opened > 0.0,
        near_button,
        pressed,
        obj_to_target,
    )


@kernel
def press_down(world: Any, init: Any, obs: Any, out: Any, gripper: float) -> None:
    tcp_to_obj, near_button = approach(world, init, obs, 0.01)
    obj_to_target = abs(init[at.TARGET + 2] - obs[6])
    pressed = tolerance(obj_to_target, 0.0, 0.005, init[at.KEPT])
    reward = 5.0 * hamacher(gripper, near_button)
    if tcp_to_obj <= 0.03:
        reward += 5.0 * pressed
    write(
        out,
        reward,
        obj_to_target <= 0.024,
        tcp_to_obj <= 0.05,
        obs[3] > 0.0,
        near_button,
        pressed,
        obj_to_target,
    )


def button_press_topdown(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    press_down(world, init, obs, out, 1.0 - obs[3])


def button_press_topdown_wall(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    # Stock calls both tcp_closed, but the wall task rewards an open gripper, the one without a wall a closed one.
    press_down(world, init, obs, out, max(obs[3], 0.0))


BUTTON = (Object(body("button"), wxyz("button"), (0.0, -0.193, 0.0)),)
BUTTON_TOPDOWN = (Object(body("button"), wxyz("button"), (0.0, 0.0, 0.193)),)
TO_PRESS = ("_obj_to_target_init",)

TASKS = (
    Task(
        "door-lock-v3",
        door_lock,
        (Object(site("lockStartLock"), wxyz("door_link")),),
        fixture="door",
    ),
    Task("button-press-v3", button_press, BUTTON, kept=TO_PRESS, fixture="box"),
    Task("button-press-wall-v3", button_press_wall, BUTTON, kept=TO_PRESS, fixture="box"),
    Task(
        "button-press-topdown-v3",
        button_press_topdown,
        BUTTON_TOPDOWN,
        kept=TO_PRESS,
        fixture="box",
    ),
    Task(
        "button-press-topdown-wall-v3",
        button_press_topdown_wall,
        BUTTON_TOPDOWN,
        kept=TO_PRESS,
        fixture="box",
    ),
    Task(
        "coffee-button-v3",
        coffee_button,
        (Object(site("buttonStart"), UNIT),),
        fixture="coffee_machine",
    ),
)
