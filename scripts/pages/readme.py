"""The generated parts of the README: one table and one picture."""

from __future__ import annotations

import re
from pathlib import Path

from mtrl.leaderboard import figures
from mtrl.leaderboard import files as leaderboard_files
from mtrl.leaderboard.tables import Row, Table
from scripts.pages.results import places, success
from scripts.pages.text import ROOT, table

README = ROOT / "README.md"
PICTURES = {"light": ROOT / "docs" / "mt10-light.svg", "dark": ROOT / "docs" / "mt10-dark.svg"}
# The longest runs of a suite's default method, and the best ones at a smaller budget.
HEADLINES = (
    ("mt10", 10_000_000, "mtppo"),
    ("mt10", 3_000_000, "mtppo-paced"),
    ("mt10", 3_000_000, "toppo"),
    ("mt50", 20_000_000, "mtppo"),
    ("mg3", 600_000, "mtppo"),
    ("mg5", 1_000_000, "mtppo"),
    ("mg7", 1_400_000, "mtppo"),
    ("mg10", 2_000_000, "mtppo"),
)
CURVES = HEADLINES[:3]
_BEGIN, _END = "<!-- generated: headlines -->", "<!-- end -->"


def find(suite: str, budget: int, label: str) -> tuple[Table, Row]:
    """The row of a suite, budget and label. Raises KeyError."""
    for each, row in places():
        if (each.suite, row.budget, row.label) == (suite, budget, label):
            return each, row
    raise KeyError(f"results hold no row {label} of {suite} at {budget:,} env steps")


def headlines() -> str:
    """At most eight rows."""
    rows = []
    for place in HEADLINES:
        each, row = find(*place)
        folder = Path("results") / Path(row.counted[0].file).parent
        seeds = f"[{row.seeds}]({folder})"
        per_task = f"{row.budget // len(each.tasks):,}"
        rows.append(
            [each.suite, row.label, per_task, success(row), seeds, f"{row.summaries['hours']:.2f}"]
        )
    return table(
        ["suite", "method", "env steps a task", "success", "seeds", "hours, one core"], rows
    )


def updated(text: str) -> str:
    """The README with its generated part made anew."""
    pattern = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    assert pattern.search(text), "README.md has no generated part"
    return pattern.sub(lambda _: f"{_BEGIN}\n{headlines()}\n{_END}", text)


def picture(scheme: str) -> str:
    """Learning curves of mt10 as one SVG with the colors of a scheme, ``light`` or ``dark``."""
    rows = [find(*place) for place in CURVES]
    drawing = figures.curves(Table(rows[0][0].protocol, tuple(row for _, row in rows), "mt10"), [])
    css = leaderboard_files.__file__
    style = (Path(css).parent / "assets" / "plot.css").read_text(encoding="utf-8")
    head, rules = style.split("@media (prefers-color-scheme: dark) {", 1)
    dark, rules = rules.split("\n}\n", 1)
    colors = head if scheme == "light" else dark
    wanted = re.findall(r"--(?:paper|card|ink|soft|edge|grid|axis|cx|c\d): #\w+", colors)
    kept = [
        line for line in rules.splitlines() if line.startswith((".plot", ".c")) and ".q" not in line
    ]
    sheet = ":root{" + ";".join(wanted) + "}" + "".join(line.strip() for line in kept)
    return drawing.replace("><title>", f"><style>{sheet}</style><title>", 1) + "\n"


def write() -> list[Path]:
    """Bring README and pictures up to date; returns the files that changed."""
    wanted = {README: updated(README.read_text(encoding="utf-8"))}
    wanted |= {path: picture(scheme) for scheme, path in PICTURES.items()}
    changed = [
        path
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path in changed:
        path.write_text(wanted[path], encoding="utf-8")
    return changed
