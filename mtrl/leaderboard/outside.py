"""Numbers that others published: facts with a source, shown as reference lines and never ranked with our rows."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path

from mtrl.errors import ConfigError

SHIPPED = Path(__file__).parent / "assets" / "published.csv"
COLUMNS = (
    "suite",
    "label",
    "success_low",
    "success_high",
    "env_steps",
    "num_parameters",
    "statistic",
    "source",
    "note",
)
MAX_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Outside:
    """One published number.

    Attributes:
        success: the mean success rate, or the ends of the range reported.
        env_steps: budget summed over tasks; None where the source names none.
    """

    suite: str
    label: str
    success: tuple[float, float]
    env_steps: int | None
    num_parameters: int | None
    statistic: str
    source: str
    note: str

    @property
    def middle(self) -> float:
        return math.fsum(self.success) / 2

    @property
    def shown(self) -> str:
        low, high = self.success
        return f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"


def read(path: Path) -> list[Outside]:
    """Published numbers from a CSV file with the columns ``COLUMNS``.

    Raises:
        ConfigError: one sentence that names the file, the line, the column and what is allowed.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"outside: {path} is larger than 1 MiB")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"outside: {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"outside: {path} is not UTF-8 text") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ConfigError(f"outside: the first line of {path} must be {','.join(COLUMNS)}")
        return [_entry(row, f"outside: {path} line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise ConfigError(
            f"outside: {path} line {reader.line_num}: is not CSV ({error})"
        ) from None


def _entry(row: dict[str, str | None], where: str) -> Outside:
    if None in row or None in row.values():
        raise ConfigError(f"{where}: has not {len(COLUMNS)} columns")
    cells = {key: str(value).strip() for key, value in row.items()}
    for name in ("suite", "label", "source"):
        if not 0 < len(cells[name]) <= 300:
            raise ConfigError(f"{where}: {name} must be a text of 1 to 300 characters")
    low = _number(cells["success_low"], f"{where}: success_low", 1.0)
    high = _number(cells["success_high"] or cells["success_low"], f"{where}: success_high", 1.0)
    steps, parameters = (
        int(_number(cells[name], f"{where}: {name}", 2.0**53)) if cells[name] else None
        for name in ("env_steps", "num_parameters")
    )
    texts = (cells[name][:300] for name in ("statistic", "source", "note"))
    return Outside(
        cells["suite"],
        cells["label"],
        (min(low, high), max(low, high)),
        steps,
        parameters,
        *texts,
    )


def _number(text: str, where: str, largest: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= largest:
        raise ConfigError(f"{where}: {text[:40]!a} is not a number from 0 to {largest:g}")
    return value


def curves(entries: Sequence[Outside]) -> dict[str, list[Outside]]:
    """Entries of one label at several budgets, in order of budget."""
    groups: dict[str, list[Outside]] = {}
    for entry in entries:
        if entry.env_steps is not None:
            groups.setdefault(entry.label, []).append(entry)
    return {
        label: sorted(group, key=lambda entry: entry.env_steps or 0)
        for label, group in groups.items()
        if len(group) > 1
    }


def finals(entries: Sequence[Outside]) -> list[Outside]:
    """One entry per label, the one with the largest budget; the best first."""
    best: dict[str, Outside] = {}
    for entry in entries:
        if entry.label not in best or (entry.env_steps or 0) > (
            best[entry.label].env_steps or 0
        ):
            best[entry.label] = entry
    return sorted(best.values(), key=lambda entry: (-entry.middle, entry.label))
