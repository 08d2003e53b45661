"""Architectures by name. A class, and with it torch, is imported when its settings are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from mtrl.agents.settings import Choice, Entry, Registry

if TYPE_CHECKING:
    from mtrl.agents.networks.bodies.body import Body

NETWORKS: Registry[Body] = Registry(
    "network",
    {
        "mlp": Entry(
            "mtrl.agents.networks.bodies.mlp:MLP",
            "Hidden layers that all tasks share.",
        ),
        "film": Entry(
            "mtrl.agents.networks.bodies.film:FiLM",
            "A code of the task scales and shifts every channel (Perez et al. 2018).",
        ),
        "moore": Entry(
            "mtrl.agents.networks.bodies.moore:MOORE",
            "Mixes orthogonal experts with weights of each task (Hendawy et al. 2024).",
        ),
        "soft-modules": Entry(
            "mtrl.agents.networks.bodies.soft_modules:SoftModules",
            "Mixes the modules of each layer by task and observation (Yang et al. 2020).",
        ),
        "care": Entry(
            "mtrl.agents.networks.bodies.care:CARE",
            "Mixes encoders by what is known of the task, trained by the critic (Sodhani et al. 2021).",
        ),
        "paco": Entry(
            "mtrl.agents.networks.bodies.paco:PaCo",
            "Gives each task a mixture of sets of weights (Sun et al. 2022).",
        ),
        "d2r": Entry(
            "mtrl.agents.networks.bodies.d2r:D2R",
            "Routes each row through a graph of modules (He et al. 2024).",
        ),
        "mtan": Entry(
            "mtrl.agents.networks.bodies.mtan:MTAN",
            "Masks the features of a shared trunk for each task (Liu et al. 2019).",
        ),
        "yolor": Entry(
            "mtrl.agents.networks.bodies.yolor:YOLOR",
            "Adds, multiplies or concatenates vectors of each task (Wang et al. 2021).",
        ),
        "dsmtl": Entry(
            "mtrl.agents.networks.bodies.dsmtl:DSMTL",
            "Weighs a shared trunk against one of each task (Guo et al. 2021).",
        ),
        "embedding": Entry(
            "mtrl.agents.networks.bodies.embedding:Embedding",
            "Concatenates a learned code of unit length for each task (Nauman et al. 2025).",
        ),
    },
)
NetworkChoice = Annotated[Choice, BeforeValidator(NETWORKS.choice), NETWORKS]
