"""The page about networks, generated from their classes and from what they cost."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

from mtrl.agents.networks.layers import Size
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.networks.shown import MEANINGS
from scripts.pages.choices import link, prose, published_runs, section
from scripts.pages.text import RESULTS, code, table

_COST = (
    "Every cell is for MTSAC / MTPPO with their settings on the suite, from `scripts/benchmark_networks.py` with "
    "one thread. Parameters are those that train, of actor and critics; a task's are those that all tasks share and "
    "those of its own. Multiply-adds are those of matrix products for one action; weights that are composed ahead for "
    "many steps do not count. An update is over that of the plain MLP. Memory is the peak of a process that trains on "
    "mt50 with a full buffer."
)
_COST_HEAD = [
    "name",
    "parameters, mt10",
    "a task's, mt10",
    "a task's, mt50",
    "multiply-adds an action",
    "update, mt10",
    "update, mt50",
    "memory, mt50",
]
_MILLIONS = "{:.2f} M"
_COLUMNS = (
    ("mt10", "parameters", _MILLIONS, 1e6),
    ("mt10", "active_parameters", _MILLIONS, 1e6),
    ("mt50", "active_parameters", _MILLIONS, 1e6),
    ("mt10", "products_per_action", _MILLIONS, 1e6),
    ("mt10", "ratio", "{:.2f}", 1.0),
    ("mt50", "ratio", "{:.2f}", 1.0),
    ("mt50", "peak_gib", "{:.1f} GiB", 1.0),
)
NOT_MEASURED = "not measured"


def overview() -> str:
    """An overview, what each network costs, then a section for each one on the template of methods."""
    rows = [
        [link("network", name), entry.summary, published_runs("network", name)]
        for name, entry in NETWORKS.entries.items()
    ]
    costs = costs_of_all()
    parts = [
        table(["name", "what it does", "published runs"], rows),
        "## Cost",
        _COST,
        table(_COST_HEAD, [[link("network", name), *costs[name]] for name in NETWORKS]),
    ]
    parts += [_page(name, costs[name]) for name in NETWORKS]
    return "\n\n".join(parts)


def costs_of_all(folder: Path = RESULTS) -> dict[str, list[str]]:
    """The cells of each network in the table of costs, from ``benchmark_networks.json`` in a folder."""
    path = folder / "benchmark_networks.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    costs = {}
    for name in NETWORKS:
        cells = []
        for suite, key, form, unit in _COLUMNS:
            of_agents = []
            for agent in ("mtsac", "mtppo"):
                value = found.get(suite, {}).get(agent, {}).get(name, {}).get(key)
                of_agents.append(NOT_MEASURED if value is None else form.format(value / unit))
            cells.append(" / ".join(dict.fromkeys(of_agents)))
        costs[name] = cells
    return costs


def _page(name: str, costs: list[str]) -> str:
    """A network's section: equation, source and reading, needs, settings, images, cost, runs, command."""
    module = inspect.getmodule(NETWORKS[name])
    reading = prose(inspect.getdoc(module) or "")
    cost = ", ".join(
        f"{what}: {cell}" for what, cell in zip(_COST_HEAD[1:], costs) if cell != NOT_MEASURED
    )
    facts = [
        f"Source and reading: {reading}",
        f"Needs: {_needs(name)}.",
        f"Cost (MTSAC / MTPPO): {cost or NOT_MEASURED}.",
        f"Published runs: {published_runs('network', name)}.",
        f"Command: `python -m mtrl.train mt10 --network {name} --run-dir=runs/{name}`",
    ]
    shown = NETWORKS.make(name).shown
    page = section(NETWORKS, name, "\n\n".join(facts))
    if not shown:
        return page
    rows = []
    for key, each in shown.items():
        tag = f"{key}_<layer>" if each.by_layer else key
        rows.append([code(tag), MEANINGS[key], each.rows, each.columns])
    return page + "\n\n" + table(["image", "what it shows", "rows", "columns"], rows)


def _needs(name: str) -> str:
    """What a network asks for besides parameters and inputs, in words."""
    body = NETWORKS.make(name)
    size = Size(39, 400, 3, "relu", 10, tuple(f"task-{number}" for number in range(10)))
    parameters = body.parameters(size).values()
    found = []
    if any(each.kind == "owned" for each in parameters):
        found.append("parameters that each task owns")
    tied = {each.tied for each in parameters} - {None}
    if tied:
        whose = "the critic's losses" if tied == {"critic"} else "the losses of both"
        found.append(f"parameters that actor and critics have in common, trained by {whose}")
    if body.noise_size:
        found.append("random numbers of each row")
    if body.uses_share:
        found.append("the planned end of training")
    if body.mixes_tasks:
        found.append("a loss over all tasks' rows, added after aggregation")
    if body.masks_tasks:
        found.append("a look at the losses before each update")
    if body.corrects_steps or body.corrects_heads:
        found.append("a correction after each step")
    return ", ".join(found) or "nothing but shared parameters"
