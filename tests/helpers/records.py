"""Result records as a run would write them, with chosen counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl.envs import get_suite

Record = dict[str, Any]


def make_record(
    suite: str = "mt10",
    method: str = "mtsac",
    seed: int = 0,
    rates: Sequence[float] = (),
    evaluations: int = 3,
    env_steps: int = 3_000_000,
    status: str = "finished",
    **params: Any,
) -> Record:
    """A record whose success grows linearly to ``rates`` (one per task, missing ones 0.5) over its evaluations.

    Args:
        env_steps: the budget planned and, unless the run diverged or failed, reached.
        params: further settings, with ``__`` for dots.
    """
    spec = get_suite(suite)
    final = [*rates, *[0.5] * (spec.num_tasks - len(rates))]
    settings = {
        "suite": suite,
        "method": method,
        "seed": seed,
        "total_env_steps": env_steps,
        "agent.width": 400,
    }
    settings |= {key.replace("__", "."): value for key, value in params.items()}
    whole = status == "finished"
    records = [
        _evaluation(spec.task_names, final, index, evaluations, env_steps)
        for index in range(evaluations)
    ]
    if not whole:
        records = records[:-1]
    return {
        "schema_version": 2,
        "run_id": f"{suite.replace(':', '-')}_{method}_s{seed}_{env_steps}"
        + "".join(f"_{v}" for v in params.values()),
        "status": status,
        "protocol": {
            "suite": suite,
            "tasks": list(spec.task_names),
            "backend": "native",
            "reward_version": spec.reward_version,
            "horizon": spec.horizon,
            "goals": spec.goals,
            "goal_seed": seed,
            "distinct_levels": dict.fromkeys(spec.task_names, 50),
            "success": spec.success,
            "episodes_per_task": 50,
            "deterministic": True,
            "eval_seed": None,
        },
        "method": {
            "name": method,
            "agent": method.partition("-")[0],
            "aggregator": "mean",
            "curriculum": None,
            "network": "mlp",
            "heads": "multi-head",
            "params": settings,
            "num_parameters": 373_690,
        },
        "seed": seed,
        "budget": {
            "env_steps": env_steps if whole else records[-1]["env_steps"] if records else 0,
            "gradient_steps": 10 * evaluations,
            "segments": [{"env_steps": 0, "total_env_steps": env_steps}],
        },
        "evaluations": records,
        "provenance": {
            "git_commit": "c4ff93090890e339882a808d44fa22816553b597",
            "git_dirty": False,
            "commands": [f"python -m mtrl.train {suite} --method {method} --seed {seed}"],
            "config_sha256": f"{seed:064x}",
            "packages": {"mujoco": "3.3.0", "metaworld": "3.1.1"},
            "python": "3.11.7",
            "os": "Linux",
            "device": "cpu",
            "cpu_count": 2,
            "precision": "fp32" if settings.get("agent.precision") == "fp32" else "bf16",
        },
    }


def _evaluation(
    tasks: Sequence[str], final: Sequence[float], index: int, count: int, env_steps: int
) -> Record:
    share = (index + 1) / count
    per_task = {}
    for name, rate in zip(tasks, final):
        wins = round(50 * rate * share)
        per_task[name] = {
            "successes": wins,
            "final_step_successes": wins // 2,
            "episodes": 50,
            "return_mean": 4000.0 * rate * share,
            "length_mean": 500.0,
        }
    steps = env_steps * (index + 1) // count
    return {
        "env_steps": steps,
        "gradient_steps": 10 * (index + 1),
        "wall_s": 3600.0 * share,
        "per_task": per_task,
    }


def write(folder: Path, record: Record, name: str | None = None) -> Path:
    """Write a record into ``folder``, by default under its run id."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{record['run_id']}.json")
    path.write_text(json.dumps(record), encoding="utf-8")
    return path
