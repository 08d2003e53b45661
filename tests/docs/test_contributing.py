"""Files for those who carry the suite on say what CI and the package say."""

from __future__ import annotations

import tomllib

import yaml

from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CI = (ROOT / ".ci" / "run").read_text()


def test_pre_commit_runs_the_checks_of_ci() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["name"] for hook in hooks] == ["ruff check", "ruff format", "mypy"]
    for hook in hooks:
        assert hook["entry"] in CI and hook["language"] == "system"


def test_the_workflow_calls_ci() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["ci"]["steps"]
    assert steps[-1] == {"run": ".ci/run"}
    assert "scripts.make_docs" in CI and '-e ".[docs]"' in CI


def test_license_and_citation_name_the_contributors() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (
        citation["authors"] == PROJECT["authors"] == [{"name": "the mtrl-suite contributors"}]
    )
    assert "the mtrl-suite contributors" in (ROOT / "LICENSE").read_text()
