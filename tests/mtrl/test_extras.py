from __future__ import annotations

import importlib.metadata

import pytest

from mtrl import extras

METADATA = [
    "numpy<3,>=2.0",
    'mtrl-suite[sb3]; extra == "dev"',
    'stable-baselines3-contrib>=2; extra == "other"',
    'stable-baselines3<2.10,>=2.9; extra == "sb3"',
]


def test_command_names_the_package_and_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", {"mtrl-suite": METADATA}.get)
    assert (
        extras.install_command("stable-baselines3")
        == 'pip install "stable-baselines3<2.10,>=2.9"'
    )
    assert extras.install_command("numpy") == 'pip install "numpy<3,>=2.0"'


@pytest.mark.parametrize("package", ["stable-baselines3", "ray"])
def test_our_own_metadata_bounds_every_extra(package: str) -> None:
    try:
        importlib.metadata.version(extras.DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("this checkout is not installed")
    assert extras.requirement(package).startswith(f"{package}<")


def test_without_metadata_the_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert extras.install_command("ray") == 'pip install "ray"'
