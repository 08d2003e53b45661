"""A reader's first ten minutes, timed: from a clone to films of a trained agent and a training of their own.

python scripts/ten_minutes.py                     # clones this checkout, and types what its README says
python scripts/ten_minutes.py --from URL --into FOLDER
python scripts/ten_minutes.py --demo "mtrl demo mg7"

It needs git and a Python that the suite supports, and imports nothing of the suite. The time includes downloads that
are not in pip's cache.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 600.0
ROOT = Path(__file__).resolve().parents[1]
FILMS = {".mp4", ".gif"}


def set_up_command(readme: str) -> str:
    """The README's set-up, without the training that follows it. Raises ValueError if there is none."""
    found = re.search(
        r"^(python3 -m venv .*?) && \S*python -m mtrl\.train", readme, re.MULTILINE
    )
    if found is None:
        raise ValueError("README.md: has no line that sets up and trains")
    return found[1]


def command_starting(readme: str, words: str) -> str:
    """The README's first command that starts with ``words``, or with ``python -m`` and these.

    Raises ValueError if there is none.
    """
    pattern = rf"^((?:python -m )?{re.escape(words)}\b.*?)(?:\s+#.*)?$"
    found = re.search(pattern, readme, re.MULTILINE)
    if found is None:
        raise ValueError(f"README.md: has no command that starts with {words!r}")
    return found[1]


class Reader:
    """Types commands in the clone, and takes the time of each.

    Attributes:
        seconds: of each step, by its name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}

    def types(self, name: str, command: str, folder: Path | None = None) -> None:
        """Run a shell command, with the virtual environment first on the path. Exits if it fails."""
        print(f"+ {command}", flush=True)
        path = f"{self.folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path}
        variables.pop("PYTHONPATH", None)  # the clone's own code, not that of whoever calls
        began = time.monotonic()
        done = subprocess.run(["bash", "-c", command], cwd=folder or self.folder, env=variables)
        self.seconds[name] = time.monotonic() - began
        print(f"= {self.seconds[name]:.0f} s: {name}", flush=True)
        if done.returncode != 0:
            sys.exit(f"{name}: exit status {done.returncode}")


def films(folder: Path) -> list[Path]:
    """The films below ``folder``, empty files left out; those that git keeps do not count."""
    found = [path for path in folder.rglob("*") if path.suffix in FILMS]
    return [path for path in found if ".venv" not in path.parts and path.stat().st_size > 1_000]


def main() -> int:
    """Type everything. Returns 1 if it takes more than ten minutes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="source", default=str(ROOT), help="what git clones")
    parser.add_argument(
        "--into", type=Path, help="an empty folder, which stays; by default a temporary one"
    )
    parser.add_argument("--demo", help="by default the README's first demo command")
    given = parser.parse_args()
    place = given.into or Path(tempfile.mkdtemp(prefix="mtrl-ten-minutes-"))
    try:
        return _read(given.source, place.resolve(), given.demo)
    finally:
        if given.into is None:
            shutil.rmtree(place)


def _read(source: str, place: Path, demo: str | None) -> int:
    place.mkdir(parents=True, exist_ok=True)
    reader = Reader(place / "mtrl-suite")
    reader.types("clone", f"git clone --quiet '{source}' mtrl-suite", place)
    readme = (reader.folder / "README.md").read_text(encoding="utf-8")
    reader.types("set up", set_up_command(readme))
    before = set(films(reader.folder))
    reader.types("films of a trained agent", demo or command_starting(readme, "mtrl demo mt10"))
    made = sorted(set(films(reader.folder)) - before)
    reader.types("a training", command_starting(readme, "mtrl.train mg3"))
    results = sorted(reader.folder.glob("runs/**/result.json"))
    for path in [*made, *results]:
        print(path.relative_to(reader.folder))
    if not made or not results:
        sys.exit("there are no films, or there is no result file")
    total = sum(reader.seconds.values())
    for name, seconds in reader.seconds.items():
        print(f"{seconds:6.0f} s  {name}")
    print(f"{total:6.0f} s  in all; {LIMIT_S:.0f} s are allowed")
    return int(total > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
