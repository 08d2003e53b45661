"""``mtrl export RUN FILE``: the policy as one program, for PyTorch or ONNX Runtime."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mtrl import cli
from mtrl.errors import ConfigError

USAGE = """usage: mtrl export RUN FILE

Writes the deterministic policy of a run or shared folder, with the normalization of observations inside, as a program
that needs nothing of this package: `action = program(obs [n, D] float32, task_id [n] int64)`.

  FILE  ends in .pt2 (`torch.export.load(FILE).module()`) or .onnx (ONNX Runtime; needs the packages onnx and
        onnxscript); the names of the tasks stand in it under `tasks`

Not for agents with memory, separate networks or grid observations (MiniGrid)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 1 failed while running, 2 bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return cli.run_command("mtrl export", lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    words, options = cli.parse(argv, {})
    if not argv or "help" in options:
        print(cli.fitted(USAGE))
        return 0
    if len(words) != 2:
        raise ConfigError(f"RUN and FILE: {len(words)} given; name a run and the file to write")
    from mtrl.sharing.export import export
    from mtrl.sharing.loading import load_trained

    _, agent = load_trained(Path(words[0]), {"device": "cpu"})
    print(export(agent, Path(words[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
