from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtrl.errors import CheckpointError, WriteError
from mtrl.training import checkpoint
from tests.mtrl.conftest import limited_file_size

STATE = {
    "agent": {
        "weight": torch.arange(4.0),
        "steps": 3,
        "nested": {"half": torch.zeros(2, dtype=torch.bfloat16)},
    },
    "env": checkpoint.tensors_of(
        {"rng": np.array([2**63 + 1], np.uint64), "done": np.array([True])}
    ),
    "trainer": {"evaluations": [{"env_steps": 1}], "wall_s": 0.1},
}
AGENT = {"about": {"agent": "fake"}, "state": {"weight": torch.arange(4.0), "steps": 3}}


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.save(folder, step, {"seed": 1}, STATE, AGENT)


def test_round_trip(tmp_path: Path) -> None:
    save(tmp_path, 100)
    found, warnings = checkpoint.newest_whole(tmp_path)
    assert found is not None
    assert (found.progress, found.config, warnings) == (100, {"seed": 1}, [])
    state = found.state()
    assert torch.equal(state["agent"]["weight"], STATE["agent"]["weight"])
    assert state["agent"]["nested"]["half"].dtype == torch.bfloat16
    assert state["env"]["rng"].numpy().tolist() == [2**63 + 1]
    assert state["trainer"] == STATE["trainer"]
    assert found.agent()["steps"] == 3


def test_two_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 100, 200, 1000)
    assert [path.name for path in checkpoint.newest_first(tmp_path)] == [
        "000000001000",
        "000000000200",
    ]


def test_no_checkpoints_at_all(tmp_path: Path) -> None:
    assert checkpoint.newest_whole(tmp_path / "checkpoints") == (None, [])


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _remove(path: Path) -> None:
    path.unlink()


def _other_json(path: Path) -> None:
    path.write_text("[1, 2]")


@pytest.mark.parametrize("name", ["state.safetensors", "agent.safetensors", "manifest.json"])
@pytest.mark.parametrize("harm", [_truncate, _flip, _empty, _remove, _other_json])
def test_damage_is_seen_and_the_older_one_used(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    save(tmp_path, 100, 200)
    harm(tmp_path / "000000000200" / name)
    found, warnings = checkpoint.newest_whole(tmp_path)
    assert found is not None
    assert found.progress == 100
    assert len(warnings) == 1
    assert "000000000200: damaged" in warnings[0]
    assert name in warnings[0]


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_edited_manifest_is_seen(tmp_path: Path) -> None:
    save(tmp_path, 100)
    _edit(
        tmp_path / "000000000100" / "manifest.json",
        lambda manifest: manifest["config"].update(seed=2),
    )
    with pytest.raises(
        CheckpointError,
        match=r"manifest.json does not match its sha256; no whole checkpoint is left",
    ):
        checkpoint.newest_whole(tmp_path)


def test_other_schema_is_named(tmp_path: Path) -> None:
    save(tmp_path, 100)
    _edit(
        tmp_path / "000000000100" / "manifest.json",
        lambda manifest: manifest.update(schema_version=7),
    )
    with pytest.raises(CheckpointError, match="schema_version is 7 there and 2 here"):
        checkpoint.verify(tmp_path / "000000000100")


def test_damaged_ones_are_set_aside(tmp_path: Path) -> None:
    save(tmp_path, 100, 200)
    checkpoint.set_aside(tmp_path, newer_than=100)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000000100",
        "damaged-000000000200",
    ]
    save(tmp_path, 200)
    assert [path.name for path in checkpoint.newest_first(tmp_path)] == [
        "000000000200",
        "000000000100",
    ]


def test_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    save(tmp_path, 100, 200)
    big = {"agent": {"buffer": torch.zeros(100_000)}, "env": {}, "trainer": {"wall_s": 0.0}}
    with pytest.raises(WriteError, match=r"cannot be written"), limited_file_size(20_000):
        checkpoint.save(tmp_path, 300, {"seed": 1}, big, AGENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000100", "000000000200"]
    assert checkpoint.newest_whole(tmp_path)[0] is not None


def test_same_env_steps_again_replaces(tmp_path: Path) -> None:
    save(tmp_path, 100)
    checkpoint.save(tmp_path, 100, {"seed": 1}, STATE | {"trainer": {"wall_s": 9.0}}, AGENT)
    found, _ = checkpoint.newest_whole(tmp_path)
    assert found is not None
    assert found.state()["trainer"] == {"wall_s": 9.0}
