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
        "lora": Entry(
            "mtrl.agents.networks.bodies.lora:LoRA",
            "Adapters of low rank, one a task or one for all (Hu et al. 2022).",
        ),
        "multilora": Entry(
            "mtrl.agents.networks.bodies.lora:MultiLoRA",
            "Several shared adapters, scaled for each unit (Wang et al. 2023).",
        ),
        "mtl-lora": Entry(
            "mtrl.agents.networks.bodies.mtl_lora:MTLLoRA",
            "Shared adapters with a core and a mixture of each task (Yang et al. 2024).",
        ),
        "mtlora": Entry(
            "mtrl.agents.networks.bodies.mtl_lora:MTLoRA",
            "Shared adapters, and adapters of each task in the last layer (Agiza et al. 2024).",
        ),
        "molora": Entry(
            "mtrl.agents.networks.bodies.molora:MoLoRA",
            "Adapters that a router picks for a row, without the task (Zadouri et al. 2024).",
        ),
        "c-poly": Entry(
            "mtrl.agents.networks.bodies.mtl_lora:CPoly",
            "Adapters that tasks choose, and one of each task (Wang et al. 2024).",
        ),
        "align-lora": Entry(
            "mtrl.agents.networks.bodies.lora:AlignLoRA",
            "One adapter, and a loss that aligns the tasks' codes (Liu et al. 2025).",
        ),
        "ptsl": Entry(
            "mtrl.agents.networks.bodies.ptsl:PTSL",
            "A small matrix of each task between shared projections (Roberts and Di 2024).",
        ),
        "hierarchical": Entry(
            "mtrl.agents.networks.bodies.hierarchical:Hierarchical",
            "Heads of simpler tasks at lower layers (Sanh et al. 2019).",
        ),
        "ltb": Entry(
            "mtrl.agents.networks.bodies.ltb:LTB",
            "A tree of layers whose branches are learned (Guo et al. 2020).",
        ),
        "sparse-heads": Entry(
            "mtrl.agents.networks.bodies.sparse_heads:SparseHeads",
            "Heads that read few features, by a group lasso (Lachapelle et al. 2023).",
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
