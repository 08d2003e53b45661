"""Press family: distance to a button or lock along one axis, plus the way of the gripper to it."""

from __future__ import annotations

from typing import Any

from envs.metaworld.native import layout as at
from envs.metaworld.native.rewards import hamacher, mul, norm, sub, tolerance, vec, write
from envs.metaworld.native.spec import Object, Task, site, wxyz


def door_lock(world: Any, init: Any, effort: float, obs: Any, out: Any) -> None:
    obj, opened = vec(obs, 4), obs[3]
    tcp_to_obj = norm(mul(sub(obj, vec(world, at.LEFT_PAD)), (0.25, 1.0, 0.5)))
    # The margin is tcp_to_obj itself: stock's init_left_pad is a view of the live pad, not a copy taken at reset.
    near_lock = tolerance(tcp_to_obj, 0.0, 0.01, tcp_to_obj)
    obj_to_target = abs(init[at.TARGET + 2] - obj[2])
    pressed = tolerance(obj_to_target, 0.0, 0.005, 0.1)
    reward = 2.0 * hamacher(max(opened, 0.0), near_lock) + 8.0 * pressed
    write(out, reward, obj_to_target <= 0.02, tcp_to_obj <= 0.05, opened > 0.0, near_lock, pressed, obj_to_target)


TASKS = (Task("door-lock-v3", door_lock, (Object(site("lockStartLock"), wxyz("door_link")),), fixture="door"),)
