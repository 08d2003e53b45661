"""Stripping a model changes no number of its physics; another MuJoCo is refused."""

from __future__ import annotations

import ctypes

import mujoco
import numpy as np
import pytest

from mtrl.envs.errors import SuiteError
from mtrl.envs.metaworld.native.models import check_mujoco, stripped_model
from mtrl.envs.metaworld.native.stock import make_stock
from mtrl.envs.metaworld.native.structs import offsets
from mtrl.envs.metaworld.native.tasks import TASKS

PREFIXES = ("body_", "jnt_", "dof_", "actuator_", "eq_", "geom_")
# Indices into the lists of geoms, meshes and materials, which are shorter; colors.
INDICES = (
    "body_geomadr",
    "body_geomnum",
    "body_bvhadr",
    "body_bvhnum",
    "geom_dataid",
    "geom_matid",
)


def colliding(model: mujoco.MjModel) -> np.ndarray:
    return np.flatnonzero(model.geom_contype | model.geom_conaffinity)


@pytest.mark.parametrize("name", ["push-v3", "door-open-v3", "stick-pull-v3"])
def test_every_physical_constant_is_kept(name: str) -> None:
    env = make_stock(name)
    full, stripped = env.model, stripped_model(env.fullpath, env.model, TASKS[name])
    compared = 0
    for field in (key for key in dir(full) if key.startswith(PREFIXES) and key not in INDICES):
        ours, stock = getattr(stripped, field), getattr(full, field)
        if not isinstance(stock, np.ndarray):
            continue
        if field.startswith("geom_"):
            assert len(colliding(stripped)) == stripped.ngeom
            stock = stock[colliding(full)]
        np.testing.assert_array_equal(ours, stock, err_msg=field)
        compared += 1
    assert compared > 80
    assert stripped.nbuffer < 0.2 * full.nbuffer


def test_another_mujoco_is_refused_naming_both_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mujoco, "__version__", "3.4.1")
    with pytest.raises(SuiteError, match=r"needs mujoco 3\.3\.0, found 3\.4\.1"):
        check_mujoco()


def test_struct_offsets_hold_for_a_scene_they_were_not_found_with() -> None:
    env = make_stock("push-v3")
    for _ in range(20):
        mujoco.mj_step(env.model, env.data)
    where, data = offsets(), env.data
    assert ctypes.c_int.from_address(data._address + where.ncon).value == data.ncon > 0
    assert ctypes.c_int.from_address(data._address + where.nefc).value == data.nefc > 0
    assert (
        ctypes.c_void_p.from_address(data._address + where.efc_force).value
        == data.efc_force.ctypes.data
    )
    first = ctypes.c_void_p.from_address(data._address + where.contact).value
    for number in range(data.ncon):
        contact = first + number * where.contact_size
        geoms = (ctypes.c_int * 2).from_address(contact + where.contact_geoms)
        assert tuple(geoms) == (data.contact[number].geom1, data.contact[number].geom2)
        assert (
            ctypes.c_int.from_address(contact + where.contact_efc).value
            == data.contact[number].efc_address
        )
