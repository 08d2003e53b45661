"""The built leaderboard as its readers get it: files, bytes, escaping, exit status."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import xml.dom.minidom
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mtrl.leaderboard.__main__ import main
from tests.helpers.hostile import SCRIPT, hostile_record, write_broken
from tests.helpers.records import make_record, write


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two methods with five and two seeds, a diverged and a failed run, and a single-task reference."""
    folder = tmp_path / "results"
    for seed in range(5):
        write(folder, make_record(seed=seed, rates=[0.1 * seed] * 10))
    for seed in range(2):
        write(folder, make_record(method="mtppo", seed=seed, rates=[0.9] * 10))
    write(folder, make_record(method="mtppo", seed=2, status="diverged"))
    write(folder, make_record(method="mtppo", seed=3, status="failed"))
    write(folder, make_record(suite="mt1:reach-v3", env_steps=100_000))
    return folder


def build(results: Path, out: Path, *more: str) -> int:
    return main(["build", str(results), f"--out={out}", *more])


def everything(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


class Reader(HTMLParser):
    """What a browser would make of the page: tags in order, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_files_and_status(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert build(results, out) == 0
    assert capsys.readouterr().out == f"{out / 'index.html'}: 10 runs in 2 tables\n"
    names = set(everything(out))
    plots = ("success", "curves-steps", "curves-hours", "profile", "differences", "tasks")
    assert {f"plots/mt10-native-{name}.svg" for name in plots} <= names
    assert {"index.html", "leaderboard.md", "csv/rows.csv", "rliable/mt10-native.npz"} <= names


def test_equal_results_give_equal_bytes(results: Path, tmp_path: Path) -> None:
    assert build(results, tmp_path / "a") == build(results, tmp_path / "b") == 0
    first = everything(tmp_path / "a")
    assert build(results, tmp_path / "a") == 0
    assert first == everything(tmp_path / "b") == everything(tmp_path / "a")


def test_an_earlier_page_among_the_results_is_no_result(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(results, results / "lb") == 0
    assert build(results, tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert main(["check", str(results)]) == 0
    assert "10 files checked, no problems" in capsys.readouterr().out
    (results / "lb" / "index.html").write_text("<title>mine</title>")
    assert build(results, tmp_path / "out") == 1
    assert (
        "left out: lb/rliable/mt10-native.json: schema_version: is missing"
        in capsys.readouterr().err
    )


def test_the_page_shows_what_the_protocol_asks_for(results: Path, tmp_path: Path) -> None:
    assert build(results, tmp_path / "out") == 0
    page = Reader((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    for text in ("50 episodes per task, goals of the run's own seed", "any-step", "3,000,000 env steps",
                 "preliminary", "1 diverged",
                 "1 failed", "Learning curves against hours", "Performance profile", "Success per task",
                 "Difference from the plain baseline", "single-task reference", "published elsewhere", "TOPPO",
                 "python -m mtrl.train mt10 --method mtppo --seed 0", "c4ff93090890", "cpu, 2 cores", "374k",
                 "0.200", "[0.00, 0.40]", "not counted", "counted as 0", "with last scores",
                 "success on the goals that training draws from", "failed, so not counted: seed 3"):  # fmt: skip
        assert text in page.text, text
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
    files = [link for link in links if not link.startswith("#")]
    assert len(files) == 10
    assert all((tmp_path / "out" / link).is_file() for link in files)
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link[1:] for link in links if link.startswith("#")} <= ids


def test_suites_and_budgets_can_be_chosen(results: Path, tmp_path: Path) -> None:
    assert build(results, tmp_path / "out") == 0
    tags = Reader((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).tags
    offered = {attributes["value"] for tag, attributes in tags if tag == "option"}
    sections = {
        attributes["data-suite"] for _, attributes in tags if "data-suite" in attributes
    }
    bodies = {
        attributes["data-budget"] for _, attributes in tags if "data-budget" in attributes
    }
    assert len(sections) == 2 and len(bodies) > 1
    assert offered == sections | bodies | {""}
    # Without the script, which shows it, the form would do nothing.
    form = next(attributes for tag, attributes in tags if tag == "form")
    assert "hidden" in form


def test_rows_link_to_their_methods_where_the_documentation_is_named(
    results: Path, tmp_path: Path
) -> None:
    def pages() -> set[str]:
        tags = Reader((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).tags
        links = [attributes["href"] or "" for tag, attributes in tags if tag == "a"]
        return {link for link in links if "/methods/" in link}

    assert main(["build", str(results), f"--out={tmp_path / 'out'}"]) == 0
    assert pages() == set()
    assert main(["build", str(results), f"--out={tmp_path / 'out'}", "--docs=../site/"]) == 0
    assert "../site/methods/mtppo.html" in pages()


def test_files_from_a_changed_tree_are_named(results: Path, tmp_path: Path) -> None:
    record = make_record(method="mtppo", seed=0, rates=[0.9] * 10)
    record["provenance"]["git_dirty"] = True
    file = write(results, record).name
    assert build(results, tmp_path / "out") == 0
    page = Reader((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert "Written from a changed tree: 1 file" in page.text
    markdown = (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    named = markdown.partition("## Written from a changed tree")[2]
    assert file.replace("_", "\\_") in named
    lines = list(
        csv.DictReader((tmp_path / "out" / "csv" / "seeds.csv").open(encoding="utf-8"))
    )
    assert [line["file"] for line in lines if line["git_dirty"] == "true"] == [file]


def test_what_an_evaluation_measures_is_said(tmp_path: Path) -> None:
    """Small tasks have few levels; in the suites with a pool evaluation plays others."""
    for suite, words in (
        ("mg3", "this is no measure of generalisation"),
        ("mg3-held-out", "success on levels that training never saw"),
    ):
        folder, out = tmp_path / suite / "in", tmp_path / suite / "out"
        for seed, count in enumerate((14, 15)):
            record = make_record(suite, seed=seed)
            record["protocol"]["distinct_levels"]["LavaGapS7"] = count
            write(folder, record)
        assert build(folder, out) == 0
        page = Reader((out / "index.html").read_text(encoding="utf-8"))
        assert words in page.text
        assert "LavaGapS7 14 to 15 of 50" in page.text
        tasks = list(csv.DictReader((out / "csv" / "tasks.csv").open(encoding="utf-8")))
        found = {line["task"]: (line["different_levels"], line["wilson_low"]) for line in tasks}
        assert found["LavaGapS7"] == ("29", "")
        assert found["MemoryS11"][0] == "100" and float(found["MemoryS11"][1]) > 0.4


def test_a_lengthened_run_has_a_remark_below_the_table(results: Path, tmp_path: Path) -> None:
    record = make_record(method="toppo", seed=0, rates=[0.9] * 10)
    record["budget"]["segments"][0]["env_steps"] = None
    write(results, record)
    assert build(results, tmp_path / "out") == 0
    page = Reader((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert "toppo, perhaps lengthened" in page.text
    assert "its command continues a run with a new planned total" in page.text
    assert "0.900 †" in (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")


def test_the_page_needs_no_network_and_its_policy_fits(results: Path, tmp_path: Path) -> None:
    assert build(results, tmp_path / "out") == 0
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    page = Reader(text)
    policy = next(
        attributes["content"] or ""
        for tag, attributes in page.tags
        if "http-equiv" in attributes
    )
    assert policy.startswith("default-src 'none'")
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [
        attributes
        for _, attributes in page.tags
        if {"src", "style", "onclick"} & attributes.keys()
    ]
    assert "url(" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace(
        "http-equiv", ""
    )


def test_hostile_texts_stay_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "results", tmp_path / "deep" / "out"
    reasons = write_broken(folder)
    for seed in range(2):
        write(folder, hostile_record(seed), f"hostile-{seed}.json")
    assert build(folder, out) == 1
    captured = capsys.readouterr()
    assert f"{len(reasons)} files left out" in captured.out
    assert captured.err.count("left out: ") == len(reasons)
    page = Reader((out / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in page.tags]
    assert SCRIPT in page.text
    assert not re.search("[\x00-\x08\x1b\u202e\ud800]", page.text)
    for name in reasons:
        assert name in page.text
    for path in out.rglob("*.svg"):
        drawing = xml.dom.minidom.parse(str(path))
        assert not drawing.getElementsByTagName("script")
    outside = [
        path
        for path in tmp_path.rglob("*")
        if out not in path.parents and folder not in path.parents
    ]
    assert sorted(path.name for path in outside if path.is_file()) == [
        "mt10_mtsac_s7_3000000.json"
    ]
    markdown = (out / "leaderboard.md").read_text(encoding="utf-8")
    prose = re.sub(r"`[^`]*`", "", markdown.replace("\\`", ""))
    assert not re.search(r"(?<!\\)<(?!\.\.)", prose)
    for line in csv.reader(io.StringIO((out / "csv" / "rows.csv").read_text(encoding="utf-8"))):
        assert not [cell for cell in line if cell.startswith(("=", "+", "@"))]


def test_csv_holds_the_numbers_of_the_page(results: Path, tmp_path: Path) -> None:
    assert build(results, tmp_path / "out") == 0

    def read(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader((tmp_path / "out" / "csv" / name).open(encoding="utf-8")))

    rows = {row["method"]: row for row in read("rows.csv") if row["suite"] == "mt10"}
    assert (rows["mtsac"]["success"], rows["mtsac"]["seeds"], rows["mtsac"]["preliminary"]) == (
        "0.2",
        "5",
        "false",
    )
    assert float(rows["mtsac"]["high"]) == pytest.approx(
        0.2 + 2.776445 * np.std(np.arange(5) / 10, ddof=1) / 5**0.5
    )
    assert (rows["mtppo"]["seeds"], rows["mtppo"]["diverged"], rows["mtppo"]["low"]) == (
        "3",
        "1",
        "",
    )
    assert rows["mtppo"]["baseline"] == "mtsac"
    tasks = [
        row
        for row in read("tasks.csv")
        if row["method"] == "mtsac" and row["table"] == "mt10-native"
    ]
    assert {(row["successes"], row["episodes"]) for row in tasks} == {("50", "250")}
    assert [row["status"] for row in read("seeds.csv")].count("failed") == 1
    curve = [
        row
        for row in read("curves.csv")
        if row["method"] == "mtsac" and row["table"] == "mt10-native"
    ]
    assert [row["env_steps"] for row in curve] == ["1000000", "2000000", "3000000"]
    assert float(curve[-1]["success"]) == pytest.approx(0.2)
    assert len(read("profiles.csv")) == 2 * 51


def test_the_rliable_matrix_is_runs_by_tasks(results: Path, tmp_path: Path) -> None:
    assert build(results, tmp_path / "out") == 0
    matrices = dict(
        np.load(tmp_path / "out" / "rliable" / "mt10-native.npz", allow_pickle=False)
    )
    assert {name: matrix.shape for name, matrix in matrices.items()} == {
        "mtsac": (5, 10),
        "mtppo": (3, 10),
    }
    assert matrices["mtsac"][:, 0] == pytest.approx(np.arange(5) / 10)
    content = json.loads((tmp_path / "out" / "rliable" / "mt10-native.json").read_text())
    assert np.array(content["scores"]["mtppo"]) == pytest.approx(matrices["mtppo"])
    assert content["seeds"] == {"mtsac": [0, 1, 2, 3, 4], "mtppo": [0, 1, 2]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "none"], "RESULTS: 'none' is not a folder"),
        (["build", ".", "--ouy=x"], "ouy: unknown setting; did you mean out?"),
        (["build", ".", "other"], "RESULTS: 2 given; name one folder"),
        (["build", ".", "--out=."], "out: . is the folder of the results"),
        (["build", ".", "--outside=none.csv"], "outside: none.csv cannot be read"),
        (["build", "."], "RESULTS: . holds no valid result file"),
    ],
)
def test_bad_input(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"mtrl.leaderboard: {words}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_plots_is_left_alone(results: Path, tmp_path: Path) -> None:
    own = tmp_path / "out" / "plots" / "mine.svg"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert build(results, tmp_path / "out") == 2
    assert own.read_text() == "mine"


def test_plots_of_an_earlier_build_disappear(results: Path, tmp_path: Path) -> None:
    assert build(results, tmp_path / "out") == 0
    for path in results.glob("mt1-*"):
        path.unlink()
    assert build(results, tmp_path / "out") == 0
    assert not [name for name in everything(tmp_path / "out") if "mt1-" in name]
