"""Links lead somewhere, every page is near the first, and every preset has a page on the template."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mtrl.settings import presets
from scripts import make_docs
from scripts.pages import methods
from tests.docs.pages import DOCS, ROOT, blocks, links, pages, toctree

PAGES = pages()
EXAMPLES = {path.stem for path in (DOCS / "examples").glob("*.py")}


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    # Where it is included.
    base = DOCS / "methods" if page.parent.name == "ideas" else page.parent
    for target in links(page):
        place, _, anchor = target.partition("#")
        if place.startswith("http"):
            continue
        found = (base / place).resolve() if place else page
        if found.parent == DOCS / "gallery":
            assert found.name in EXAMPLES, target
            continue
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_the_declared_suite_of_the_page_is_the_one_in_the_examples() -> None:
    (block,) = blocks(DOCS / "suites" / "declared.md", "yaml")
    assert block.text == (DOCS / "examples" / "classic3.yaml").read_text(encoding="utf-8")


def test_every_page_is_within_two_clicks_of_the_first() -> None:
    one = [path.resolve() for path in toctree(DOCS / "index.md")]
    two = [path.resolve() for first in one if first.is_file() for path in toctree(first)]
    near = {DOCS / "index.md", *one, *two}
    missing = [
        path
        for path in PAGES
        if path.is_relative_to(DOCS) and path not in near and path.parent.name != "ideas"
    ]
    assert missing == []
    assert DOCS / "gallery" / "index.md" in one and EXAMPLES


def test_every_preset_has_a_page_on_the_template() -> None:
    for name in presets.methods():
        text = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
        assert re.findall(r"^##? (.*)$", text, re.MULTILINE) == [
            name,
            "Idea",
            "Source",
            "Deviations",
        ]
        assert f"```{{include}} ../generated/methods/{name}.md\n```" in text
    assert {path.stem for path in (DOCS / "methods").glob("*.md")} == {
        *presets.methods(),
        "index",
    }


def test_generated_parts_are_those_that_pages_include(tmp_path: Path) -> None:
    make_docs.write_pages(tmp_path)
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")}
    used = set()
    for page in PAGES:
        used |= set(
            re.findall(
                r"\{include\} (?:\.\./)*generated/(\S+)", page.read_text(encoding="utf-8")
            )
        )
    assert used == made
    for part in tmp_path.rglob("*.md"):
        assert len(part.read_text(encoding="utf-8")) > 80, part
    page = (tmp_path / "methods" / "mtppo-paced.md").read_text(encoding="utf-8")
    assert "| `agent.noise_correlation` | `0.9` |" in page
    assert "0.965" in page and "python -m mtrl.train mt10 --method mtppo-paced" in page


def test_settings_of_an_algorithm_are_all_on_its_page() -> None:
    for name in methods.BASES:
        config, text = methods.config_of(name), methods.page_parts(name)
        assert all(f"| `agent.{key}` |" in text for key in vars(config.agent))
