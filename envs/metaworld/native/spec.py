"""The table entry of a task: what its observation and reward read, and which function computes the reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mtrl.envs.metaworld.native import layout as at


@dataclass(frozen=True)
class Source:
    """A quantity of the simulation. ``kind``: ``body``, ``geom`` or ``site`` (position), ``joint`` (its qpos)."""

    kind: str
    name: str


@dataclass(frozen=True)
class Quat:
    """Where an observation's quaternion comes from.

    ``convention``: ``wxyz`` (a body's xquat), ``xyzw`` (stock calls ``Rotation.from_matrix(xmat).as_quat()``),
    ``zeros``, or ``unit`` (1, 0, 0, 0).
    """

    convention: str
    source: Source | None = None


@dataclass(frozen=True)
class Object:
    """One object of the observation: position (plus a constant offset), then quaternion.

    With ``dial`` (a joint), the position is the point on the rim of radius 0.05 that the joint's angle points at.
    """

    position: Source
    quat: Quat
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    dial: Source | None = None


@dataclass(frozen=True)
class Task:
    """Everything the engine knows about a task beyond the stock model and the stock resets.

    Attributes:
        name: ``reach-v3``.
        reward: function ``(world, init, effort, obs, out)``, undecorated; see ``tasks/__init__.py``.
        objects: the one or two objects of the observation, stock's ``_get_pos_objects`` and ``_get_quat_objects``.
        reads: up to 8 further quantities for ``read(world, k)``, current values.
        kept: up to 2 attributes of the stock environment for ``kept(init, k)``, as they are after reset (None is NaN).
        fixture: the body that stock's reset moves, if any (``self.model.body(...).pos = ...``).
        touch: the geom whose contact with both finger pads sets ``world[TOUCH]`` (stock's ``touching_main_object``).
            None where the reward does not use it, or where that geom is visual only and nothing ever touches it.
    """

    name: str
    reward: Callable[..., None]
    objects: tuple[Object, ...]
    reads: tuple[Source, ...] = ()
    kept: tuple[str, ...] = ()
    fixture: str | None = None
    touch: str | None = None

    def __post_init__(self) -> None:
        if (
            len(self.reads) > at.MAX_READS
            or len(self.kept) > at.MAX_KEPT
            or not 1 <= len(self.objects) <= 2
        ):
            raise ValueError(
                f"{self.name}: at most {at.MAX_READS} reads, {at.MAX_KEPT} kept and 1 or 2 objects"
            )

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources, with repetitions."""
        quats = tuple(item.quat.source for item in self.objects if item.quat.source is not None)
        return tuple(item.position for item in self.objects) + quats + self.reads


def body(name: str) -> Source:
    return Source("body", name)


def geom(name: str) -> Source:
    return Source("geom", name)


def site(name: str) -> Source:
    return Source("site", name)


def joint(name: str) -> Source:
    return Source("joint", name)


def wxyz(name: str) -> Quat:
    """A body's quaternion, w first."""
    return Quat("wxyz", body(name))


def xyzw(source: Source) -> Quat:
    """A quaternion computed from the rotation matrix of a body, geom or site, w last."""
    return Quat("xyzw", source)


ZEROS = Quat("zeros")
UNIT = Quat("unit")
