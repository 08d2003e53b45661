"""Aggregators by name. A class, and with it torch, is imported when its settings are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from mtrl.agents.settings import Choice, Entry, Registry

if TYPE_CHECKING:
    from mtrl.agents.aggregators.base import Aggregator


def _entry(place: str, summary: str) -> Entry:
    """A class of this package, as ``module:Class``."""
    return Entry(f"mtrl.agents.aggregators.{place}", summary)


AGGREGATORS: Registry[Aggregator] = Registry(
    "aggregator",
    {
        "mean": _entry("fixed:Mean", "Plain averaging of task gradients."),
        "sum": _entry("fixed:Sum", "The sum of task gradients."),
        "random": Entry(
            "mtrl.agents.aggregators.fixed:RandomWeights",
            "Random weights, new at every update (RLW, Lin et al. 2022).",
        ),
        "pcgrad": Entry(
            "mtrl.agents.aggregators.surgery:PCGrad",
            "Projects conflicting task gradients off each other (Yu et al. 2020).",
        ),
        "gradvac": Entry(
            "mtrl.agents.aggregators.surgery:GradVac",
            "Brings each pair of gradients up to a running target cosine (Wang et al. 2021).",
        ),
        "cagrad": Entry(
            "mtrl.agents.aggregators.cagrad:CAGrad",
            "Serves the worst-off task near the mean gradient (Liu et al. 2021).",
        ),
        "cagrad-fast": Entry(
            "mtrl.agents.aggregators.cagrad:CAGradFast",
            "CAGrad on a few drawn tasks and the mean of the rest (Liu et al. 2021).",
        ),
        "mgda": Entry(
            "mtrl.agents.aggregators.projection:MGDA",
            "The shortest vector in the hull of the gradients (Sener & Koltun 2018).",
        ),
        "imtl-g": Entry(
            "mtrl.agents.aggregators.equal:IMTLG",
            "Equal projections on all task gradients (Liu et al. 2021, IMTL).",
        ),
        "nash-mtl": Entry(
            "mtrl.agents.aggregators.fairness:NashMTL",
            "The Nash bargaining solution (Navon et al. 2022).",
        ),
        "fairgrad": Entry(
            "mtrl.agents.aggregators.fairness:FairGrad",
            "Alpha-fair progress over tasks (Ban & Ji 2024).",
        ),
        "aligned-mtl": Entry(
            "mtrl.agents.aggregators.aligned:AlignedMTL",
            "Aligns the principal components of the gradients (Senushkin et al. 2023).",
        ),
        "ega": Entry(
            "mtrl.agents.aggregators.aligned:EGA",
            "Aligned-MTL weighted by the losses' progress (radarODE-MTL, 2024).",
        ),
        "svd-reweight": Entry(
            "mtrl.agents.aggregators.spectral:SVDReweight",
            "More weight on tasks whose gradient lies in the main directions (Wu et al. 2020).",
        ),
        "upgrad": Entry(
            "mtrl.agents.aggregators.projection:UPGrad",
            "The mean of the gradients' projections on the dual cone (Quinton & Rey 2024).",
        ),
        "dualproj": Entry(
            "mtrl.agents.aggregators.projection:DualProj",
            "The mean gradient projected on the dual cone (GEM, Lopez-Paz & Ranzato 2017).",
        ),
        "config": Entry(
            "mtrl.agents.aggregators.equal:ConFIG",
            "A conflict-free direction at equal angles to all gradients (Liu et al. 2024).",
        ),
        "gradnorm": Entry(
            "mtrl.agents.aggregators.learned:GradNorm",
            "Learned weights that balance gradient norms (Chen et al. 2018).",
        ),
        "sdmgrad": Entry(
            "mtrl.agents.aggregators.learned:SDMGrad",
            "A regularised min-norm direction (Xiao et al. 2023).",
        ),
        "famo": Entry(
            "mtrl.agents.aggregators.loss_rate:FAMO",
            "Equal decrease of log losses, from losses alone (Liu et al. 2023).",
        ),
        "uncertainty": Entry(
            "mtrl.agents.aggregators.loss_scale:UncertaintyWeighting",
            "Learned homoscedastic uncertainty of each task (Kendall et al. 2018).",
        ),
        "imtl-l": Entry(
            "mtrl.agents.aggregators.loss_scale:IMTLL",
            "Learned scales that bring all losses to 1 (Liu et al. 2021, IMTL).",
        ),
        "dwa": Entry(
            "mtrl.agents.aggregators.loss_rate:DWA",
            "Weights from the rate at which losses change (Liu et al. 2019).",
        ),
        "gls": Entry(
            "mtrl.agents.aggregators.loss_scale:GLS",
            "The geometric mean of the losses (Chennupati et al. 2019).",
        ),
        "smooth-tchebycheff": Entry(
            "mtrl.agents.aggregators.loss_scale:SmoothTchebycheff",
            "A smooth maximum of the losses (Lin et al. 2024).",
        ),
        "igb-v1": Entry(
            "mtrl.agents.aggregators.loss_rate:IGBv1",
            "Log losses, weighted by the losses relative to an early epoch (Dai et al. 2023).",
        ),
        "igb-v2": Entry(
            "mtrl.agents.aggregators.igb:IGBv2",
            "Log losses, with weights drawn by a small learned policy (Dai et al. 2023).",
        ),
        "lbtw": Entry(
            "mtrl.agents.aggregators.loss_rate:LBTW",
            "Weights from losses relative to the first ones of a period (Liu et al. 2019).",
        ),
        "success-focal": Entry(
            "mtrl.agents.aggregators.loss_rate:SuccessFocal",
            "More weight on tasks that succeed less.",
        ),
        "dtp": Entry(
            "mtrl.agents.aggregators.prioritisation:TaskPriorities",
            "More weight on tasks with a low running success (Guo et al. 2018).",
        ),
        "graddrop": Entry(
            "mtrl.agents.aggregators.sign:GradDrop",
            "Keeps one sign of each coordinate, drawn at random (Chen et al. 2020).",
        ),
        "sam-gs": _entry("sign:SAMGS", "Similarity-aware momentum (Borsani et al. 2025)."),
        "moco": Entry(
            "mtrl.agents.aggregators.tracked:MoCo",
            "Min-norm weights on tracked gradients (Fernando et al. 2023).",
        ),
        "db-mtl": Entry(
            "mtrl.agents.aggregators.tracked:DBMTL",
            "Balances log losses and gradient norms (Lin et al. 2023).",
        ),
        "excess-mtl": Entry(
            "mtrl.agents.aggregators.tracked:ExcessMTL",
            "More weight on tasks with excess risk (He et al. 2024).",
        ),
    },
    outer=(
        "mtrl.agents.aggregators.wrappers:Wrappers",
        "mtrl.agents.aggregators.wrapping:wrap",
    ),
)
AggregatorChoice = Annotated[Choice, BeforeValidator(AGGREGATORS.choice), AGGREGATORS]


def make_aggregator(name: str, **params: object) -> Aggregator:
    """The aggregator ``name`` with its published defaults, except for ``params``.

    Raises:
        AgentError: no such name or parameter (the nearest one is named), or a value that is not allowed.
    """
    return AGGREGATORS.build(name, params)


def parse_aggregator(text: str) -> Aggregator:
    """The aggregator that ``name`` or ``name:key=value,...`` describes; keys are its parameters and ``wrap``'s.

    >>> parse_aggregator("cagrad:c=0.9,every=4").info.name
    'every(cagrad)'

    Raises:
        AgentError: an unknown name or key, or a value that is not allowed.
    """
    return AGGREGATORS.make(text)
