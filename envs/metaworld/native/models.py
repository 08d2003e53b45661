"""Models as the engine runs them: compiled without visuals, which changes no number of the physics."""

from __future__ import annotations

import mujoco

from mtrl.envs.errors import SuiteError
from mtrl.envs.metaworld.native.spec import Task

MUJOCO_VERSION = "3.3.0"


def check_mujoco() -> None:
    """Refuse any other MuJoCo: its solver differs between versions, and the reset snapshots with it.

    Raises:
        SuiteError: another version is installed; names both.
    """
    if mujoco.__version__ != MUJOCO_VERSION:
        raise SuiteError(
            f"backend: native needs mujoco {MUJOCO_VERSION}, found {mujoco.__version__}; "
            f"install mujoco=={MUJOCO_VERSION} or choose backend='stock'"
        )


def stripped_model(xml: str, full: mujoco.MjModel, task: Task) -> mujoco.MjModel:
    """The model at path ``xml`` without visual geoms and their meshes and textures (21 to 3.2 MB).

    A visual geom that the task observes is replaced by a site of the same pose.

    Args:
        full: the model of a stock environment of the task, which is not quite that of the file.
    """
    check_mujoco()
    spec = mujoco.MjSpec.from_file(xml)
    spec.compiler.discardvisual = True
    for name in sorted(source.name for source in set(task.sources) if source.kind == "geom"):
        found = full.geom(name)
        if not (found.contype.item() or found.conaffinity.item()):
            holder = spec.body(full.body(found.bodyid.item()).name)
            holder.add_site(name=observed(name), pos=found.pos, quat=found.quat)
    model = spec.compile()
    model.eq_data[:] = full.eq_data  # stock rewrites the weld between mocap body and hand
    return model


def observed(geom_name: str) -> str:
    """Name of the site that stands in for a visual geom."""
    return f"{geom_name}/observed"
