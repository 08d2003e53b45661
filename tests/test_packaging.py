"""The distribution as its users get it: what it holds, and that it lives with their own folders and packages.

Everything is built from a copy of the checkout, since a build leaves files behind that the next one would pick up, and
installed into environments of its own that borrow this one's packages (PyTorch alone takes a minute to install).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("agents", "envs", "configs")
QUIET = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")


def call(*command: str | Path, cwd: Path) -> str:
    """Output of a command that must succeed."""
    # Neither this checkout nor a user's settings may decide what is imported.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and what can be done with it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *what: str | Path) -> None:
        # What the borrowed packages hold must not count as installed.
        self._pip("install", *QUIET, "--no-build-isolation", "--ignore-installed", *what)

    def uninstall(self, name: str) -> None:
        self._pip("uninstall", "--quiet", "--yes", name)

    def _pip(self, *arguments: str | Path) -> None:
        call(sys.executable, "-m", "pip", "--python", self.python, *arguments, cwd=self.folder)


def make_environment(folder: Path) -> Environment:
    """An empty environment that also sees the packages of this one, but runs none of its ``.pth`` files.

    Editable installs, of this checkout for one, consist of such a file.
    """
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    borrowed = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
    (folder / "lib" / version / "site-packages" / "borrowed.pth").write_text(
        "\n".join(borrowed)
    )
    return Environment(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, and of the tests, which it has to leave out."""
    folder = tmp_path_factory.mktemp("checkout") / "mtrl"
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    for name in ("mtrl", "tests", *FOLDERS):
        shutil.copytree(
            ROOT / name,
            folder / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return folder


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    call(sys.executable, "-c", build, cwd=source)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", *QUIET, "--no-build-isolation")
    call(*pip, "--wheel-dir", folder, sdist, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    environment = make_environment(tmp_path_factory.mktemp("environment") / request.param)
    if request.param == "wheel":
        environment.install(request.getfixturevalue("wheel"))
    else:
        environment.install("--editable", request.getfixturevalue("source"))
    return environment


@pytest.fixture(params=["plain folders", "packages"])
def workplace(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A user's folder with folders named as ours."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        if request.param == "packages":
            (tmp_path / name / "__init__.py").write_text(
                "raise RuntimeError('must not be imported')"
            )
    (tmp_path / "configs" / "my.yaml").write_text("total_env_steps: 4321")
    return tmp_path


def files_of_the_package() -> set[str]:
    """Every file in the folders that make up the package, by the name that it has once installed."""
    roots = {ROOT / "mtrl": "mtrl"} | {ROOT / name: f"mtrl/{name}" for name in FOLDERS}
    found = set()
    for root, installed_name in roots.items():
        for path in root.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(f"{installed_name}/{path.relative_to(root)}")
    return found


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {name for name in names if name.startswith("mtrl/")}
    assert ours == files_of_the_package()
    assert {name.split("/")[0] for name in names - ours} == {"mtrl_suite-0.1.0.dist-info"}
    expected = {
        "mtrl/py.typed",
        "mtrl/agents/ppo/agent.py",
        "mtrl/envs/metaworld/suites.py",
        "mtrl/configs/families/metaworld.yaml",
        "mtrl/configs/methods/mtppo.yaml",
        "mtrl/configs/sweeps/mg10.yaml",
        "mtrl/records/schemas/result-2.json",
        "mtrl/leaderboard/assets/page.css",
    }
    assert expected <= ours


def test_source_distribution_holds_every_file_once(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
    assert all(member.isfile() for member in members)
    names = {member.name.partition("/")[2] for member in members}
    top = {name.split("/")[0] for name in names}
    assert top == {
        "mtrl",
        "mtrl_suite.egg-info",
        "LICENSE",
        "MANIFEST.in",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        "setup.cfg",
    }
    assert {name for name in names if name.startswith("mtrl/")} == files_of_the_package()


def test_users_folders_hide_nothing_of_ours(
    installed: Environment, source: Path, workplace: Path
) -> None:
    code = "import mtrl.agents, mtrl.envs, mtrl.configs; print(mtrl.__file__); print(mtrl.agents.MTPPO.__module__)"
    origin, module = call(installed.python, "-c", code, cwd=workplace).splitlines()
    home = source if installed.folder.name == "editable" else installed.folder
    assert Path(origin).is_relative_to(home)
    assert module == "mtrl.agents.ppo.agent"


def test_training_command_reads_users_configs(installed: Environment, workplace: Path) -> None:
    train = (installed.python, "-m", "mtrl.train")
    shown = call(*train, "mt10", "--config", "configs/my.yaml", "--help", cwd=workplace)
    assert "--total-env-steps=4321" in shown


def test_console_script_runs_beside_a_folder_of_our_name(
    installed: Environment, tmp_path: Path
) -> None:
    # As in the parent of a clone, where `python -m mtrl.train` finds the clone's folder instead of an editable install.
    (tmp_path / "mtrl").mkdir()
    mtrl = installed.folder / "bin" / "mtrl"
    assert call(mtrl, cwd=tmp_path).startswith("usage: mtrl COMMAND")
    shown = call(mtrl, "train", cwd=tmp_path)
    assert shown.startswith("usage: python -m mtrl.train SUITE") and "mt10" in shown


@pytest.fixture(scope="module")
def openai_agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of openai-agents, which owns the top-level package ``agents``."""
    folder = tmp_path_factory.mktemp("openai-agents")
    pip = (
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "openai-agents==0.24.0",
    )
    done = subprocess.run([*pip, "--dest", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("openai-agents cannot be downloaded here")
    return next(folder.glob("*.whl"))


@pytest.mark.parametrize("ours_first", [False, True])
def test_openai_agents_and_ours_leave_each_other_alone(
    ours_first: bool, wheel: Path, openai_agents: Path, tmp_path: Path
) -> None:
    environment = make_environment(tmp_path / "environment")
    wheels = [openai_agents, wheel]
    for each in reversed(wheels) if ours_first else wheels:
        environment.install(each)
    # Theirs is found, not imported: that would need all that it depends on.
    theirs = "import importlib.util; print(importlib.util.find_spec('agents').origin)"
    ours = "import mtrl.agents; print(mtrl.agents.MTPPO.__module__)"
    origin, module = call(environment.python, "-c", f"{theirs}; {ours}", cwd=tmp_path).split()
    assert Path(origin).is_relative_to(environment.folder)
    assert "Agent" in Path(origin).read_text() and not Path(origin).parent.is_symlink()
    assert module == "mtrl.agents.ppo.agent"
    files = [path for path in Path(origin).parent.rglob("*.py") if path.is_file()]
    with zipfile.ZipFile(openai_agents) as archive:
        for path in files:
            name = f"agents/{path.relative_to(Path(origin).parent)}"
            assert path.read_bytes() == archive.read(name), name
    assert len(files) > 100
    environment.uninstall("openai-agents")
    nobodys = "import importlib.util; print(importlib.util.find_spec('agents'))"
    assert call(environment.python, "-c", f"{nobodys}; {ours}", cwd=tmp_path).split() == [
        "None",
        "mtrl.agents.ppo.agent",
    ]
