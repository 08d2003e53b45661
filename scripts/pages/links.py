"""Checks of the built documentation: links lead to a file and an anchor, and every page is near the first."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

CLICKS = 2
"""From the first page to any other."""
GENERATED = {"genindex.html", "search.html", "py-modindex.html"}
"""Sphinx's own lists, which every page's search and the reference lead to."""

_LEVEL = re.compile(r"\btoctree-l(\d)")


class Page(HTMLParser):
    """The links and anchors of one HTML file.

    Attributes:
        links: targets of whatever a browser loads or follows, as they stand in the file.
        clicks: those that a reader can click on at once; the sidebar folds what stands below its first level.
        anchors: every ``id``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.clicks: list[str] = []
        self._levels: list[int] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        anchor = given.get("id")
        if anchor:
            self.anchors.add(anchor)
        target = given.get("href" if tag in ("a", "link") else "src")
        if tag == "li":
            level = _LEVEL.search(given.get("class") or "")
            self._levels.append(int(level[1]) if level else 0)
        if target and tag in ("a", "link", "img", "script"):
            self.links.append(target)
            if tag == "a" and max(self._levels, default=0) <= 1:
                self.clicks.append(target)

    def handle_endtag(self, tag: str) -> None:
        if tag == "li" and self._levels:
            self._levels.pop()


def problems(folder: Path, first: str = "index.html") -> list[str]:
    """One sentence for each link below ``folder`` that leads nowhere, and for each page that is far from the first."""
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for target in dict.fromkeys(page.links):
            fault = _fault(path, target, pages)
            if fault:
                dead.append(f"{path.relative_to(folder)}: {target}: {fault}")
    near = _within(pages, folder / first, CLICKS)
    far = [
        f"{path.relative_to(folder)}: is not within {CLICKS} clicks of {first}"
        for path in pages
        if path not in near and path.name not in GENERATED
    ]
    return dead + far


def _fault(path: Path, target: str, pages: dict[Path, Page]) -> str:
    """What is wrong with a link; empty for one that leads somewhere or to another site."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return ""
    place = _place(path, target)
    if not place.exists():
        return "there is no such file"
    anchor = unquote(parts.fragment)
    known = pages.get(place)
    if anchor and known is not None and anchor not in known.anchors:
        return "there is no such anchor"
    return ""


def _place(path: Path, target: str) -> Path:
    """The file that a relative link leads to."""
    below = unquote(urlsplit(target).path)
    if not below:
        return path
    place = Path(os.path.normpath(path.parent / below))
    return place / "index.html" if place.is_dir() else place


def _within(pages: dict[Path, Page], first: Path, clicks: int) -> set[Path]:
    """The pages that at most ``clicks`` links lead to."""
    near, edge = {first}, {first}
    for _ in range(clicks):
        edge = set(_targets(pages, edge)) - near
        near |= edge
    return near


def _targets(pages: dict[Path, Page], sources: Iterable[Path]) -> Iterable[Path]:
    for source in sources:
        for target in pages[source].clicks:
            parts = urlsplit(target)
            place = _place(source, target)
            if not parts.scheme and not parts.netloc and place in pages:
                yield place
