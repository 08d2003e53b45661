"""The generated parts of the README: one table and one picture."""

from __future__ import annotations

import re
from pathlib import Path

from mtrl.leaderboard import figures
from mtrl.leaderboard import files as leaderboard_files
from mtrl.leaderboard.figures import FLAW
from mtrl.leaderboard.row import Row
from mtrl.leaderboard.tables import Table
from scripts.pages.results import folder, places, success
from scripts.pages.text import ROOT, table

README = ROOT / "README.md"
PICTURES = {"light": ROOT / "docs" / "mt10-light.svg", "dark": ROOT / "docs" / "mt10-dark.svg"}
# The longest runs of a suite's default method, and the best ones at a smaller budget.
HEADLINES = (
    "mt10/10m/mtppo",
    "mt10/3m/mtppo-paced",
    "mt10/3m/toppo",
    "mt50/20m/mtppo",
    "mg3/600k/mtppo",
    "mg5/1m/mtppo",
    "mg7/1.4m/mtppo",
    "mg10/2m/mtppo",
)
CURVES = HEADLINES[:3]
_BEGIN, _END = "<!-- generated: headlines -->", "<!-- end -->"


def find(place: str) -> tuple[Table, Row]:
    """The row whose raw files are in a folder below ``results``. Raises KeyError."""
    for each, row in places():
        if str(folder(row)) == place:
            return each, row
    raise KeyError(f"results hold no row {place}")


def headlines() -> str:
    """At most eight rows, and what must be known of their numbers."""
    rows, remarks = [], []
    for place in HEADLINES:
        each, row = find(place)
        seeds = f"[{row.seeds}](results/{place})"
        per_task = f"{max(row.taken) // len(each.tasks):,}"
        rows.append(
            [
                each.suite,
                folder(row).name,
                per_task,
                success(row),
                seeds,
                f"{row.summaries['hours']:.2f}",
            ]
        )
        if row.flawed:
            remarks += [f"{FLAW} {each.suite}: {text}." for text in row.remarks]
    head = ["suite", "method", "env steps a task", "success", "seeds", "hours, one core"]
    return "\n\n".join([table(head, rows), *remarks])


def updated(text: str) -> str:
    """The README with its generated part made anew."""
    pattern = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    assert pattern.search(text), "README.md has no generated part"
    return pattern.sub(lambda _: f"{_BEGIN}\n{headlines()}\n{_END}", text)


def picture(scheme: str) -> str:
    """Learning curves of mt10 as one SVG with the colors of a scheme, ``light`` or ``dark``."""
    rows = [find(place) for place in CURVES]
    drawing = figures.curves(
        Table(rows[0][0].protocol, tuple(row for _, row in rows), "mt10"), []
    )
    css = leaderboard_files.__file__
    style = (Path(css).parent / "assets" / "plot.css").read_text(encoding="utf-8")
    head, rules = style.split("@media (prefers-color-scheme: dark) {", 1)
    dark, rules = rules.split("\n}\n", 1)
    colors = head if scheme == "light" else dark
    wanted = re.findall(r"--(?:paper|card|ink|soft|edge|grid|axis|cx|c\d): #\w+", colors)
    kept = [
        line
        for line in rules.splitlines()
        if line.startswith((".plot", ".c")) and ".q" not in line
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
