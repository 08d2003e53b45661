"""Pages about gradient methods, curricula and networks, generated from their classes."""

from __future__ import annotations

import inspect
import json
from typing import Any

from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.aggregators.wrappers import Wrappers
from mtrl.agents.curricula.base import CurriculumInfo
from mtrl.agents.curricula.registry import CURRICULA
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.settings import Registry, settings_of
from scripts.pages.results import measured
from scripts.pages.text import RESULTS, code, settings_table, table

_NEEDS = {
    "gramian": "inner products of task gradients (Gramian)",
    "jacobian": "every task's gradient (Jacobian)",
    "cross_gramian": "inner products of two half batches",
    "losses": "task losses",
    "success": "success rates",
    "noise": "random numbers",
}


def aggregators() -> str:
    """An overview, then a section for each method with its description and settings."""
    costs = json.loads((RESULTS / "benchmark_aggregators.json").read_text())
    rows = []
    for name, entry in AGGREGATORS.entries.items():
        info = AGGREGATORS.build(name, {}).info
        cost = [
            f"{costs[suite][name]:.2f}" if name in costs[suite] else "–"
            for suite in ("mt10", "mt50")
        ]
        where = "critic only" if info.needs_positive_loss else "actor, critic"
        rows.append(
            [
                _link("aggregator", name),
                entry.summary,
                where,
                *cost,
                _measured("aggregator", name),
            ]
        )
    head = [
        "name",
        "what it does",
        "goes with",
        "cost on mt10",
        "cost on mt50",
        "published runs",
    ]
    wrappers = settings_table(settings_of(Wrappers))
    parts = [table(head, rows), "## Settings of every gradient method", wrappers]
    for name in AGGREGATORS:
        info = AGGREGATORS.build(name, {}).info
        needs = (
            ", ".join(_NEEDS[need] for need in sorted(info.needs))
            or "nothing but the losses' sum"
        )
        facts = f"Source: {info.source}. Needs: {needs}."
        if info.needs_positive_loss:
            facts += " It takes logarithms or ratios of losses, so it works on positive losses only: the critic's."
        if info.direction_only:
            facts += " Its update is no weighted sum of task gradients, so no task weights are logged."
        parts.append(_section(AGGREGATORS, name, facts))
    return "\n\n".join(parts)


def curricula() -> str:
    """An overview, then a section for each curriculum with its description and settings."""
    costs = json.loads((RESULTS / "benchmark_curricula.json").read_text())["mt10"]
    own = costs["over_uniform"] | {"camrl": costs["camrl_over_single_task"]}
    rows = []
    for name, entry in CURRICULA.entries.items():
        info = CURRICULA.build(name, {}).info
        cost = f"{own[name]:.2f}" if name in own else "–"
        heads = "any" if len(info.heads) == 3 else ", ".join(sorted(info.heads))
        agent = "mtppo" if info.paces else "mtppo, mtsac"
        rows.append(
            [
                _link("curriculum", name),
                entry.summary,
                heads,
                agent,
                cost,
                _measured("curriculum", name),
            ]
        )
    head = ["name", "what it does", "heads", "agents", "cost on mt10", "published runs"]
    parts = [table(head, rows)]
    for name in CURRICULA:
        info = CURRICULA.build(name, {}).info
        parts.append(_section(CURRICULA, name, f"Source: {info.source}.{_demands(info)}"))
    return "\n\n".join(parts)


def networks() -> str:
    """An overview, then a section for each network with its description and settings."""
    rows = [
        [_link("network", name), entry.summary, _measured("network", name)]
        for name, entry in NETWORKS.entries.items()
    ]
    parts = [table(["name", "what it does", "published runs"], rows)]
    parts += [_section(NETWORKS, name, "") for name in NETWORKS]
    return "\n\n".join(parts)


def _demands(info: CurriculumInfo) -> str:
    text = (
        " It tracks the Gramian of task gradients, so the agent forms every task's gradient."
        if info.gramian
        else ""
    )
    text += " It couples the parameters that tasks own." if info.couples else ""
    return text + (
        " It lets tasks pause, which needs an on-policy agent." if info.paces else ""
    )


def _section(registry: Registry[Any], name: str, facts: str) -> str:
    outer = settings_of(Wrappers) if registry is AGGREGATORS else {}
    settings = {
        key: schema for key, schema in registry.settings(name).items() if key not in outer
    }
    about = inspect.getdoc(registry[name]) or ""
    parts = [f"({registry.what}-{name})=\n## `{name}`", _prose(about), facts]
    parts += [settings_table(settings)] if settings else []
    return "\n\n".join(filter(None, parts))


def _prose(docstring: str) -> str:
    """A docstring as Markdown: its code in single backticks, and no sections for the reference."""
    return (
        docstring.partition("\n\nArgs:")[0].partition("\n\nAttributes:")[0].replace("``", "`")
    )


def _link(what: str, name: str) -> str:
    return f"[`{name}`](#{what}-{name})"


def _measured(key: str, name: str) -> str:
    found = list(dict.fromkeys(measured(key, name)))
    if not found:
        return "none"
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def count() -> str:
    """Numbers of gradient methods, in a sentence."""
    infos = [AGGREGATORS.build(name, {}).info for name in AGGREGATORS]
    positive = sum(info.needs_positive_loss for info in infos)
    return (
        f"There are {len(infos)} gradient methods. Any of them works on the critic; "
        f"{len(infos) - positive} also work on the actor. The other {positive} need positive losses. "
        "Set them with "
        f"{code('--critic-aggregator')}, {code('--actor-aggregator')}, or {code('--aggregator')} for both."
    )
