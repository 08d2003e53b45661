"""``--help`` of every smaller command: it is useful, and loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

from mtrl.__main__ import COMMANDS

SMALL = [name for name, (module, _) in COMMANDS.items() if module.startswith("mtrl.commands.")]


def test_help_is_light() -> None:
    """One process for all commands: each prints its usage, and none has imported what only its work needs."""
    code = (
        "import sys\n"
        "from mtrl.__main__ import main\n"
        f"for name in {SMALL}:\n"
        "    assert main([name, '--help']) == 0\n"
        "print('HEAVY', sorted({'torch', 'numba', 'scipy', 'matplotlib', 'optuna', 'mujoco'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stderr
    for name in SMALL:
        assert f"usage: mtrl {name} " in done.stdout
