"""``python -m mtrl.evaluate RUN [--episodes N] [--video DIR]``: evaluate a checkpoint again, or film it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mtrl import cli
from mtrl.errors import CheckpointError, ConfigError
from mtrl.settings.algorithms import agent_class
from mtrl.settings.config import TrainConfig, make_config
from mtrl.threads import spin_briefly

if TYPE_CHECKING:
    from mtrl.agents import Agent
    from mtrl.evaluation.evaluator import Evaluator
    from mtrl.records.record import TaskResult
    from mtrl.training.checkpoint import Checkpoint

# Torch and scipy are imported inside the functions: ``spin_briefly`` comes before torch, and --help needs neither.

USAGE = """usage: python -m mtrl.evaluate RUN [--KEY=VALUE ...]

Evaluates a run's checkpoint under the official protocol and prints a table. Changes nothing in RUN.

  --episodes=N       episodes per task; by default the run's own number
  --checkpoint=N     env steps of the checkpoint, or its folder; by default the newest
  --seed=N           draws other goals or levels; by default the run's own, which repeats its evaluation
  --envs-per-task=N  parallel environments per task
  --device=NAME      auto (cpu), cpu, cuda or cuda:N
  --video=DIR        film one episode of each task into DIR (mp4 where imageio-ffmpeg is installed, else gif); each
                     ends soon after success, and the last file shows all tasks
  --tasks=A,B        film these tasks only
  --camera=NAME      Meta-World's view: close (by default), corner, corner2, corner3, corner4, topview, behindGripper or
                     gripperPOV"""
_OPTIONS = {
    "episodes": int,
    "checkpoint": str,
    "seed": int,
    "envs_per_task": int,
    "device": str,
    "video": str,
    "tasks": str,
    "camera": str,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 1 failed while running, 2 bad input)."""
    spin_briefly()
    arguments = list(sys.argv[1:] if argv is None else argv)
    return cli.run_command("mtrl.evaluate", lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    words, given = cli.parse(arguments, _OPTIONS)
    if not arguments or "help" in given:
        print(cli.fitted(USAGE))
        return 0
    if len(words) != 1:
        raise ConfigError(f"RUN: {len(words)} given; name one run folder")
    _check_film(given)
    from mtrl.evaluation.evaluator import make_evaluator

    saved = find(Path(words[0]), given.get("checkpoint"))
    config = evaluation_config(saved, given)
    tasks = given["tasks"].split(",") if "tasks" in given else None
    if "video" in given:
        from mtrl.evaluation.video import check_film, film

        check_film(config, Path(given["video"]), tasks, given.get("camera"))
    print(
        f"{config.suite} {config.method} seed {config.seed}, checkpoint at {saved.progress:,} env steps"
    )
    evaluator = make_evaluator(config)
    try:
        agent = load_agent(config, saved, evaluator)
        results = evaluator.evaluate(agent)
    finally:
        evaluator.close()
    print(table(results, evaluator.distinct_levels, evaluator.env.suite.groups))
    if "video" in given:
        film(config, agent, Path(given["video"]), tasks, given.get("camera"), say_file)
    return 0


def _check_film(given: dict[str, object]) -> None:
    for key in ("tasks", "camera"):
        if key in given and "video" not in given:
            raise ConfigError(f"{key}: goes with --video=DIR")


def say_file(path: Path) -> None:
    """Print the path of a film as soon as it is written, because all films together take a while."""
    print(path, flush=True)


def find(run: Path, wanted: str | None = None) -> Checkpoint:
    """A checkpoint of a run folder: the newest whole one, or the one named by its env steps or folder.

    Raises:
        ConfigError, CheckpointError: there is no such run or checkpoint, or it is damaged.
    """
    from mtrl.training import checkpoint

    if not (run / "config.yaml").is_file():
        raise ConfigError(f"RUN: {run} is not a run folder (no config.yaml)")
    if wanted is not None:
        path = (
            run / "checkpoints" / f"{int(wanted):012d}" if wanted.isdecimal() else Path(wanted)
        )
        if not path.is_dir():
            have = (
                ", ".join(
                    str(int(path.name)) for path in checkpoint.newest_first(run / "checkpoints")
                )
                or "none"
            )
            raise ConfigError(f"checkpoint: {wanted} is not there; the run has {have}")
        return checkpoint.verify(path)
    saved, warnings = checkpoint.newest_whole(run / "checkpoints")
    for warning in warnings:
        print(f"warning: {warning}; using an older one", file=sys.stderr)
    if saved is None:
        raise CheckpointError(f"{run}: has no checkpoint yet")
    return saved


def evaluation_config(saved: Checkpoint, given: dict[str, object]) -> TrainConfig:
    """The run's configuration with the evaluation's settings replaced by those given."""
    names = {
        "episodes": "eval.episodes_per_task",
        "seed": "eval.seed",
        "envs_per_task": "eval.envs_per_task",
    }
    changed = {
        names.get(key, key): value for key, value in given.items() if key in (*names, "device")
    }
    return make_config(saved.config | changed)


def load_agent(config: TrainConfig, saved: Checkpoint, evaluator: Evaluator) -> Agent:
    """The agent of a checkpoint, without its experience."""
    from mtrl.agents.agent import resolve_device

    kind = agent_class(config.algorithm)
    agent = kind(
        evaluator.env, config.agent, seed=config.seed, device=resolve_device(config.device)
    )
    agent.load_state_dict(saved.agent())
    return agent


def table(
    results: dict[str, TaskResult],
    levels: dict[str, int] | None = None,
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """Success per task with its Wilson interval, final-step success, return and length; then unweighted means.

    Args:
        levels: number of different goals or levels of each task. A deterministic policy acts the same when a level is
            repeated. So the table shows this number in place of an interval where the episodes of a task repeat levels.
        groups: names of tasks that have a mean of their own, by the name of the group.
    """
    from mtrl.statistics import wilson_interval

    means = {"mean over tasks": list(results)}
    means |= {f"mean over {group}": list(names) for group, names in groups.items()}
    width = max(len(name) for name in [*means, *results])
    lines = [f"{'task':<{width}}  success  95% interval  final step   return  length"]
    for name, result in results.items():
        low, high = wilson_interval(result.successes, result.episodes)
        interval = f"{low:5.3f} - {high:5.3f}"
        if levels is not None and levels[name] < result.episodes:
            interval = f"{f'of {levels[name]} levels':>13}"
        final = result.final_step_successes / result.episodes
        lines.append(
            f"{name:<{width}}  {result.success_rate:7.3f}  {interval}  {final:9.3f}  "
            f"{result.return_mean:8.1f}  {result.length_mean:6.1f}"
        )
    for title, names in means.items():
        own = [results[name] for name in names]
        mean = sum(result.success_rate for result in own) / len(own)
        final = sum(result.final_step_successes / result.episodes for result in own) / len(own)
        lines.append(f"{title:<{width}}  {mean:7.3f}  {'':13}  {final:9.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
