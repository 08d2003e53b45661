"""One model and one MjData of one task, and the table of addresses through which compiled code uses them."""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.contacts import Contacts
from mtrl.envs.metaworld.native.jit import compiled_reward
from mtrl.envs.metaworld.native.kernel import save, settle, step_rows
from mtrl.envs.metaworld.native.models import observed
from mtrl.envs.metaworld.native.spec import Object, Source, Task
from mtrl.envs.metaworld.native.structs import (
    function_address,
    model_copy,
    offsets,
    size_offset,
)

_COMMON = (
    (at.HAND, Source("body", "hand")),
    (at.RIGHT_CLAW, Source("body", "rightclaw")),
    (at.LEFT_CLAW, Source("body", "leftclaw")),
    (at.LEFT_PAD, Source("body", "leftpad")),
    (at.RIGHT_PAD, Source("body", "rightpad")),
    (at.RIGHT_TIP, Source("site", "rightEndEffector")),
    (at.LEFT_TIP, Source("site", "leftEndEffector")),
)
_FUNCTIONS = (
    (at.MJ_STEP, "mj_step"),
    (at.MJ_FORWARD, "mj_forward"),
    (at.MJ_KINEMATICS, "mj_kinematics"),
    (at.MJ_COMPOS, "mj_comPos"),
    (at.MJ_CRB, "mj_crb"),
    (at.MJ_FACTORM, "mj_factorM"),
    (at.MJ_COLLISION, "mj_collision"),
    (at.MJ_COLLIDEOBB, "mj_collideOBB"),
    (at.MJ_MAKECONSTRAINT, "mj_makeConstraint"),
    (at.MJ_TRANSMISSION, "mj_transmission"),
    (at.MJ_FWDVELOCITY, "mj_fwdVelocity"),
    (at.MJ_FWDACTUATION, "mj_fwdActuation"),
    (at.MJ_FWDACCELERATION, "mj_fwdAcceleration"),
    (at.MJ_FWDCONSTRAINT, "mj_fwdConstraint"),
    (at.MJ_CHECKACC, "mj_checkAcc"),
    (at.MJ_EULER, "mj_Euler"),
    (at.MJ_REFERENCECONSTRAINT, "mj_referenceConstraint"),
)


