"""Pages about gradient methods and curricula, generated from their classes, and parts of those about networks."""

from __future__ import annotations

import inspect
import json
from typing import Any

from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.aggregators.wrappers import Wrappers
from mtrl.agents.curricula.base import CurriculumInfo
from mtrl.agents.curricula.registry import CURRICULA
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
                link("aggregator", name),
                entry.summary,
                where,
                *cost,
                published_runs("aggregator", name),
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
        parts.append(section(AGGREGATORS, name, facts))
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
                link("curriculum", name),
                entry.summary,
                heads,
                agent,
                cost,
                published_runs("curriculum", name),
            ]
        )
    head = ["name", "what it does", "heads", "agents", "cost on mt10", "published runs"]
    parts = [table(head, rows)]
    for name in CURRICULA:
        info = CURRICULA.build(name, {}).info
        parts.append(section(CURRICULA, name, f"Source: {info.source}.{_demands(info)}"))
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


def section(registry: Registry[Any], name: str, facts: str) -> str:
    """The section of a name: its docstring, then ``facts`` and its settings."""
    outer = settings_of(Wrappers) if registry is AGGREGATORS else {}
    settings = {
        key: schema for key, schema in registry.settings(name).items() if key not in outer
    }
    about = inspect.getdoc(registry[name]) or ""
    parts = [f"({registry.what}-{name})=\n## `{name}`", prose(about), facts]
    parts += [settings_table(settings)] if settings else []
    return "\n\n".join(filter(None, parts))


def prose(docstring: str) -> str:
    """A docstring as Markdown: its code in single backticks, and no sections for the reference."""
    return (
        docstring.partition("\n\nArgs:")[0].partition("\n\nAttributes:")[0].replace("``", "`")
    )


def link(what: str, name: str) -> str:
    """A link to the section of a name."""
    return f"[`{name}`](#{what}-{name})"


def published_runs(key: str, name: str) -> str:
    """Where there are published runs with this choice, in words."""
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
