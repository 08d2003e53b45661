"""Runs the native and the stock backend side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mtrl.envs.make import make_vec
from mtrl.envs.minigrid.native import NativeMiniGrid
from tests.envs.minigrid.player import Wanderer


@dataclass
class Report:
    """What a comparison saw; ``difference`` is empty if the backends agreed throughout."""

    difference: str = ""
    episodes: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    solved: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    failed: np.ndarray = field(default_factory=lambda: np.zeros(0, int))


def _first_difference(name: str, ours: np.ndarray, theirs: np.ndarray) -> str:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{name}: {ours.dtype}{ours.shape} against {theirs.dtype}{theirs.shape}"
    if np.array_equal(ours, theirs):
        return ""
    where = tuple(np.argwhere(ours != theirs)[0].tolist())
    return f"{name}{list(where)}: {ours[where]} against {theirs[where]}"


def run(
    suite: str,
    steps: int,
    directed: bool,
    native: NativeMiniGrid | None = None,
    envs_per_task: int = 2,
    seed: int = 5,
) -> Report:
    """Play both backends with the same actions and compare all that they return, bit for bit.

    Args:
        directed: play with the wanderer instead of uniformly random actions.
        native: an environment to use in place of a correct one, made with the same arguments.
    """
    ours = native or make_vec(suite, envs_per_task, backend="native", seed=seed)
    theirs = make_vec(suite, envs_per_task, backend="stock", seed=seed)
    assert isinstance(ours, NativeMiniGrid)
    rng, player = np.random.default_rng(seed), Wanderer(ours, seed)
    report = Report(_first_difference("first obs", ours.reset()[0], theirs.reset()[0]))
    counts = np.zeros((3, ours.num_tasks), int)
    for t in range(steps):
        if report.difference:
            break
        actions = (
            player.actions()
            if directed
            else rng.integers(0, ours.single_action_space.n, ours.num_envs)
        )
        *our_arrays, our_info = ours.step(actions)
        *their_arrays, their_info = theirs.step(actions)
        names = ("obs", "reward", "terminated", "truncated", *sorted(our_info))
        pairs = zip([*our_arrays, *(our_info[key] for key in sorted(our_info))],
                    [*their_arrays, *(their_info[key] for key in sorted(our_info))])  # fmt: skip
        differences = [_first_difference(name, *pair) for name, pair in zip(names, pairs)]
        report.difference = next((f"step {t}: {text}" for text in differences if text), "")
        player.forget(our_info["_final_obs"])
        failed = our_arrays[2] & ~our_info["success"]
        for row, flags in zip(counts, (our_info["_final_obs"], our_info["success"], failed)):
            row += flags.reshape(ours.num_tasks, -1).sum(1)
    report.episodes, report.solved, report.failed = counts
    theirs.close()
    return report
