"""The engine's order of MuJoCo's stages against ``mj_step`` and ``mj_forward``: contacts, divergence, what is owed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.contacts import _boxes_above, _pairs
from mtrl.envs.metaworld.native.kernel import load
from mtrl.envs.metaworld.native.physics import has_moved
from mtrl.envs.metaworld.native.simulation import Simulation
from mtrl.envs.metaworld.native.stock import snapshot, stock_reset
from mtrl.envs.metaworld.native.tasks import TASKS
from tests.envs.metaworld.native.fidelity import goals, simulation

FAST = ("push-v3", "window-open-v3", "soccer-v3", "box-close-v3")
CONTACT = ("geom", "dist", "pos", "frame", "dim", "includemargin", "friction", "solref", "solreffriction", "solimp",
           "exclude", "efc_address", "mu", "H")  # fmt: skip


def start(name: str) -> tuple[Simulation, NDArray, NDArray]:
    """A simulation, and state and init after a reset."""
    sim, env = simulation(name)
    before = snapshot(TASKS[name], env, stock_reset(env, goals(name, 1)[0]))
    return sim, before.state.copy(), before.init.copy()


def plain(sim: Simulation, state: NDArray, init: NDArray) -> mujoco.MjData:
    """A state in MuJoCo's own hands."""
    model, data = sim.model, mujoco.MjData(sim.model)
    if sim.task.fixture is not None:
        model.body(sim.task.fixture).pos[:] = init[at.FIXTURE :]
    data.qpos[:], data.qvel[:] = state[at.QPOS :][: model.nq], state[at.QVEL :][: model.nv]
    data.qacc_warmstart[:] = state[at.WARMSTART :][: model.nv]
    data.mocap_pos[0], data.mocap_quat[0] = state[at.MOCAP :][:3], (1, 0, 1, 0)
    data.ctrl[:] = state[at.EFFORT], -state[at.EFFORT]
    return data


def plain_step(
    sim: Simulation, state: NDArray, init: NDArray, action: NDArray
) -> mujoco.MjData:
    data = plain(sim, state, init)
    if state[at.OWED]:
        mujoco.mj_forward(sim.model, data)
    moved = state[at.MOCAP :][:3] + np.clip(action[:3], -1, 1) * np.float32(0.01)
    data.mocap_pos[0] = np.clip(
        moved, sim.bounds[at.MOCAP_LOW :][:3], sim.bounds[at.MOCAP_HIGH :][:3]
    )
    data.ctrl[:] = action[3], -action[3]
    mujoco.mj_step(sim.model, data, 5)
    mujoco.mj_forward(sim.model, data)
    return data


def take(sim: Simulation, state: NDArray, init: NDArray, action: NDArray) -> NDArray:
    out = np.empty((1, at.OUT_SIZE))
    sim.step(state[None], init[None], action[None], np.empty((1, at.OBS_SIZE)), out)
    return out[0]


def assert_contacts_equal(ours: Any, plain: Any) -> None:
    assert ours.ncon == plain.ncon
    for field in CONTACT:
        np.testing.assert_array_equal(
            getattr(ours.contact, field), getattr(plain.contact, field), err_msg=field
        )


def check_contacts(name: str, poses: int) -> int:
    """Contacts in and around the states of an episode; returns how many there were."""
    sim, state, init = start(name)
    rng, seen, nq = np.random.default_rng(0), 0, sim.model.nq
    for pose in range(poses):
        take(sim, state, init, rng.uniform(-1, 1, 4).astype(np.float32))
        moved = state.copy()
        moved[at.QPOS : at.QPOS + nq] += rng.normal(0, rng.choice([0.0, 0.003, 0.03, 0.2]), nq)
        expected = plain(sim, moved, init)
        mujoco.mj_forward(sim.model, expected)
        moved[at.OWED] = 1.0
        sim.settle(moved, init)
        assert_contacts_equal(sim.data, expected)
        np.testing.assert_array_equal(sim.data.qacc, expected.qacc, err_msg=str(pose))
        seen += expected.ncon
    return seen


@pytest.mark.parametrize("name", FAST)
def test_contacts_are_those_that_mujoco_finds(name: str) -> None:
    assert check_contacts(name, 300) > 300


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TASKS))
def test_contacts_are_those_that_mujoco_finds_everywhere(name: str) -> None:
    check_contacts(name, 5000)


