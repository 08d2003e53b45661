"""``mtrl watch RUN``: show the newest policy of a run in a window."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrl import cli
from mtrl.errors import ConfigError
from mtrl.threads import spin_briefly

USAGE = """usage: mtrl watch RUN [--KEY=VALUE ...]

Plays the deterministic policy of a run or shared folder in a window, task after task, until the window is closed.

  --tasks=A,B    play these tasks only
  --camera=NAME  Meta-World's view, as in mtrl evaluate
  --episodes=N   stop after N episodes

Without a screen, `mtrl evaluate RUN --video DIR` films the same."""
_KINDS = {"tasks": str, "camera": str, "episodes": int}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 1 failed while running, 2 bad input)."""
    spin_briefly()
    arguments = list(sys.argv[1:] if argv is None else argv)
    return cli.run_command("mtrl watch", lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    words, options = cli.parse(argv, _KINDS)
    if not argv or "help" in options:
        print(cli.fitted(USAGE))
        return 0
    if len(words) != 1:
        raise ConfigError(f"RUN: {len(words)} given; name one run folder")
    _watch(Path(words[0]), options)
    return 0


def _watch(folder: Path, options: dict[str, Any]) -> None:
    from mtrl.evaluation.video import filming_env, places
    from mtrl.evaluation.watching import check_screen, watch
    from mtrl.sharing.loading import load_trained

    config, agent = load_trained(folder)
    tasks = places(config.suite, options["tasks"].split(",") if "tasks" in options else None)
    check_screen()
    env = filming_env(config, options.get("camera"))
    try:
        watch(env, agent, tasks, options.get("episodes"))
    finally:
        env.close()


if __name__ == "__main__":
    sys.exit(main())
