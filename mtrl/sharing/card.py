"""The model card of a shared agent, in the Hugging Face Hub's format: a YAML head and Markdown."""

from __future__ import annotations

import json

import yaml

from mtrl.records.results import Record, success_mean
from mtrl.settings.algorithms import agent_class
from mtrl.settings.config import TrainConfig
from mtrl.statistics import wilson_interval


def model_card(config: TrainConfig, record: Record, progress: int) -> str:
    """What the agent is, how well it does, and how to load it.

    Args:
        progress: env steps of the checkpoint.
    """
    protocol, provenance = record["protocol"], record["provenance"]
    name = agent_class(config.algorithm).__name__
    module = "mtrl.sb3" if config.algorithm.startswith("sb3-") else "mtrl"
    suite = protocol["suite"] if config.declaration is None else "suite.yaml"
    ours = [f"from mtrl import {name}, make_vec"]
    imports = (
        ours
        if module == "mtrl"
        else [f"from {module} import {name}", "from mtrl import make_vec"]
    )
    head = {
        "library_name": "mtrl",
        "tags": ["reinforcement-learning", "multi-task", protocol["suite"], config.algorithm],
    }
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in head.items()),
        "---",
        "",
        f"# {config.method} on {protocol['suite']}, seed {config.seed}",
        "",
        f"Trained with {', then '.join(f'`{each}`' for each in provenance['commands'])} for {progress:,} env steps; "
        f"{record['method']['num_parameters']:,} parameters.",
        "",
        *_results(record, progress),
        "",
        "## Protocol",
        "",
        f"Reward {protocol['reward_version']}, horizon {protocol['horizon']}, success {protocol['success']}, goals: "
        f"{protocol['goals']} (seed {config.benchmark_seed}), {_seed_in_words(protocol['eval_seed'])}, deterministic "
        "actions.",
        "",
        *_declaration(config),
        "## Use",
        "",
        "```python",
        *imports,
        "",
        f"agent = {name}.from_pretrained(FOLDER_OR_HUB_ID)",
        f'env = make_vec("{suite}", goal_seed={config.benchmark_seed})',
        "obs, _ = env.reset()",
        "action, _ = agent.predict(obs, deterministic=True, task_id=env.task_id)",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _declaration(config: TrainConfig) -> list[str]:
    """A declared suite as the file that declares it; nothing for suites that ship."""
    if config.declaration is None:
        return []
    values = json.loads(config.declaration)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return [
        "## Suite",
        "",
        "`suite.yaml` declares it:",
        "",
        "```yaml",
        text.rstrip(),
        "```",
        "",
    ]


def _seed_in_words(eval_seed: int | None) -> str:
    return "the run's own evaluation" if eval_seed is None else f"evaluation seed {eval_seed}"


def _results(record: Record, progress: int) -> list[str]:
    reached = [each for each in record["evaluations"] if each["env_steps"] <= progress]
    if not reached:
        return ["It has not been evaluated."]
    last = reached[-1]
    mean, steps = success_mean(last["per_task"]), last["env_steps"]
    episodes = record["protocol"]["episodes_per_task"]
    lines = [
        f"Mean success over tasks {mean:.3f} at {steps:,} env steps, {episodes} episodes a task, one seed.",
        "",
        "| task | success | 95% interval |",
        "|---|---|---|",
    ]
    levels = record["protocol"]["distinct_levels"] or {}
    for name, task in last["per_task"].items():
        rate = task["successes"] / task["episodes"]
        # Then the episodes of a deterministic policy are not independent.
        interval = "levels repeat"
        if levels.get(name, task["episodes"]) >= task["episodes"]:
            interval = "{:.3f} to {:.3f}".format(
                *wilson_interval(task["successes"], task["episodes"])
            )
        lines.append(f"| {name} | {rate:.3f} | {interval} |")
    return lines