def test_a_pair_is_left_out_where_the_boxes_above_it_are_apart() -> None:
    """The finger is 0.9 mm from a box of the machine, within the margin, but 1.1 mm from the node that holds it."""
    sim, state, init = start("coffee-button-v3")
    state[at.QPOS : at.QPOS + sim.model.nq] = (
        -0.0856, 0.6758, 0.052, 0.9099, -0.0187, -0.0203, -0.4283, 1.939,
        -0.5106, -1.1335, 1.247, 0.9378, 1.4005, 2.5824, 0.0706, -0.07, 0.0392,
    )  # fmt: skip
    expected = plain(sim, state, init)
    mujoco.mj_forward(sim.model, expected)
    state[at.OWED] = 1.0
    sim.settle(state, init)
    assert_contacts_equal(sim.data, expected)
    sim.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
    mujoco.mj_forward(sim.model, expected)
    assert expected.ncon > sim.data.ncon


@pytest.mark.parametrize("name", FAST)
def test_the_trees_of_boxes_are_those_of_the_stock_model(name: str) -> None:
    """The engine's model has no visuals, which must not change what MuJoCo tests on the way to a pair."""
    sim, env = simulation(name)
    assert boxes_above(sim.model) == boxes_above(env.model)


def boxes_above(model: mujoco.MjModel) -> list[list[list[float]]]:
    start, size = model.bvh_aabb.ctypes.data, model.bvh_aabb[0].nbytes
    return [
        model.bvh_aabb[(_boxes_above(model, *pair) - start) // size].tolist()
        for pair in _pairs(model)
    ]


@pytest.mark.parametrize("owed", [0.0, 1.0])
@pytest.mark.parametrize(
    ("place", "value"), [(at.QPOS + 2, np.nan), (at.QVEL + 1, 1e11), (at.QVEL + 8, 1e9)]
)
def test_a_state_that_diverges_is_reset_as_mujoco_resets_it(
    place: int, value: float, owed: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT where it is
    sim, state, init = start("push-v3")
    action = np.array([0.3, -0.2, 0.5, 0.7], np.float32)
    state[at.OWED], state[at.EFFORT] = owed, -0.4
    state[place] = value
    expected = plain_step(sim, state, init, action)
    take(sim, state, init, action)
    sim.settle(state, init)
    assert sum(warning.number for warning in expected.warning) > 0
    np.testing.assert_array_equal(state[at.QPOS :][: sim.model.nq], expected.qpos)
    np.testing.assert_array_equal(state[at.QVEL :][: sim.model.nv], expected.qvel)
    np.testing.assert_array_equal(
        state[at.WARMSTART :][: sim.model.nv], expected.qacc_warmstart
    )
    np.testing.assert_array_equal(state[at.MOCAP :][:3], expected.mocap_pos[0])


def test_a_model_that_asks_for_more_than_the_engine_has_is_refused() -> None:
    sim, _, _ = start("push-v3")
    model = copy.copy(sim.model)
    model.opt.noslip_iterations = 3
    with pytest.raises(ValueError, match="has no noslip iterations"):
        Simulation(sim.task, model, sim.bounds)


def test_pairs_are_listed_anew_when_geoms_have_moved_or_another_environment_comes() -> None:
    sim, state, init = start("push-v3")
    take(sim, state, init, np.zeros(4, np.float32))
    assert not has_moved(sim.ctx)
    sim.data.geom_xpos[sim.model.geom("rightpad_geom").id, 2] += 0.4 * at.SKIN
    assert not has_moved(sim.ctx)
    sim.data.geom_xpos[sim.model.geom("rightpad_geom").id, 2] += 0.2 * at.SKIN
    assert has_moved(sim.ctx)
    take(sim, state, init, np.zeros(4, np.float32))
    assert not has_moved(sim.ctx)
    load(sim.ctx, state, init)
    assert has_moved(sim.ctx)


def test_settling_first_changes_nothing() -> None:
    sim, state, init = start("door-open-v3")
    rng = np.random.default_rng(1)
    for _ in range(30):
        action = rng.uniform(-1, 1, 4).astype(np.float32)
        settled = state.copy()
        sim.settle(settled, init)
        take(sim, settled, init, action)
        take(sim, state, init, action)
        assert state[at.OWED] == 1.0
        np.testing.assert_array_equal(state, settled)


def test_a_touch_is_noticed_when_the_pads_close_on_the_object() -> None:
    """Then the forces are needed at once, and nothing is owed to the next step."""
    sim, state, init = start("push-v3")
    pads = [sim.data.body(f"{side}pad").xpos for side in ("left", "right")]
    action, touched = np.array([0, 0, 0, 1], np.float32), 0
    take(sim, state, init, action)
    for _ in range(30):
        state[at.QPOS + 9 : at.QPOS + 12] = np.mean(pads, axis=0)
        state[at.QVEL + 9 : at.QVEL + 15] = 0.0
        expected = plain_step(sim, state, init, action)
        take(sim, state, init, action)
        if state[at.OWED] == 0.0:
            np.testing.assert_array_equal(
                state[at.WARMSTART :][: sim.model.nv], expected.qacc_warmstart
            )
            assert_contacts_equal(sim.data, expected)
            touched += 1
    assert touched > 5
