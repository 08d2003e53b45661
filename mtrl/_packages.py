"""Notice another distribution's ``agents``, ``envs`` or ``configs`` before it gives a baffling error."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mtrl.errors import ForeignPackageError

# A file that only our package of that name has.
_MARKERS = {"agents": "mtsac.py", "envs": "vector.py", "configs": "mt10.yaml"}


def check_packages() -> None:
    """Check that the names ``agents``, ``envs`` and ``configs`` lead to our packages, without importing them.

    Raises:
        ForeignPackageError: naming the first one that does not, and where it leads instead.
    """
    for name, marker in _MARKERS.items():
        try:
            spec = importlib.util.find_spec(name)
        except ValueError:  # already imported from something that is no proper package
            spec = None
        places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
        if any((place / marker).is_file() for place in places):
            continue
        found = f"leads to {spec.origin or places[0]}" if spec and (spec.origin or places) else "is missing"
        raise ForeignPackageError(
            f"mtrl needs its own top-level package {name!r}, but that name {found}; "
            "remove or rename the other package, or put mtrl's folder first on PYTHONPATH"
        )
