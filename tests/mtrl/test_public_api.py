from __future__ import annotations

import subprocess
import sys

import pytest

import mtrl


def test_import_is_light() -> None:
    heavy = "{'torch', 'numpy', 'scipy', 'mtrl.agents', 'mtrl.envs'}"
    command = [
        sys.executable,
        "-c",
        f"import sys, mtrl; print(sorted({heavy} & set(sys.modules)))",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_public_names_resolve() -> None:
    assert {"MTSAC", "make_vec", "wilson_interval"} <= set(mtrl.__all__)
    for name in mtrl.__all__:
        assert getattr(mtrl, name) is not None
    assert set(mtrl.__all__) <= set(dir(mtrl))
    with pytest.raises(AttributeError, match="No mtrl attribute nothing"):
        mtrl.nothing  # noqa: B018
