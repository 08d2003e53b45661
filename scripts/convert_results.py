"""Bring result files to the current schema, settings and place, ``SUITE/BUDGET/ROW/seed-N.json``; numbers stay.

python scripts/convert_results.py results           # convert and move
python scripts/convert_results.py results --check   # say what would change; exit status 1 if anything would

A row is named by what differs from its method's preset, so after a change of presets this script names folders anew.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from mtrl.envs import get_suite, make_vec
from mtrl.envs.errors import UserError
from mtrl.envs.metaworld.goals import benchmark_goals
from mtrl.errors import ResultError
from mtrl.leaderboard.files import find, is_other, read_json
from mtrl.records.record import SCHEMA_VERSION, Budget, Method, Protocol, Provenance, Result
from mtrl.records.results import NETWORK, Record, method_of, read_result, validate, write_result
from mtrl.records.rows import place, told_apart
from mtrl.settings.config import PLACE_KEYS, Flat, flatten, make_config, run_settings

MADE_LATER: Flat = {
    # 3a1c426 added staggered episodes; before it all environments of a task started in phase.
    "stagger": False,
    # Architectures other than the plain MLP came after all of these runs.
    "agent.network": "mlp",
    "agent.actor_network": None,
    "agent.critic_network": None,
    # Before 1e1425e one norm clipped a whole network, as it does by default again.
    "agent.clip_apart": False,
    # So did weights of MTSAC's tasks by temperature, distributions of returns, scales of rewards, resets and decay.
    "agent.temperature_weights": False,
    "agent.value": "scalar",
    "agent.target_twins": "min",
    "agent.actor_twins": "min",
    "agent.reward_scale": "none",
    "agent.resets": 0,
    "agent.reset_updates": 0,
    "agent.shared_alpha": False,
    "agent.weight_decay": 0.0,
    # a4fa8bb gave MTSAC an encoder of MiniGrid views; on Meta-World, where older runs are, the setting does nothing.
    "agent.channels": 32,
    # d84ebf8 made a limit of rewards a setting; before c7164ed critics' targets had no bound.
    "agent.max_reward": None,
    # 700b9a7 gave MTSAC gradient methods; before it the loss was `losses.mean(-1).sum()`, the mean over tasks.
    "agent.aggregator": "mean",
    "agent.actor_aggregator": None,
    "agent.critic_aggregator": None,
    # aea8e8e and 3dc3e7d added curricula; before them every task trained all the time.
    "agent.curriculum": "uniform",
    # c4548d7 added the diagnostics, which are only logged.
    "agent.gradient_diagnostics": False,
    # 41134a0 added the mean of the clipped Gaussian; before it deterministic actions were the mode.
    "agent.deterministic_action": "mode",
    # a432583 let the correlation of noise shrink with success, 9961b39 let it end; before, it fell with the schedule.
    "agent.noise_by_failure": False,
    "agent.noise_until": None,
    # 7ac1cc3 added the floor; before it advantages were divided by their own deviation, however small.
    "agent.advantage_floor": 0.0,
}
"""Settings that some published runs are older than, each with the value that does what the code did before it."""
OF_AGGREGATORS: Flat = {
    # Before they were added no losses were weighed, and all weights trained.
    "weighting": "none",
    "sparse": 0,
}
"""The same for settings of every gradient method."""
SUMMED = ("pcgrad", "gradvac")
"""Methods that summed their corrected gradients unless told otherwise, before averaging became the default."""
GONE: Flat = {
    # 41134a0 to b096468: the share of the run after which step sizes began to fall. From 0 on is today's schedule.
    "agent.decay_start": 0.0,
    # 6c281da to a432583: whether environments of a task differed in their noise. They do not today.
    "agent.noise_spread": False,
}
"""Settings that are gone, each with the value at which it did nothing."""


RESUMED = re.compile(r"--resume[= ].*--total-env-steps[= ]")
"""A command that continues a run with a new planned total."""


@dataclass(frozen=True)
class Move:
    """A record in its new form and its new place; the same place if only the form changes."""

    old: Path
    new: Path
    record: Record


def upgraded(record: Record) -> Record:
    """Convert a record of version 1 to version 2. Facts that version 1 lacks become null."""
    old, params = record["method"], dict(record["method"]["params"])
    # 0 was the default and did nothing: every evaluation played the run's own goals.
    params["eval.seed"] = None
    goal_seed = params.get("goal_seed")
    goal_seed = record["seed"] if goal_seed is None else goal_seed
    protocol = record["protocol"] | {"goal_seed": goal_seed, "eval_seed": None}
    protocol["distinct_levels"] = distinct_levels(
        protocol["suite"], protocol["backend"], goal_seed, protocol["episodes_per_task"]
    )
    provenance = dict(record["provenance"])
    command = provenance.pop("command")
    # A resumed run does not tell at which step its total was set, and schedules may have restarted there.
    begun = None if RESUMED.search(command) else 0
    total = params.get("total_env_steps", record["budget"]["env_steps"])
    segments = [{"env_steps": begun, "total_env_steps": total}]
    precision = params.get("agent.precision", "fp32")  # SB3's agents have no choice
    new = record | {
        "schema_version": SCHEMA_VERSION,
        "protocol": protocol,
        "method": old
        | {"network": NETWORK, "heads": params.get("agent.heads"), "params": params},
        "budget": record["budget"] | {"segments": segments},
        "provenance": provenance
        # Old records do not name the CPU, on which what auto meant depended.
        | {"commands": [command], "precision": None if precision == "auto" else precision},
    }
    del new["method"]["architecture"]
    return in_order(new)


def in_order(record: Record) -> Record:
    """The record with the parts of each object in the order of their class."""
    parts = {"protocol": Protocol, "method": Method, "budget": Budget, "provenance": Provenance}
    ordered = {name.name: record[name.name] for name in fields(Result)}
    for key, part in parts.items():
        ordered[key] = {name.name: record[key][name.name] for name in fields(part)}
    return ordered


@cache
def distinct_levels(suite: str, backend: str, goal_seed: int, episodes: int) -> dict[str, int]:
    """Different goals or levels, by content, among the first ``episodes`` of an evaluation."""
    spec = get_suite(suite)
    if not spec.discrete:
        goals = benchmark_goals(spec, goal_seed)
        return {
            name: len({goal.tobytes() for goal in own[:episodes]})
            for name, own in zip(spec.task_names, goals)
        }
    env = make_vec(suite, episodes, backend=backend, goals="cycle", goal_seed=goal_seed)
    try:
        env.rebase(0)
        starts = [env.start_content(index) for index in range(env.num_envs)]
    finally:
        env.close()
    return {
        name: len(set(starts[place * episodes : (place + 1) * episodes]))
        for place, name in enumerate(spec.task_names)
    }


def converted(record: Record) -> Record:
    """The record in today's schema with complete settings in today's form; no number changes.

    Raises:
        ResultError: a setting is missing whose value then is not known, or has gone that did something.
    """
    if record.get("schema_version") == 1:
        record = upgraded(record)
    method = record["method"]
    params = dict(method["params"])
    for key, idle in GONE.items():
        if params.pop(key, idle) != idle:
            raise ResultError(
                f"method.params.{key}: a setting that is gone, and did something in this run"
            )
    known = run_settings(method["agent"])
    params = _aggregators(params)
    given = canonical(params)
    for key, value in MADE_LATER.items():
        if key in known and not any(
            name == key or name.startswith(f"{key}.") for name in given
        ):
            params[key] = value
    config = make_config(params)
    complete = {key: value for key, value in config.flat().items() if key not in PLACE_KEYS}
    missing = sorted(complete.keys() - canonical(params).keys())
    if missing:
        raise ResultError(
            f"method.params.{missing[0]}: is missing, and what the run did is not known"
        )
    made = method_of(complete) | {"num_parameters": method["num_parameters"]}
    return validate(in_order(record | {"method": made}))


def canonical(saved: Flat) -> Flat:
    """Saved settings with choices that were written short written out; settings that are missing stay missing."""
    known = run_settings(str(saved.get("algorithm")))
    out: Flat = {}
    for key, value in saved.items():
        registry = known[key].registry if key in known else None
        if registry and value is not None:
            value = registry.read(value, key)[0].flat()
        out |= flatten({key: value})
    return out


def _aggregators(params: Flat) -> Flat:
    """The settings with those of gradient methods that were made or changed later."""
    out = dict(params)
    for key, value in params.items():
        name = key.rpartition(".")[2]
        if name.endswith("aggregator") and isinstance(value, str):
            kind, _, rest = value.partition(":")
            if kind in SUMMED and "reduction=" not in rest:
                out[key] = f"{kind}:" + ",".join(filter(None, ["reduction=sum", rest]))
        if name == "kind" and key.endswith("aggregator.kind"):
            owner = key.removesuffix("kind")
            for setting, idle in OF_AGGREGATORS.items():
                out.setdefault(owner + setting, idle)
    return out


def plan(folder: Path) -> tuple[list[Move], int]:
    """The planned moves below a folder, and the number of records there.

    Raises:
        ResultError: a record cannot be converted, two would become one file, or rows of different settings one folder.
    """
    moves: list[Move] = []
    count = 0
    taken: dict[Path, Record] = {}
    rows: dict[Path, tuple[Path, Flat]] = {}
    for path, record in _records(folder):
        count += 1
        try:
            new = converted(record)
        except UserError as error:
            raise ResultError(f"{path}: {error}") from None
        params = new["method"]["params"]
        target = folder / place(params)
        # Equal records are one that was written and not yet removed when an earlier conversion was stopped.
        if not _same(taken.setdefault(target, new), new):
            raise ResultError(f"{path}: its place, {target}, is also that of another record")
        first, settings = rows.setdefault(target.parent, (path, told_apart(params)))
        if settings != told_apart(params):
            raise ResultError(
                f"{path}: its settings differ from those of {first}, and their folder would be the same"
            )
        if target != path or not _same(new, record):
            moves.append(Move(path, target, new))
    return moves, count


def carry_out(moves: Sequence[Move], folder: Path) -> None:
    """Write each new file, then remove the old one and the folders that are left empty.

    Raises:
        ResultError: a file would be overwritten.
    """
    waiting = list(moves)
    while waiting:
        sources = {move.old for move in waiting}
        free = [move for move in waiting if move.new == move.old or move.new not in sources]
        if not free:
            raise ResultError(
                f"{waiting[0].new}: has to make room first, as have the others; move one aside by hand"
            )
        for move in free:
            _carry_out(move, folder)
        waiting = [move for move in waiting if move.new != move.old and move.new in sources]


def _carry_out(move: Move, folder: Path) -> None:
    if (
        move.new != move.old
        and move.new.exists()
        and not _same(read_result(move.new), move.record)
    ):
        raise ResultError(f"{move.new}: is there already; {move.old} would overwrite it")
    move.new.parent.mkdir(parents=True, exist_ok=True)
    write_result(move.new, move.record)
    if move.new == move.old:
        return
    move.old.unlink()
    for parent in move.old.parents:
        if parent == folder or any(parent.iterdir()):
            break
        parent.rmdir()


def _records(folder: Path) -> Iterator[tuple[Path, Record]]:
    for path in find(folder):
        if not is_other(path):
            record: Record = read_json(path)
            yield path, record


def _same(one: Any, other: Any) -> bool:
    """Whether two records are equal, the order of their parts included."""
    return json.dumps(one) == json.dumps(other)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"))
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    try:
        moves, count = plan(options.folder)
        for move in moves:
            print(
                f"{move.old} -> {move.new}"
                if move.old != move.new
                else f"{move.old}: in today's form"
            )
        if not options.check:
            carry_out(moves, options.folder)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{count} result files, {len(moves)} {'to change' if options.check else 'changed'}")
    return 1 if options.check and moves else 0


if __name__ == "__main__":
    sys.exit(main())
