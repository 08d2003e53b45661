"""Reach times in-place: how near the gripper is to the object, combined with how near the object is to its goal."""

from __future__ import annotations

from typing import Any

from envs.metaworld.native import layout as at
from envs.metaworld.native.rewards import (
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
from envs.metaworld.native.spec import ZEROS, Object, Task, body, joint, site, wxyz


def dial_turn(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, target, push_init = vec(obs, 4), vec(init, at.TARGET), kept(init, 0)
    target_to_obj = distance(obj, target)
    in_place = tolerance(target_to_obj, 0.0, 0.07, abs(distance(push_init, target) - 0.07))
    tcp_to_obj = distance(add(obj, (0.05, 0.02, 0.09)), tcp_center(world))
    margin = abs(distance(push_init, vec(init, at.INIT_TCP)) - 0.005)
    closed, is32 = gripper_closed(effort, 1.0)
    reach = hamacher32(tolerance_gaussian(tcp_to_obj, 0.0, 0.005, margin), closed, is32)
    reward = rounded(10.0 * hamacher32(reach, in_place, is32), is32)
    write(out, reward, target_to_obj <= 0.07, tcp_to_obj <= 0.01, 1.0, reach, in_place, target_to_obj)


def window_close(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, target_x, handle_init = vec(obs, 4), init[at.TARGET], kept(init, 0)
    target_to_obj = abs(obj[0] - target_x)
    in_place = tolerance(target_to_obj, 0.0, 0.05, abs(abs(handle_init[0] - target_x) - 0.05))
    tcp_to_obj = distance(obj, tcp_center(world))
    margin = abs(distance(handle_init, vec(init, at.INIT_TCP)) - 0.02)
    reach = tolerance_gaussian(tcp_to_obj, 0.0, 0.02, margin)
    reward = 10.0 * hamacher(reach, in_place)
    write(out, reward, target_to_obj <= 0.05, tcp_to_obj <= 0.05, 1.0, reach, in_place, target_to_obj)


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
)
