"""Byte offsets of contacts and constraint forces in ``mjData``, of which the Python bindings return copies only.

The offsets are found by looking for known values in the memory of a small scene, so no struct layout is written down.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np
from mujoco.introspect import structs as introspect
from numpy.typing import NDArray

_SCENE = """<mujoco><worldbody><geom type="plane" size="5 5 1"/>
<body name="a" pos="0 0 .09"><freejoint/><geom size=".1"/></body>
<body pos="1 0 .09"><freejoint/><geom size=".1"/></body>
<body pos="2 0 .09"><freejoint/><geom size=".1"/></body>
<body pos="3 0 2"><joint type="slide" axis="0 0 1" frictionloss="1" limited="true" range="1 2"/><geom size=".1"/></body>
</worldbody><equality><connect body1="a" anchor="0 0 0"/></equality></mujoco>"""


@dataclass(frozen=True)
class Offsets:
    """Byte offsets in ``mjData`` (the first four) and in ``mjContact``; ``contact_size`` is the latter's size."""

    ncon: int
    nefc: int
    contact: int
    efc_force: int
    contact_size: int
    contact_geoms: int
    contact_efc: int


def _find(pattern: bytes, address: int, start: int) -> int:
    """Offset of the first aligned occurrence; it exists, so memory past it is never read."""
    offset = start
    while ctypes.string_at(address + offset, len(pattern)) != pattern:
        offset += 4
    return offset


@cache
def offsets() -> Offsets:
    """The offsets in the loaded libmujoco."""
    model = mujoco.MjModel.from_xml_string(_SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    counts = (data.ncon, data.ne, data.nf, data.nl, data.nefc)
    ncon = _find(struct.pack("5i", *counts), data._address, 0)
    first, contacts = data.contact.dist.ctypes.data, data.contact
    return Offsets(
        ncon=ncon,
        nefc=ncon + 16,
        contact=_find(struct.pack("P", first), data._address, ncon),
        efc_force=_find(struct.pack("P", data.efc_force.ctypes.data), data._address, ncon),
        contact_size=contacts.dist.strides[0],
        contact_geoms=contacts.geom.ctypes.data - first,
        contact_efc=contacts.efc_address.ctypes.data - first,
    )


@cache
def library() -> ctypes.CDLL:
    """The libmujoco that the Python bindings use."""
    folder = mujoco.__path__[0]
    names = {
        "Linux": f"libmujoco.so.{mujoco.__version__}",
        "Darwin": f"libmujoco.{mujoco.__version__}.dylib",
    }
    return ctypes.CDLL(f"{folder}/{names[platform.system()]}")


def function_address(name: str) -> int:
    address = ctypes.cast(getattr(library(), name), ctypes.c_void_p).value
    assert address is not None
    return address


@cache
def _model_fields() -> dict[str, int]:
    """Byte offset of each size and of each array's pointer in ``mjModel``: sizes lead, pointers end it."""
    fields = [(field.name, str(field.type)) for field in introspect.STRUCTS["mjModel"].fields]
    names = [name for name, _ in fields]
    sizes = names[: next(place for place, (_, kind) in enumerate(fields) if kind != "int")]
    arrays = names[names.index("body_parentid") : names.index("names") + 1]
    model = mujoco.MjModel.from_xml_string(_SCENE)
    first = _find(struct.pack("P", model.body_parentid.ctypes.data), model._address, 0)
    found = {name: 4 * place for place, name in enumerate(sizes)}
    found |= {name: first + 8 * place for place, name in enumerate(arrays)}
    right = [
        ctypes.c_int.from_address(model._address + found[name]).value == getattr(model, name)
        for name in sizes
    ]
    for name in ("body_contype", "geom_type", "eq_data"):
        pointer = ctypes.c_void_p.from_address(model._address + found[name]).value
        right.append(pointer == getattr(model, name).ctypes.data)
    if not all(right):
        raise RuntimeError("libmujoco's mjModel is not laid out as mujoco.introspect says.")
    return found


def model_copy(
    model: mujoco.MjModel, sizes: dict[str, int], arrays: dict[str, NDArray]
) -> NDArray[np.uint8]:
    """A copy of the struct ``mjModel`` itself, which shares all arrays but those given, and has other sizes.

    The caller keeps ``model`` and ``arrays`` alive. Names are not part of the copy.
    """
    fields = _model_fields()
    memory = np.frombuffer(ctypes.string_at(model._address, fields["names"]), np.uint8).copy()
    for name, size in sizes.items():
        memory[fields[name] :][:4] = np.frombuffer(struct.pack("i", size), np.uint8)
    for name, array in arrays.items():
        memory[fields[name] :][:8] = np.frombuffer(
            struct.pack("P", array.ctypes.data), np.uint8
        )
    return memory


def size_offset(name: str) -> int:
    """Byte offset of one of the sizes in ``mjModel``."""
    return _model_fields()[name]
