"""Drawing: text that is safe in HTML and XML, scales, axes, legends. Colors are classes of assets/plot.css."""

from __future__ import annotations

import dataclasses
import html
import math
import re
from collections.abc import Callable, Sequence

COLORS = 10
"""Rows that get a color of their own; further ones are gray."""
WIDTH = 480
_CHARACTER = 6.7
"""Mean width of a character at the plots' 12 px."""


def clean(text: object) -> str:
    """``text`` without characters that no page may hold: control characters, lone surrogates, direction overrides."""
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]",
        "\ufffd",
        str(text),
    )


def escape(text: object) -> str:
    """``text`` as content or attribute value of HTML and XML."""
    return html.escape(clean(text), quote=True)


def shorten(text: str, limit: int) -> str:
    """``text`` cut to ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def text_width(text: str) -> float:
    """About how wide a label is, in pixels."""
    return len(text) * _CHARACTER


def color(index: int) -> str:
    """The color class of the row at this position."""
    return f"c{index}" if 0 <= index < COLORS else "cx"


def document(body: str, width: float, height: float, title: str, classes: str = "plot") -> str:
    """An ``svg`` element that scales with its container."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{classes}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def width_of(drawing: str) -> float:
    """The width that ``document`` gave a drawing."""
    return float(drawing.split(' width="', 1)[1].split('"', 1)[0])


def line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def dot(x: float, y: float, radius: float, name: str, tip: str = "") -> str:
    inner = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{inner}</circle>'


def diamond(x: float, y: float, tip: str = "") -> str:
    inner = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<path class="outside" d="M{x - 5:.1f} {y:.1f}l5 -5 5 5 -5 5z">{inner}</path>'


def label(
    x: float, y: float, content: str, name: str = "", anchor: str = "start", turn: float = 0.0
) -> str:
    spin = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{spin}>{escape(content)}</text>'


def path(
    points: Sequence[tuple[float, float]], name: str, tip: str = "", close: bool = False
) -> str:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    inner = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<path class="{name}" d="M{steps}{"z" if close else ""}">{inner}</path>'


@dataclasses.dataclass(frozen=True)
class Frame:
    """A plot's inner rectangle in pixels and the values at its edges."""

    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float] = (0.0, 1.0)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def axes(self, x_name: str, y_name: str, x_text: Callable[[float], str]) -> str:
        """Grid, tick labels and axis names; the y axis counts from 0 to 1."""
        parts = []
        for value in (0.0, 0.25, 0.5, 0.75, 1.0):
            parts.append(
                line(
                    self.left,
                    self.y(value),
                    self.right,
                    self.y(value),
                    "axis" if value == 0 else "grid",
                )
            )
            parts.append(label(self.left - 7, self.y(value) + 4, f"{value:.2f}", "tick", "end"))
        for value in ticks(*self.x_range):
            parts.append(
                line(self.x(value), self.bottom, self.x(value), self.bottom + 4, "axis")
            )
            parts.append(
                label(self.x(value), self.bottom + 18, x_text(value), "tick", "middle")
            )
        parts.append(
            label((self.left + self.right) / 2, self.bottom + 35, x_name, "name", "middle")
        )
        parts.append(label(self.left - 36, self.top - 10, y_name, "name"))
        return "".join(parts)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values between ``low`` and ``high``, about ``count`` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(
        power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999
    )
    first = math.ceil(low / step - 1e-9)
    return [
        round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)
    ]


def legend(
    entries: Sequence[tuple[str, str]], left: float, top: float, right: float
) -> tuple[str, float]:
    """Entries (color class, text) in rows from ``top``; returns the drawing and the y below it."""
    parts, x, y = [], left, top
    for name, text in entries:
        shown = shorten(text, 44)
        width = 24 + text_width(shown) + 14
        if x > left and x + width - 14 > right:
            x, y = left, y + 19
        parts.append(line(x, y, x + 18, y, f"line {name}") + label(x + 24, y + 4, shown, "key"))
        x += width
    return "".join(parts), y + 19 if entries else y
