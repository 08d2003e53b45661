"""Reach times in-place: how near the gripper is to the object, combined with how near the object is to its goal."""

from __future__ import annotations

from typing import Any

from mtrl.envs.compiled import kernel
from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.rewards import (
    Vec,
    add,
    distance,
    gripper_closed,
    hamacher,
    hamacher32,
    kept,
    rounded,
    tcp_center,
    tolerance,
    tolerance_gaussian,
    vec,
    write,
)
from mtrl.envs.metaworld.native.spec import ZEROS, Object, Task, body, joint, site, wxyz


def dial_turn(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, target, push_init = vec(obs, 4), vec(init, at.TARGET), kept(init, 0)
    target_to_obj = distance(obj, target)
    in_place = tolerance(target_to_obj, 0.0, 0.07, abs(distance(push_init, target) - 0.07))
    tcp_to_obj = distance(add(obj, (0.05, 0.02, 0.09)), tcp_center(world))
    margin = abs(distance(push_init, vec(init, at.INIT_TCP)) - 0.005)
    closed, is32 = gripper_closed(effort, 1.0)
    reach = hamacher32(tolerance_gaussian(tcp_to_obj, 0.0, 0.005, margin), closed, is32)
    reward = rounded(10.0 * hamacher32(reach, in_place, is32), is32)
    write(
        out,
        reward,
        target_to_obj <= 0.07,
        tcp_to_obj <= 0.01,
        1.0,
        reach,
        in_place,
        target_to_obj,
    )


def window_close(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, target_x, handle_init = vec(obs, 4), init[at.TARGET], kept(init, 0)
    target_to_obj = abs(obj[0] - target_x)
    in_place = tolerance(target_to_obj, 0.0, 0.05, abs(abs(handle_init[0] - target_x) - 0.05))
    tcp_to_obj = distance(obj, tcp_center(world))
    margin = abs(distance(handle_init, vec(init, at.INIT_TCP)) - 0.02)
    reach = tolerance_gaussian(tcp_to_obj, 0.0, 0.02, margin)
    reward = 10.0 * hamacher(reach, in_place)
    write(
        out,
        reward,
        target_to_obj <= 0.05,
        tcp_to_obj <= 0.05,
        1.0,
        reach,
        in_place,
        target_to_obj,
    )


def window_open(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, target_x = vec(obs, 4), init[at.TARGET]
    target_to_obj = abs(obj[0] - target_x)
    in_place = tolerance(
        target_to_obj, 0.0, 0.05, abs(abs(init[at.OBJ_INIT] - target_x) - 0.05)
    )
    tcp_to_obj = distance(obj, tcp_center(world))
    margin = abs(distance(kept(init, 0), vec(init, at.INIT_TCP)) - 0.02)
    reach = tolerance(tcp_to_obj, 0.0, 0.02, margin)
    reward = 10.0 * hamacher(reach, in_place)
    write(
        out,
        reward,
        target_to_obj <= 0.05,
        tcp_to_obj <= 0.05,
        1.0,
        reach,
        in_place,
        target_to_obj,
    )


def drawer_close(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    # Radius 0.05 is the base class's TARGET_RADIUS: the task defines _TARGET_RADIUS = 0.04, which nothing reads.
    obj, obj_init, target = vec(obs, 4), vec(init, at.OBJ_INIT), vec(init, at.TARGET)
    target_to_obj, tcp_to_obj = distance(obj, target), distance(obj, tcp_center(world))
    in_place = tolerance(target_to_obj, 0.0, 0.05, abs(distance(obj_init, target) - 0.05))
    margin = abs(distance(obj_init, vec(init, at.INIT_TCP)) - 0.005)
    closed, is32 = gripper_closed(effort, 1.0)
    reach = hamacher32(tolerance_gaussian(tcp_to_obj, 0.0, 0.005, margin), closed, is32)
    solved = target_to_obj <= 0.05 + 0.015
    reward = 10.0 if solved else rounded(10.0 * hamacher32(reach, in_place, is32), is32)
    write(out, reward, solved, tcp_to_obj <= 0.01, 1.0, reach, in_place, target_to_obj)


@kernel
def turn_faucet(world: Any, init: Any, obj: Vec, out: Any) -> None:
    """Both margins are measured from the faucet's base, which is what stock's ``obj_init_pos`` is, not its handle."""
    obj_init, target = vec(init, at.OBJ_INIT), vec(init, at.TARGET)
    target_to_obj, tcp_to_obj = distance(obj, target), distance(obj, tcp_center(world))
    in_place = tolerance(target_to_obj, 0.0, 0.07, abs(distance(obj_init, target) - 0.07))
    margin = abs(distance(obj_init, vec(init, at.INIT_TCP)) - 0.01)
    reach = tolerance_gaussian(tcp_to_obj, 0.0, 0.01, margin)
    solved = target_to_obj <= 0.07
    reward = 10.0 if solved else (2.0 * reach + 3.0 * in_place) * 2.0
    write(out, reward, solved, tcp_to_obj <= 0.01, 1.0, reach, in_place, target_to_obj)


def faucet_open(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    turn_faucet(world, init, add(vec(obs, 4), (-0.04, 0.0, 0.03)), out)


def faucet_close(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    turn_faucet(world, init, vec(obs, 4), out)


def handle_press(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, target_z, handle_init = vec(obs, 4), init[at.TARGET + 2], kept(init, 0)
    target_to_obj, tcp_to_obj = abs(obj[2] - target_z), distance(obj, tcp_center(world))
    in_place = tolerance(target_to_obj, 0.0, 0.02, abs(abs(handle_init[2] - target_z) - 0.02))
    margin = abs(distance(handle_init, vec(init, at.INIT_TCP)) - 0.02)
    reach = tolerance(tcp_to_obj, 0.0, 0.02, margin)
    solved = target_to_obj <= 0.02
    reward = 10.0 if solved else 10.0 * hamacher(reach, in_place)
    write(out, reward, solved, tcp_to_obj <= 0.05, 1.0, reach, in_place, target_to_obj)


HANDLE = (Object(site("handleStart"), ZEROS),)
HANDLE_INIT = ("_handle_init_pos",)

TASKS = (
    Task(
        "dial-turn-v3",
        dial_turn,
        (Object(body("dial"), wxyz("dial"), dial=joint("knob_Joint_1")),),
        kept=("dial_push_position",),
        fixture="dial",
    ),
    Task(
        "window-close-v3",
        window_close,
        (Object(site("handleCloseStart"), ZEROS),),
        kept=("window_handle_pos_init",),
        fixture="window",
    ),
    Task(
        "window-open-v3",
        window_open,
        (Object(site("handleOpenStart"), ZEROS),),
        kept=("window_handle_pos_init",),
        fixture="window",
    ),
    Task(
        "drawer-close-v3",
        drawer_close,
        (Object(body("drawer_link"), ZEROS, (0.0, -0.16, 0.05)),),
        fixture="drawer",
    ),
    Task(
        "faucet-open-v3",
        faucet_open,
        (Object(site("handleStartOpen"), wxyz("faucetBase"), (0.0, 0.0, -0.01)),),
        fixture="faucetBase",
    ),
    Task(
        "faucet-close-v3",
        faucet_close,
        (Object(site("handleStartClose"), wxyz("faucetBase"), (0.0, 0.0, -0.01)),),
        fixture="faucetBase",
    ),
    Task("handle-press-v3", handle_press, HANDLE, kept=HANDLE_INIT, fixture="box"),
    Task("handle-press-side-v3", handle_press, HANDLE, kept=HANDLE_INIT, fixture="box"),
)
