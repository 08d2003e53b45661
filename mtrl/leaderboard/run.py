"""``python -m mtrl.leaderboard run SPEC``: train suites x methods x seeds, restartable at any moment."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from mtrl import cli
from mtrl.errors import ConfigError
from mtrl.sweeps.local import LocalExecutor
from mtrl.sweeps.progress import SweepProgress, describe
from mtrl.sweeps.scheduler import Executor, Scheduler
from mtrl.sweeps.spec import read_spec
from mtrl.training.allocator import keep_freed_memory

_OPTIONS = {"jobs": int, "ray": str, "cpus": int, "dry_run": bool}


def run(arguments: list[str]) -> int:
    """Run the command; the status is 1 if a run failed or diverged."""
    words, given = cli.parse(arguments, _OPTIONS)
    if len(words) != 1:
        raise ConfigError(f"SPEC: {len(words)} given; name one YAML file")
    for key in ("jobs", "cpus"):
        if given.get(key, 1) < 1:
            raise ConfigError(f"{key}: {given[key]} is too small; it must be at least 1")
    if "cpus" in given and "ray" not in given:
        raise ConfigError(
            "cpus: is of use only with --ray; --jobs shares out this machine's CPUs"
        )
    spec = read_spec(Path(words[0]))
    if "dry_run" in given:
        # PyTorch and the environments, which a sweep itself does not need.
        from mtrl.sweeps.estimate import (
            plan,
        )

        keep_freed_memory()  # as the command that trains does
        print(plan(spec, given.get("jobs", 1)))
        return 0
    again = shlex.join(["python", "-m", "mtrl.leaderboard", "run", *arguments])
    executor = _executor(given)
    states = Scheduler(spec, executor, SweepProgress(), again).run()
    bad = {name: state for name, state in states.items() if state.status != "finished"}
    for name, state in bad.items():
        print(f"{name}: {describe(state)}", file=sys.stderr)
    print(
        f"results in {spec.results}; a page of them: python -m mtrl.leaderboard build {spec.results}"
    )
    return 1 if bad else 0


def _executor(given: dict[str, object]) -> Executor:
    jobs = given.get("jobs")
    if "ray" not in given:
        return LocalExecutor(jobs if isinstance(jobs, int) else 1)
    from mtrl.sweeps.cluster import RayExecutor

    cpus = given.get("cpus", 1)
    return RayExecutor(
        str(given["ray"]),
        jobs if isinstance(jobs, int) else None,
        cpus if isinstance(cpus, int) else 1,
    )
