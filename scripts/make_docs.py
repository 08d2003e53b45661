"""Build the documentation and the leaderboard into ``build/docs``, and check their links. Needs the extra ``docs``.

Any warning, dead link or page that is too far from the first one is an error.

python -m scripts.make_docs           # generated pages, then HTML
python -m scripts.make_docs --pages    # generated pages only, into docs/generated
python -m scripts.make_docs --readme   # the table and the pictures of the README
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mtrl.leaderboard import build
from scripts.pages import (
    choices,
    links,
    methods,
    metrics,
    networks,
    readme,
    results,
    speed,
    suites,
)
from scripts.pages.text import ROOT

PAGES: dict[str, Callable[[], str]] = {
    "methods": methods.overview,
    "aggregators": choices.aggregators,
    "aggregator-count": choices.count,
    "curricula": choices.curricula,
    "networks": networks.overview,
    "metrics": metrics.metrics_table,
    "results": results.all_results,
    "suites-metaworld": lambda: suites.overview("metaworld"),
    "suites-minigrid": lambda: suites.overview("minigrid"),
    "tasks-metaworld": lambda: suites.tasks("metaworld"),
    "tasks-minigrid": lambda: suites.tasks("minigrid"),
    "speed-stepping": speed.stepping,
    "speed-training": speed.training,
    "speed-aggregators": speed.aggregators,
    "speed-curricula": speed.curricula,
    "speed-startup": speed.startup,
    "speed-threads": speed.threads,
    "fidelity": speed.fidelity,
}
"""Name of each generated part, which pages include, and what makes it."""


def write_pages(folder: Path) -> None:
    """Write every generated part into ``folder``."""
    (folder / "methods").mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (folder / f"{name}.md").write_text(make() + "\n", encoding="utf-8")
    methods.write(folder / "methods")


def main() -> int:
    """Parse the command line and build. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", action="store_true", help="write docs/generated only")
    parser.add_argument(
        "--readme", action="store_true", help="update README.md and its pictures only"
    )
    given = parser.parse_args()
    if given.readme:
        for path in readme.write():
            print(path.relative_to(ROOT))
        return 0
    write_pages(ROOT / "docs" / "generated")
    if given.pages:
        return 0
    sphinx = ["-m", "sphinx", "-W", "--keep-going", "-q", "docs", "build/docs"]
    status = subprocess.run([sys.executable, *sphinx], cwd=ROOT).returncode
    if status != 0:
        return status
    built = ROOT / "build" / "docs"
    page = built / "leaderboard"
    build.write(build.read(ROOT / "results", page), page, docs="..")
    faults = links.problems(built)
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
