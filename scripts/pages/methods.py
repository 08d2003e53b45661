"""What a method's page says of its settings, logged names, results, cost and command."""

from __future__ import annotations

import json
from pathlib import Path

from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.curricula.registry import CURRICULA
from mtrl.agents.settings import Choice, as_text
from mtrl.envs import get_suite
from mtrl.leaderboard.row import Row
from mtrl.leaderboard.tables import short
from mtrl.settings import presets
from mtrl.settings.config import TrainConfig, run_settings
from scripts.pages.metrics import features_of, metrics_table
from scripts.pages.results import folder, of_method, places
from scripts.pages.text import RESULTS, code, settings_table, table

BASES = ("mtppo", "mtsac", "sb3-ppo", "sb3-sac")
"""The presets whose pages list every setting of their algorithm."""
_SUITE = {"camrl-ppo-prior": "camrl-minigrid"}


def suite_of(method: str) -> str:
    """The suite of a method's example command."""
    return _SUITE.get(method, "mt10")


def config_of(method: str) -> TrainConfig:
    """The configuration that the example command runs."""
    return presets.resolve({"suite": suite_of(method), "method": method})


def page_parts(method: str) -> str:
    """The generated half of a method's page."""
    config = config_of(method)
    discrete = get_suite(config.suite).discrete
    parts = {
        "Settings": _settings(method, config),
        "Logged names": (
            f"With this preset a run on {config.suite} logs these names. [Track a run](/guide/track.md) "
            "explains where.\n\n" + metrics_table(features_of(config, discrete))
        ),
        "Results": of_method(method),
        "Cost": _cost(method, config),
        "Command": f"```console\npython -m mtrl.train {config.suite} --method {method}\n```",
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())


def overview() -> str:
    """One line for each preset: its description and its best published number on each suite."""
    rows = []
    for name, path in presets.methods().items():
        rows.append([f"[`{name}`](/methods/{name}.md)", presets.summary(path), _numbers(name)])
    return table(["`--method`", "what it is", "success, env steps, seeds"], rows)


def _numbers(method: str) -> str:
    """The best number of each suite among runs of the preset as it stands."""
    best: dict[str, Row] = {}
    for each, row in places():
        if row.method == method and folder(row).name == method:
            known = best.get(each.suite)
            if known is None or row.headline.value > known.headline.value:
                best[each.suite] = row
    parts = [
        f"{suite} {row.headline.value:.2f}, {short(row.budget)}, {row.seeds}"
        for suite, row in best.items()
    ]
    if parts:
        return "; ".join(parts)
    others = any(row.method == method for _, row in places())
    return "with other settings, see its page" if others else "not measured"


def _settings(method: str, config: TrainConfig) -> str:
    changed = presets.read_yaml(presets.method_file(method))
    rows = [[code(key), code(as_text(value))] for key, value in changed.items()]
    parts = ["The preset sets:", table(["setting", "value"], rows)]
    base = f"[{config.algorithm}](/methods/{config.algorithm}.md)"
    if method in BASES:
        every = run_settings(config.algorithm)
        settings = {key: schema for key, schema in every.items() if key.startswith("agent.")}
        parts += [f"Every setting of the agent; the suites' own values stand in {code('configs/')}:",
                  settings_table(settings)]  # fmt: skip
    else:
        parts.append(f"Every other setting has its default, see {base}.")
    for key in ("aggregator", "actor_aggregator", "critic_aggregator", "curriculum"):
        choice = getattr(config.agent, key, None)
        if isinstance(choice, Choice) and choice.kind not in ("mean", "uniform"):
            registry = CURRICULA if key == "curriculum" else AGGREGATORS
            parts += [f"Settings of `{key}: {choice.kind}`:",
                      settings_table(registry.settings(choice.kind), dict(choice.settings))]  # fmt: skip
    return "\n\n".join(parts)


def _cost(method: str, config: TrainConfig) -> str:
    rows = [
        [each.suite, row.taken_text, f"{row.first.method['num_parameters']:,}",
         f"{row.summaries['hours']:.2f}", f"{max(row.taken) / row.summaries['hours'] / 3600:,.0f}"]
        for each, row in places()
        if row.method == method and row.summaries["hours"] > 0
    ]  # fmt: skip
    parts = []
    if rows:
        head = ["suite", "env steps", "parameters", "hours a seed", "env steps per second"]
        parts += ["From the published runs, on one core of a two-core machine, evaluations included:",
                  table(head, rows)]  # fmt: skip
    measured = json.loads((RESULTS / "benchmark_aggregators.json").read_text())
    for key in ("aggregator", "actor_aggregator", "critic_aggregator"):
        choice = getattr(config.agent, key, None)
        if (
            isinstance(choice, Choice)
            and choice.kind in measured["mt10"]
            and choice.kind != "mean"
        ):
            parts.append(
                f"A SAC update with `{choice.kind}` takes {measured['mt10'][choice.kind]:.2f} times as long as "
                f"one with plain averaging on mt10 and {measured['mt50'][choice.kind]:.2f} times on mt50."
            )
    return "\n\n".join(parts) or "Not measured."


def names() -> list[str]:
    """The presets that have a page."""
    return list(presets.methods())


def write(folder: Path) -> None:
    """One file a preset."""
    for name in names():
        (folder / f"{name}.md").write_text(page_parts(name) + "\n", encoding="utf-8")
