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
        "mmoe": Entry(
            "mtrl.agents.networks.bodies.mmoe:MMoE",
            "Mixes experts with a gate of each task (Ma et al. 2018).",
        ),
        "mmoeex": Entry(
            "mtrl.agents.networks.bodies.mmoe:MMoEEx",
            "MMoE where tasks have experts that others have not (Aoki et al. 2020).",
        ),
        "cgc": Entry(
            "mtrl.agents.networks.bodies.cgc:CGC",
            "Mixes experts that tasks share with experts of each task (Tang et al. 2020).",
        ),
        "ple": Entry(
            "mtrl.agents.networks.bodies.cgc:PLE",
            "CGC with a level of experts for each hidden layer (Tang et al. 2020).",
        ),
        "m3vit": Entry(
            "mtrl.agents.networks.bodies.m3vit:M3ViT",
            "Sparse layers of experts with a noisy top-k gate of each task (Liang et al. 2022).",
        ),
        "cross-stitch": Entry(
            "mtrl.agents.networks.bodies.cross_stitch:CrossStitch",
            "Columns that are mixed after every layer (Misra et al. 2016).",
        ),
        "home": Entry(
            "mtrl.agents.networks.bodies.home:HoME",
            "Experts of all tasks, of groups and of a task, with gated inputs (Wang et al. 2024).",
        ),
    },
)
NetworkChoice = Annotated[Choice, BeforeValidator(NETWORKS.choice), NETWORKS]
