"""The link checker of the built documentation."""

from __future__ import annotations

from pathlib import Path

from scripts.pages.links import problems


def write(folder: Path, **pages: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text)


def test_nothing_is_wrong_with_pages_that_link_each_other(tmp_path: Path) -> None:
    write(
        tmp_path,
        index='<a href="second.html#here">to it</a> <a href="https://example.org/x">out</a>',
        second='<h1 id="here">Here</h1> <a href="#here">up</a> <a href="sub/">below</a>',
    )
    write(tmp_path / "sub", index='<a href="../index.html">home</a>')
    assert problems(tmp_path) == []


def test_dead_links_and_anchors_are_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        index='<a href="second.html#there">x</a> <a href="third.html">y</a> <img src="a%20b.png">',
        second="<p id='here'>Here</p>",
    )
    assert problems(tmp_path) == [
        "index.html: second.html#there: there is no such anchor",
        "index.html: third.html: there is no such file",
        "index.html: a%20b.png: there is no such file",
    ]
    (tmp_path / "a b.png").touch()
    assert len(problems(tmp_path)) == 2


def test_pages_beyond_two_clicks_are_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        index='<a href="one.html">1</a>',
        one='<a href="two.html">2</a>',
        two='<a href="three.html">3</a>',
        three="the end",
    )
    assert problems(tmp_path) == ["three.html: is not within 2 clicks of index.html"]


def test_what_the_sidebar_folds_takes_a_click_of_its_own(tmp_path: Path) -> None:
    folded = '<ul><li class="toctree-l2"><a href="one.html">1</a></li></ul>'
    write(
        tmp_path,
        index=f'<li class="toctree-l1 has-children"><a href="index.html">0</a>{folded}</li>',
        one="folded",
    )
    assert problems(tmp_path) == ["one.html: is not within 2 clicks of index.html"]
