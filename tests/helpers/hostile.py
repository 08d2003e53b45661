"""Result files that try to break a reader or the page it makes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.helpers.records import make_record, write

SCRIPT = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def hostile_record(seed: int = 0) -> dict[str, Any]:
    """A valid record whose every free text attacks HTML, Markdown, CSV or a path."""
    record = make_record("mt10", "x", seed)
    record["run_id"] = f"../../run{seed}{SCRIPT}"
    record["method"] |= {
        "name": f"../../../etc/passwd\"'{SCRIPT}|`[a](javascript:alert(3))\n# h\x00\x1b[2J\u202e\ud800",
        "agent": SCRIPT,
        "aggregator": f"=cmd|' /C calc'!A0{SCRIPT}",
        "curriculum": "]]>" + SCRIPT,
        "network": "{{7*7}}",
        "heads": SCRIPT,
    }
    record["method"]["params"][SCRIPT] = SCRIPT
    record["protocol"]["goals"] = f"goals {SCRIPT}"
    record["protocol"]["backend"] = f"../{SCRIPT}"
    record["provenance"]["commands"] = [f"command `{SCRIPT}` | @SUM(1)"]
    for key in ("python", "os", "device"):
        record["provenance"][key] = f"{key} `{SCRIPT}` | @SUM(1)"
    record["provenance"]["packages"]["mujoco"] = SCRIPT
    return record


def write_broken(folder: Path) -> dict[str, str]:
    """Files that must be left out; returns a part of the reason for each, by name."""
    good = make_record("mt10", "mtsac", 7)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(good)

    def damaged(**changes: Any) -> str:
        return json.dumps({**good, **changes})

    evaluations = json.loads(json.dumps(good["evaluations"]))
    evaluations[0]["per_task"]["reach-v3"]["successes"] = 51
    contents: dict[str, tuple[str | bytes, str]] = {
        "truncated.json": (text[: len(text) // 2], "truncated or not JSON"),
        "empty.json": ("", "truncated or not JSON"),
        "list.json": ("[1, 2]", "an array, not an object"),
        "binary.json": (b"\xff\xfe\x00", "is not UTF-8 text"),
        "nan.json": (text.replace('"wall_s": 3600.0', '"wall_s": NaN'), "holds NaN"),
        "infinite.json": (text.replace('"wall_s": 3600.0', '"wall_s": 1e999'), "is not finite"),
        "huge.json": (
            text.replace('"seed": 7', '"seed": ' + "9" * 300),
            "seed: a huge number is above",
        ),
        "digits.json": (
            text.replace('"seed": 7', '"seed": ' + "9" * 6000),
            "thousands of digits",
        ),
        "deep.json": ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
        "twice.json": (text.replace('"seed": 7', '"seed": 7, "seed": 8'), "names 'seed' twice"),
        "more.json": (
            damaged(evaluations=evaluations),
            "successes: 51 is not between 0 and episodes, 50",
        ),
        "suite.json": (
            damaged(protocol={**good["protocol"], "suite": "mt11"}),
            "there is no suite 'mt11'",
        ),
        "reward.json": (
            damaged(protocol={**good["protocol"], "reward_version": "v9"}),
            "'v9' is not 'v2' of suite mt10",
        ),
        "version.json": (damaged(schema_version=99), "schema_version: 99 is not supported"),
        f"{SCRIPT.replace('/', '_')}.json": ("{", "truncated or not JSON"),
    }
    reasons = {}
    for name, (content, reason) in contents.items():
        (folder / name).write_bytes(
            content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        )
        reasons[name] = reason
    (folder / "directory.json").mkdir()
    with (folder / "large.json").open("wb") as file:
        file.truncate(100 * 2**20)
    reasons["large.json"] = "has 100 MiB; at most 16 are read"
    os.mkfifo(folder / "pipe.json")
    reasons["pipe.json"] = "is not a regular file"
    outside = write(folder.parent / "elsewhere", good)
    (folder / "link.json").symlink_to(outside)
    reasons["link.json"] = "a link to a file outside"
    (folder / "circle.json").symlink_to("circle.json")
    reasons["circle.json"] = "cannot be read"
    write(folder, good, "first.json")
    write(folder, good, "second.json")
    reasons["second.json"] = "duplicate: has the run_id of first.json"
    return reasons
