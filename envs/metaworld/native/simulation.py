"""One model and one MjData of one task, and the table of addresses through which compiled code uses them."""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.metaworld.native import layout as at
from envs.metaworld.native.jit import compiled_reward
from envs.metaworld.native.kernel import step_rows
from envs.metaworld.native.models import observed
from envs.metaworld.native.spec import Object, Source, Task
from envs.metaworld.native.structs import function_address, offsets

_COMMON = (
    (at.HAND, Source("body", "hand")),
    (at.RIGHT_CLAW, Source("body", "rightclaw")),
    (at.LEFT_CLAW, Source("body", "leftclaw")),
    (at.LEFT_PAD, Source("body", "leftpad")),
    (at.RIGHT_PAD, Source("body", "rightpad")),
    (at.RIGHT_TIP, Source("site", "rightEndEffector")),
    (at.LEFT_TIP, Source("site", "leftEndEffector")),
)


class Simulation:
    """Steps environments of one task one after the other; belongs to one thread at a time.

    Args:
        task: the task's table entry.
        model: the stripped model, copied because each environment's fixture is written into it.
        bounds: float64 ``[BOUNDS_SIZE]``, see ``layout``.
    """

    def __init__(self, task: Task, model: mujoco.MjModel, bounds: NDArray) -> None:
        self.task = task
        self.model = copy.copy(model)
        self.data = mujoco.MjData(self.model)
        self.bounds = bounds
        self._reward = compiled_reward(task.reward)
        self.ctx = self._context()

    def step(self, state: NDArray, init: NDArray, actions: NDArray, obs: NDArray, out: NDArray) -> None:
        """See ``kernel.step_rows``."""
        step_rows(self.ctx, self.bounds, state, init, actions, obs, out)

    def _context(self) -> NDArray[np.int64]:
        model, data, task, where = self.model, self.data, self.task, offsets()
        rows = [row for number, item in enumerate(task.objects) for row in self._rows(item, 4 + 7 * number)]
        reads = [(3, place, self._position(source), 0) for place, source in _COMMON]
        for number, source in enumerate(task.reads):
            reads.append((1 if source.kind == "joint" else 3, at.READ + 3 * number, self._position(source), 0))
        head = np.zeros(at.ROWS, np.int64)
        head[at.MJ_STEP] = function_address("mj_step")
        head[at.MJ_FORWARD] = function_address("mj_forward")
        head[at.REWARD_FUNCTION] = self._reward.address
        head[at.MODEL], head[at.DATA] = model._address, data._address
        head[at.DATA_QPOS], head[at.DATA_QVEL] = data.qpos.ctypes.data, data.qvel.ctypes.data
        head[at.DATA_WARMSTART] = data.qacc_warmstart.ctypes.data
        head[at.DATA_MOCAP_POS], head[at.DATA_MOCAP_QUAT] = data.mocap_pos.ctypes.data, data.mocap_quat.ctypes.data
        head[at.DATA_CTRL] = data.ctrl.ctypes.data
        if task.fixture is not None:
            head[at.MODEL_FIXTURE] = model.body_pos[model.body(task.fixture).id].ctypes.data
        head[at.NQ], head[at.NV] = model.nq, model.nv
        head[at.NCON], head[at.NEFC] = data._address + where.ncon, data._address + where.nefc
        head[at.CONTACTS], head[at.EFC_FORCE] = data._address + where.contact, data._address + where.efc_force
        head[at.CONTACT_SIZE] = where.contact_size
        head[at.CONTACT_GEOMS], head[at.CONTACT_EFC] = where.contact_geoms, where.contact_efc
        head[at.LEFT_PAD_GEOM], head[at.RIGHT_PAD_GEOM] = model.geom("leftpad_geom").id, model.geom("rightpad_geom").id
        head[at.TOUCH_GEOM] = -1 if task.touch is None else model.geom(task.touch).id
        head[at.NUM_ROWS], head[at.NUM_READS] = len(rows), len(reads)
        return np.concatenate([head, np.array(rows + reads, np.int64).ravel()])

    def _rows(self, item: Object, start: int) -> list[tuple[int, int, int, int]]:
        position = self._position(item.position)
        if item.dial is None:
            rows = [(at.COPY3, start, position, 0)]
        else:
            rows = [(at.DIAL, start, position, self._position(item.dial))]
        source = item.quat.source
        if source is not None and item.quat.convention == "wxyz":
            rows.append((at.COPY4, start + 3, self.data.body(source.name).xquat.ctypes.data, 0))
        elif source is not None:
            rows.append((at.MATRIX_QUAT, start + 3, self._view(source).xmat.ctypes.data, 0))
        return rows

    def _view(self, source: Source) -> Any:
        if source.kind == "geom" and mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, source.name) < 0:
            return self.data.site(observed(source.name))
        return getattr(self.data, source.kind)(source.name)

    def _position(self, source: Source) -> int:
        view = self._view(source)
        return (view.qpos if source.kind == "joint" else view.xpos).ctypes.data
