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
        "simba": Entry(
            "mtrl.agents.networks.bodies.simba:SimBa",
            "Residual blocks that normalize before they compute (Lee et al. 2025).",
        ),
        "simba-v2": Entry(
            "mtrl.agents.networks.bodies.simba_v2:SimBaV2",
            "Features and weights on the unit sphere (Lee et al. 2025).",
        ),
        "bro": Entry(
            "mtrl.agents.networks.bodies.bro:BRO",
            "Residual blocks that normalize after each product (Nauman et al. 2024).",
        ),
    },
)
NetworkChoice = Annotated[Choice, BeforeValidator(NETWORKS.choice), NETWORKS]
