"""``python -m mtrl.leaderboard build RESULTS --out DIR``: result files in, a page and its data out."""

from __future__ import annotations

import sys
from pathlib import Path

from mtrl import cli
from mtrl.errors import ConfigError
from mtrl.leaderboard import export, files, outside, page, runs, svg, text
from mtrl.leaderboard.board import Board, make_board
from mtrl.training.run_folder import write_text, writing


def run(arguments: list[str]) -> int:
    """Build everything; the status is 1 if a file was left out."""
    words, options = cli.parse(arguments, dict.fromkeys(("out", "outside", "docs"), str))
    if len(words) != 1:
        raise ConfigError(f"RESULTS: {len(words)} given; name one folder")
    out = Path(options.get("out", "leaderboard"))
    if out.resolve() == Path(words[0]).resolve():
        raise ConfigError(f"out: {out} is the folder of the results; name another one")
    board = read(Path(words[0]), out, options.get("outside"))
    if not board.tables:
        _complain(board)
        raise ConfigError(f"RESULTS: {words[0]} holds no valid result file")
    write(board, out, options.get("docs"))
    _complain(board)
    faults = sum(omission.fault for omission in board.omitted)
    total = sum(len(row.runs) for table in board.tables for row in table.rows)
    print(f"{out / 'index.html'}: {page.counted(total, 'run')} in {page.counted(len(board.tables), 'table')}"
          + (f", {page.counted(faults, 'file')} left out" if faults else ""))  # fmt: skip
    return 1 if faults else 0


def read(results: Path, out: Path, outside_file: str | None = None) -> Board:
    """All that the page shows.

    Raises:
        ConfigError: there is no such folder, or the outside numbers are not readable.
    """
    published = (
        [] if outside_file == "none" else outside.read(Path(outside_file or outside.SHIPPED))
    )
    found, omitted = runs.load(results, out)
    return make_board(found, published, omitted)


def write(board: Board, out: Path, docs: str | None = None) -> None:
    """Write every file; what an earlier build left in the folders of plots and data is removed.

    Args:
        docs: as of ``page.render``.

    Raises:
        WriteError: the folder cannot be written, or the disk is full.
    """
    _clear(out)
    style = page.asset("plot.css")
    for table in board.tables:
        for name, (_, drawing) in board.figures(table).items():
            _write(out / "plots" / f"{table.slug}-{name}.svg", standalone(drawing, style))
        _write(out / "rliable" / f"{table.slug}.json", export.as_json(table))
        with writing(out / "rliable"):
            (out / "rliable" / f"{table.slug}.npz").write_bytes(export.as_npz(table))
    for name, content in text.csv_files(board).items():
        _write(out / "csv" / name, content)
    write_text(out / "leaderboard.md", text.markdown(board))
    write_text(out / "index.html", page.render(board, docs))


def _clear(out: Path) -> None:
    """Make the folders; remove the files of an earlier build, and nothing else."""
    ours = files.holds_page(out)
    for name, suffixes in files.BUILT.items():
        folder = out / name
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            old = [
                entry
                for entry in folder.iterdir()
                if entry.suffix in suffixes and not entry.is_dir()
            ]
            if old and not ours:
                raise ConfigError(
                    f"out: {folder} holds files, and {out} holds no leaderboard; name an empty folder"
                )
            for entry in old:
                entry.unlink()


def standalone(drawing: str, style: str) -> str:
    """An SVG element of the page as a file of its own, with the page's colors for light and dark."""
    background = '<rect width="100%" height="100%" style="fill:var(--card)"/>'
    head, close, body = drawing.partition("</title>")
    return f"{head}{close}<style><![CDATA[{style}]]></style>{background}{body}\n"


def _write(path: Path, content: str) -> None:
    with writing(path):
        path.write_text(content, encoding="utf-8")


def _complain(board: Board) -> None:
    for omission in board.omitted:
        for line in omission.reason.splitlines() if omission.fault else ():
            print(f"left out: {omission.file}: {svg.shorten(line, 400)}", file=sys.stderr)
