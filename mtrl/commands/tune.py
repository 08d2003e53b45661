"""``mtrl tune SPEC``: search settings with Optuna."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mtrl import cli
from mtrl.errors import ConfigError
from mtrl.threads import spin_briefly

USAGE = """usage: mtrl tune SPEC [--folder DIR]

Searches the settings that give the highest mean success over seeds and tasks (Optuna: TPE, pruning at the median of
intermediate evaluations). SPEC is a YAML file:

  suite: mg3
  method: mtppo                      # any method; mtppo by default
  total_env_steps: 60_000            # of each seed
  seeds: [1, 2, 3]                   # trained in every trial
  trials: 30                         # in all
  settings: {eval.every: 10_000}     # the same in every trial
  space:
    agent.learning_rate: {low: 1e-4, high: 1e-2, log: true}
    agent.epochs: {low: 2, high: 16} # whole numbers, since both ends are
    agent.heads: [multi-head, one-hot]

  --folder=DIR  where the journal and the trials' runs go; by default tuning/NAME

The same command continues a search that was stopped or killed. Started several times at once, it shares the trials.

Needs the package optuna."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 1 failed while running, 2 bad input, 130/143 interrupted)."""
    spin_briefly()
    arguments = list(sys.argv[1:] if argv is None else argv)
    return cli.run_command("mtrl tune", lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    words, options = cli.parse(argv, {"folder": str})
    if not argv or "help" in options:
        print(cli.fitted(USAGE))
        return 0
    if len(words) != 1:
        raise ConfigError(f"SPEC: {len(words)} given; name one YAML file")
    from mtrl.tuning.spec import read_tune_spec

    spec = read_tune_spec(Path(words[0]))
    from mtrl.tuning.search import describe, search, shown

    study = search(spec, Path(options.get("folder", f"tuning/{spec.name}")))
    best = study.best_trial
    chosen = [f"--{key.replace('_', '-')}={shown(value)}" for key, value in best.params.items()]
    fixed = [f"--{key.replace('_', '-')}={value}" for key, value in spec.fixed.items()]
    command = ["mtrl", "train", spec.suite, "--method", spec.method, *fixed, *chosen]
    print(f"best {describe(best)}\n{shlex.join(command)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
