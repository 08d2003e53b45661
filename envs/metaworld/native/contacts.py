"""Pairs of geoms that can touch, with the numbers that MuJoCo's tests read, computed once per model.

``mj_collision`` spends most of its time on the search for pairs: it sorts bodies along principal axes and descends
box trees. These models have few pairs, so it is cheaper to test the bounding spheres of each pair. The near ones go to
``mj_collision`` as predefined pairs, in the order in which it would have found them. These tests are conservative: they
never drop a pair MuJoCo would keep. MuJoCo's own narrow-phase test runs last, so the contacts are identical.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import mujoco
import numpy as np
from numpy.typing import NDArray

from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.structs import model_copy

PLANE = mujoco.mjtGeom.mjGEOM_PLANE
ROUNDING = 1e-9
"""Relative margin of our sphere test, which must never drop a pair that MuJoCo's own test keeps."""
SLACK = 1e-4
"""Geoms that are further apart than this touch in no algorithm: meshes are tested to 1e-6."""


class Contacts:
    """The pairs of one simulation, the tables that compiled code reads them from, and the model it gives to MuJoCo.

    Attributes:
        tests: int64 ``[num_pairs, PAIR_SIZE]``, see ``layout``; holds addresses and, bit by bit, one float64.
        boxes: int64 ``[num_pairs, BOX_SIZE]``: what ``mj_collideOBB`` is called with.
        trees: int64 ``[num_pairs, TREE_SIZE]``: what it is called with on the way to the pair.
        products: float64 ``[49]``: what it may keep from one call to the next.
        movers, places: addresses of the positions of geoms that move, and what those were when the list was made.
        listed: how many pairs may become near before a geom has moved by half the skin (-1: unknown), then their rows.
        columns: of each quantity that defines a pair, the address in ``pairs``, in ``near`` and the number of words.
        model: a copy of the struct ``mjModel``, which sees nothing but the predefined pairs ``near``.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._order = pairs = list(_pairs(model))
        table = [_test(model, data, first, second) for first, second in pairs]
        self.tests = np.array([test for test, _ in table], np.int64)
        self.boxes = np.array([box for _, box in table], np.int64)
        self._nodes = [_boxes_above(model, first, second) for first, second in pairs]
        self.trees = np.array(
            [
                _tree(model, data, *pair, nodes)
                for pair, nodes in zip(pairs, self._nodes, strict=True)
            ],
            np.int64,
        )
        self.products = np.zeros(at.NUM_PRODUCTS + at.NUM_OFFSETS + 1)
        self._pairs = _parameters(model, pairs)
        self._near = {name: np.zeros_like(array) for name, array in self._pairs.items()}
        self.columns = np.array(
            [(array.ctypes.data, self._near[name].ctypes.data, array.itemsize * array[0].size // 4)
             for name, array in self._pairs.items()],
            np.int64,
        )  # fmt: skip
        movers = [geom for geom in range(model.ngeom) if _moves(model, geom)]
        self.movers = np.array([data.geom_xpos[geom].ctypes.data for geom in movers], np.int64)
        self.places = np.zeros((len(movers), 3))
        self.listed = np.full(1 + len(pairs), -1, np.int64)
        self._none = np.zeros(2, np.int32)
        self.model = model_copy(
            model,
            {"nbody": 2, "ngeom": 0, "npair": 0},
            {"body_contype": self._none, "body_conaffinity": self._none} | self._near,
        )

    def row(self, first: int, second: int) -> int:
        """The row of two geoms, or -1 if they never touch."""
        rows = [
            row
            for row, pair in enumerate(self._order)
            if sorted(pair) == sorted((first, second))
        ]
        return rows[0] if rows else -1


def _pairs(model: mujoco.MjModel) -> Iterator[tuple[int, int]]:
    """Pairs that no filter excludes, in MuJoCo's order: body by body, then by geom, that of the lower type first."""
    holders = np.flatnonzero(model.body_geomnum).tolist()
    for place, first in enumerate(holders):
        for second in holders[place + 1 :]:
            if not _may_touch(model, first, second):
                continue
            found = [
                (a, b)
                for a in _geoms(model, first)
                for b in _geoms(model, second)
                if _match(model, a, b)
            ]
            yield from sorted(found, key=lambda pair: _by_type(model, *pair))


def _may_touch(model: mujoco.MjModel, first: int, second: int) -> bool:
    """Not welded together, nor parent and child."""
    welds = model.body_weldid[[first, second]]
    parents = model.body_weldid[model.body_parentid[welds]]
    related = welds.all() and (welds[0] == parents[1] or welds[1] == parents[0])
    return welds[0] != welds[1] and not related


def _geoms(model: mujoco.MjModel, body: int) -> range:
    return range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])


def _match(model: mujoco.MjModel, first: int, second: int) -> bool:
    types, affinities = model.geom_contype, model.geom_conaffinity
    return bool((types[first] & affinities[second]) | (types[second] & affinities[first]))


def _by_type(model: mujoco.MjModel, first: int, second: int) -> tuple[int, int]:
    return (
        (first, second)
        if model.geom_type[first] <= model.geom_type[second]
        else (second, first)
    )


