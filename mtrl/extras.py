"""How to install a package that only some methods need. Version bounds stand in ``pyproject.toml`` alone."""

from __future__ import annotations

import importlib.metadata
import re

DISTRIBUTION = "mtrl-suite"
"""Name of this project for installers; ``mtrl`` is another project on the package index."""


def install_command(package: str) -> str:
    """The command that installs a package of one of our extras, such as ``pip install "ray<3,>=2.40"``.

    It names the package itself. The name of an extra would also install our own distribution, from wherever an
    installer finds one.
    """
    return f'pip install "{requirement(package)}"'


def requirement(package: str) -> str:
    """A package with the versions that our installed metadata allows; in a checkout that is not installed, its name."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return package
    for line in lines:
        # As in: stable-baselines3<2.10,>=2.9; extra == "sb3"
        wanted = line.partition(";")[0].strip()
        if re.split(r"[^\w.-]", wanted)[0] == package:
            return wanted
    return package
