"""The tasks: one small reward function each, grouped by family, and the table of all of them.

A reward function ``(world, init, effort, obs, out)`` sees

* ``world``: the simulation now (``tcp_center(world)``, ``vec(world, LEFT_PAD)``, ``read(world, k)``, ``world[TOUCH]``);
* ``init``: what reset left (``vec(init, OBJ_INIT)``, ``TARGET``, ``INIT_TCP``, ``HAND_INIT``, ``kept(init, k)``);
* ``effort``: the last component of the action, as given;
* ``obs``: the clipped observation ``[39]``, what stock passes to ``evaluate_state``;

and ends with ``write(out, ...)``. It is compiled to a C callback: scalars and tuples of floats only, no exceptions.
"""

from __future__ import annotations

from mtrl.envs.metaworld.native.spec import Task
from mtrl.envs.metaworld.native.tasks import (
    caging_move,
    caging_tool,
    in_place,
    pinch,
    plate_slide,
    press,
    reach,
    special,
)

_FAMILIES = (reach, press, in_place, plate_slide, caging_move, caging_tool, pinch, special)
TASKS: dict[str, Task] = {task.name: task for family in _FAMILIES for task in family.TASKS}
