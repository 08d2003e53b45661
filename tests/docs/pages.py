"""The documentation's pages as text: fenced blocks and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^```(\w[\w-]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: path below the repository's root.
        language: as in the fence.
        text: its lines.
    """

    page: str
    language: str
    text: str


def pages() -> list[Path]:
    """README and every hand-written page; what the build generates is left out."""
    made = {DOCS / "generated", DOCS / "gallery"}
    own = [path for path in sorted(DOCS.rglob("*.md")) if not made & set(path.parents)]
    return [ROOT / "README.md", *own]


def blocks(path: Path, *languages: str) -> list[Block]:
    """Fenced blocks of a page in any of these languages, in order."""
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(ROOT))
    return [
        Block(name, language, body)
        for language, body in _FENCE.findall(text)
        if language in languages
    ]


def commands(block: Block) -> list[str]:
    """The commands of a block, comments at their ends removed."""
    lines = [re.sub(r"\s+#.*$", "", line).strip() for line in block.text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def links(path: Path) -> list[str]:
    """Targets of a page's Markdown links, those in code left out."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return _LINK.findall(re.sub(r"`[^`\n]*`", "", text))


def toctree(path: Path) -> list[Path]:
    """Pages that a page's toctrees name."""
    found = []
    for body in re.findall(
        r"^```\{toctree\}\n(.*?)^```$",
        path.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    ):
        names = [line for line in body.splitlines() if line and not line.startswith(":")]
        found += [path.parent / f"{name}.md" for name in names]
    return found