def _test(
    model: mujoco.MjModel, data: mujoco.MjData, first: int, second: int
) -> tuple[list[int], list[int]]:
    """The rows of ``tests`` and ``boxes``."""
    margin = max(model.geom_margin[first], model.geom_margin[second])
    low, high, pos, mat = *_by_type(model, first, second), data.geom_xpos, data.geom_xmat
    if model.geom_type[low] == PLANE:
        kind, power, limit = at.PLANE, 1, margin + model.geom_rbound[high]
    else:
        kind, power, limit = (
            at.SPHERES,
            2,
            margin + model.geom_rbound[low] + model.geom_rbound[high],
        )
    limits = [_bits(value**power * (1.0 + ROUNDING)) for value in (limit, limit + at.SKIN)]
    test = [kind, *limits, pos[low].ctypes.data, pos[high].ctypes.data, mat[low].ctypes.data]
    single = (model.body_geomnum[model.geom_bodyid[[first, second]]] == 1).all()
    if kind == at.PLANE:
        boxes = [at.BOXES_UNUSED]
    elif single:
        boxes = [at.BOXES_SPARED]
    else:
        boxes = [at.BOXES_USED]
    for one, other in ((first, second), (second, first)):
        boxes += [array[one].ctypes.data for array in (model.geom_aabb, pos, mat)]
        reach = model.geom_rbound[other] + margin + SLACK
        boxes += [
            _bits(reach**2),
            _bits(math.inf if _moves(model, one) else (reach + at.SKIN) ** 2),
        ]
    return test, [*boxes, _bits(margin)]


def _boxes_above(model: mujoco.MjModel, first: int, second: int) -> NDArray[np.int64]:
    """Addresses ``[num_tests, 2]`` of the boxes of the nodes that MuJoCo tests before it comes to two geoms.

    From a pair of nodes it goes down in the tree whose box it takes for the larger (``mj_collideTree``).
    """
    bodies = model.geom_bodyid[[first, second]]
    if (model.body_geomnum[bodies] == 1).all():
        return np.zeros((0, 2), np.int64)
    roots = model.body_bvhadr[bodies].tolist()
    path: list[tuple[int, int]] = []

    def descend(nodes: list[int]) -> bool:
        leaves = [bool((model.bvh_child[node] < 0).all()) for node in nodes]
        if all(leaves):
            return model.bvh_nodeid[nodes].tolist() == [first, second]
        path.append((nodes[0], nodes[1]))
        side = (
            leaves.index(False)
            if any(leaves)
            else int(not _size(model, nodes[0]) > _size(model, nodes[1]))
        )
        for child in model.bvh_child[nodes[side]].tolist():
            below = list(nodes)
            below[side] = roots[side] + child
            if child >= 0 and descend(below):
                return True
        path.pop()
        return False

    if not descend(roots):
        raise ValueError(f"The trees of boxes do not lead to geoms {first} and {second}.")
    return np.array(
        [[model.bvh_aabb[node].ctypes.data for node in nodes] for nodes in path], np.int64
    )


def _size(model: mujoco.MjModel, node: int) -> float:
    """The number that MuJoCo compares as a box's surface. MuJoCo reads center and half lengths as two corners."""
    x, y, z = (model.bvh_aabb[node, 3:] - model.bvh_aabb[node, :3]).tolist()
    return x * y + y * z + z * x


def _tree(
    model: mujoco.MjModel, data: mujoco.MjData, first: int, second: int, nodes: NDArray
) -> list[int]:
    """The row of ``trees``."""
    bodies = model.geom_bodyid[[first, second]].tolist()
    frames = [array[body].ctypes.data for body in bodies for array in (data.xipos, data.ximat)]
    return [*frames, _bits(model.body_margin[bodies].max()), len(nodes), nodes.ctypes.data]


def _moves(model: mujoco.MjModel, geom: int) -> bool:
    return bool(model.body_weldid[model.geom_bodyid[geom]])


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))


def _parameters(model: mujoco.MjModel, pairs: list[tuple[int, int]]) -> dict[str, NDArray]:
    """The arrays ``pair_*`` that make MuJoCo treat each pair as it treats two geoms that it found itself."""
    first, second = np.array([_by_type(model, *pair) for pair in pairs], np.int32).T.copy()
    if (
        len({*model.geom_solmix}) > 1
        or len({*model.geom_priority}) > 1
        or (model.geom_solref[:, 0] <= 0).any()
    ):
        raise ValueError(
            "The contact parameters are mixed as for geoms of equal priority and solmix."
        )
    friction = np.maximum(model.geom_friction[first], model.geom_friction[second])

    def mixed(array: NDArray) -> NDArray:
        return 0.5 * array[first] + 0.5 * array[second]

    return {
        "pair_geom1": first,
        "pair_geom2": second,
        "pair_dim": np.maximum(model.geom_condim[first], model.geom_condim[second]),
        "pair_margin": np.maximum(model.geom_margin[first], model.geom_margin[second]),
        "pair_gap": np.maximum(model.geom_gap[first], model.geom_gap[second]),
        "pair_solref": mixed(model.geom_solref),
        "pair_solreffriction": np.zeros((len(pairs), mujoco.mjNREF)),
        "pair_solimp": mixed(model.geom_solimp),
        "pair_friction": np.ascontiguousarray(friction[:, [0, 0, 1, 2, 2]]),
    }