class Simulation:
    """Steps environments of one task one after the other; belongs to one thread at a time.

    Args:
        task: the task's table entry.
        model: the stripped model, copied because each environment's fixture is written into it.
        bounds: float64 ``[BOUNDS_SIZE]``, see ``layout``.

    Raises:
        ValueError: the model uses a part of MuJoCo that ``physics`` leaves out.
    """

    def __init__(self, task: Task, model: mujoco.MjModel, bounds: NDArray) -> None:
        _check(model)
        self.task = task
        self.model = copy.copy(model)
        # Else every collision clears 32 kB that only a viewer reads.
        self.model.vis.global_.bvactive = 0
        self.data = mujoco.MjData(self.model)
        self._contacts = Contacts(self.model, self.data)
        self._step_model = model_copy(self.model, {"nsite": 0}, {})
        self.bounds = bounds
        self._reward = compiled_reward(task.reward)
        self.ctx = self._context()

    def step(
        self, state: NDArray, init: NDArray, actions: NDArray, obs: NDArray, out: NDArray
    ) -> None:
        """See ``kernel.step_rows``."""
        step_rows(self.ctx, self.bounds, state, init, actions, obs, out)

    def settle(self, state: NDArray, init: NDArray) -> None:
        """Bring the warm start of ``state`` up to date at once rather than in the next step."""
        settle(self.ctx, state, init)
        save(self.ctx, state)
        state[at.OWED] = 0.0

    def _context(self) -> NDArray[np.int64]:
        model, data, task, where = self.model, self.data, self.task, offsets()
        rows = [
            row
            for number, item in enumerate(task.objects)
            for row in self._rows(item, 4 + 7 * number)
        ]
        reads = [(3, place, self._position(source), 0) for place, source in _COMMON]
        for number, source in enumerate(task.reads):
            reads.append(
                (
                    1 if source.kind == "joint" else 3,
                    at.READ + 3 * number,
                    self._position(source),
                    0,
                )
            )
        head = np.zeros(at.ROWS, np.int64)
        for place, name in _FUNCTIONS:
            head[place] = function_address(name)
        head[at.REWARD_FUNCTION] = self._reward.address
        head[at.MODEL], head[at.DATA] = model._address, data._address
        head[at.DATA_QPOS], head[at.DATA_QVEL] = data.qpos.ctypes.data, data.qvel.ctypes.data
        head[at.DATA_WARMSTART] = data.qacc_warmstart.ctypes.data
        head[at.DATA_MOCAP_POS], head[at.DATA_MOCAP_QUAT] = (
            data.mocap_pos.ctypes.data,
            data.mocap_quat.ctypes.data,
        )
        head[at.MOCAP_XPOS] = data.xpos[
            np.flatnonzero(model.body_mocapid >= 0).item()
        ].ctypes.data
        head[at.DATA_CTRL] = data.ctrl.ctypes.data
        head[at.DATA_QACC] = data.qacc.ctypes.data
        contacts = self._contacts
        head[at.STEP_MODEL], head[at.PAIR_MODEL] = (
            self._step_model.ctypes.data,
            contacts.model.ctypes.data,
        )
        head[at.NUM_NEAR] = contacts.model.ctypes.data + size_offset("npair")
        head[at.NUM_PAIRS], head[at.PAIRS] = len(contacts.tests), contacts.tests.ctypes.data
        head[at.BOXES], head[at.COLUMNS] = (
            contacts.boxes.ctypes.data,
            contacts.columns.ctypes.data,
        )
        head[at.TREES], head[at.PRODUCTS] = (
            contacts.trees.ctypes.data,
            contacts.products.ctypes.data,
        )
        head[at.NUM_MOVERS], head[at.MOVERS] = len(contacts.movers), contacts.movers.ctypes.data
        head[at.PLACES], head[at.LISTED] = (
            contacts.places.ctypes.data,
            contacts.listed.ctypes.data,
        )
        if task.fixture is not None:
            head[at.MODEL_FIXTURE] = model.body_pos[model.body(task.fixture).id].ctypes.data
        head[at.NQ], head[at.NV] = model.nq, model.nv
        head[at.NCON], head[at.NEFC] = data._address + where.ncon, data._address + where.nefc
        head[at.CONTACTS], head[at.EFC_FORCE] = (
            data._address + where.contact,
            data._address + where.efc_force,
        )
        head[at.CONTACT_SIZE] = where.contact_size
        head[at.CONTACT_GEOMS], head[at.CONTACT_EFC] = where.contact_geoms, where.contact_efc
        head[at.LEFT_PAD_GEOM], head[at.RIGHT_PAD_GEOM] = (
            model.geom("leftpad_geom").id,
            model.geom("rightpad_geom").id,
        )
        head[at.TOUCH_GEOM] = -1 if task.touch is None else model.geom(task.touch).id
        head[at.LEFT_PAIR], head[at.RIGHT_PAIR] = (
            contacts.row(head[at.TOUCH_GEOM], head[pad])
            for pad in (at.LEFT_PAD_GEOM, at.RIGHT_PAD_GEOM)
        )
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
        if (
            source.kind == "geom"
            and mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, source.name) < 0
        ):
            return self.data.site(observed(source.name))
        return getattr(self.data, source.kind)(source.name)

    def _position(self, source: Source) -> int:
        view = self._view(source)
        return (view.qpos if source.kind == "joint" else view.xpos).ctypes.data


def _check(model: mujoco.MjModel) -> None:
    """Refuse what ``physics`` and ``contacts`` leave out of MuJoCo's step."""
    counts = {
        "flexes": model.nflex,
        "tendons": model.ntendon,
        "plugins": model.nplugin,
        "sensors": model.nsensor,
        "predefined pairs": model.npair,
        "excluded pairs": model.nexclude,
        "mocap bodies but one": model.nmocap - 1,
        "geoms of mocap bodies": model.body_geomnum[model.body_mocapid >= 0].sum(),
        "options": model.opt.disableflags | model.opt.enableflags,
        "noslip iterations": model.opt.noslip_iterations,
        "integrators but Euler": model.opt.integrator != mujoco.mjtIntegrator.mjINT_EULER,
        "solvers but Newton": model.opt.solver != mujoco.mjtSolver.mjSOL_NEWTON,
    }
    for name, count in counts.items():
        if count:
            raise ValueError(
                f"The engine's physics has no {name}, but the model asks for them."
            )
