"""``mtrl demo SUITE``: evaluate and film a trained agent that comes with the package."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl import cli, demos
from mtrl.errors import ConfigError
from mtrl.threads import spin_briefly

USAGE = """usage: mtrl demo SUITE [--KEY=VALUE ...]

Evaluates a trained agent that comes with the package under the official protocol, and films one episode of each task.

  SUITE         one of: {names}
  --episodes=N  episodes per task; by default as many as when it was trained
  --video=DIR   where the films go; by default demo-SUITE
  --tasks=A,B   film these tasks only
  --camera=NAME Meta-World's view, as in mtrl evaluate

`mtrl.MTPPO.from_pretrained(mtrl.demos.demo_folder(SUITE))` loads the same agent."""
_KINDS = {"episodes": int, "video": str, "tasks": str, "camera": str}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 1 failed while running, 2 bad input)."""
    spin_briefly()
    arguments = list(sys.argv[1:] if argv is None else argv)
    return cli.run_command("mtrl demo", lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    words, options = cli.parse(argv, _KINDS)
    if not argv or "help" in options:
        print(cli.fitted(USAGE.format(names=", ".join(demos.names()))))
        return 0
    if len(words) != 1:
        raise ConfigError(f"SUITE: {len(words)} given; name one of {', '.join(demos.names())}")
    show(demos.demo_folder(words[0]), options)
    return 0


def show(folder: Path, options: dict[str, Any]) -> None:
    """Evaluate and film the agent of a shared folder."""
    from mtrl.evaluate import say_file, table
    from mtrl.evaluation.evaluator import make_evaluator
    from mtrl.evaluation.video import check_film, film
    from mtrl.settings.algorithms import agent_class
    from mtrl.settings.config import make_config
    from mtrl.sharing.pack import read_packed

    flat, _ = read_packed(folder)
    if "episodes" in options:
        flat["eval.episodes_per_task"] = options["episodes"]
    config = make_config(flat)
    target = Path(options.get("video", f"demo-{config.suite.replace(':', '-')}"))
    tasks = options["tasks"].split(",") if "tasks" in options else None
    check_film(config, target, tasks, options.get("camera"))
    agent = agent_class(config.algorithm).load(folder, device=config.device)
    print(
        f"{config.suite} {config.method}, trained for {agent.env_steps:,} env steps", flush=True
    )
    evaluator = make_evaluator(config)
    try:
        print(table(evaluator.evaluate(agent)), flush=True)
    finally:
        evaluator.close()
    film(config, agent, target, tasks, options.get("camera"), say_file)


if __name__ == "__main__":
    sys.exit(main())
