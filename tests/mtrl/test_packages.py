from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mtrl

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": ":".join(map(str, [*paths, ROOT])), "PATH": "/usr/bin:/bin"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd="/")


@pytest.mark.parametrize("name", ["agents", "envs", "configs"])
def test_foreign_package_is_one_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    done = python("import mtrl", tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("mtrl.errors.ForeignPackageError: mtrl needs its own top-level package")
    assert f"'{name}', but that name leads to {tmp_path / name / '__init__.py'}" in last


def test_foreign_module_imported_before_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text("")
    done = python("import agents, mtrl", tmp_path)
    assert f"leads to {tmp_path / 'agents.py'}" in done.stderr


def test_missing_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "mtrl").symlink_to(ROOT / "mtrl")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    # -S leaves out site-packages, where an installed mtrl would bring the package along.
    command = [sys.executable, "-S", "-c", "import mtrl"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")
    assert "'agents', but that name is missing" in done.stderr


def test_import_is_light() -> None:
    done = python("import sys, mtrl; print(sorted({'torch', 'numpy', 'agents', 'envs', 'scipy'} & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stderr


def test_public_names_resolve() -> None:
    assert {"MTSAC", "make_vec", "wilson_interval"} <= set(mtrl.__all__)
    for name in mtrl.__all__:
        assert getattr(mtrl, name) is not None
    assert set(mtrl.__all__) <= set(dir(mtrl))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        mtrl.nothing  # noqa: B018
