"""Seeds of all environments' random numbers: stateless streams, named by where they are used.

A draw is a pure function of (seed, boundary, task, env, episode), so streams of different tasks and environments never
move in lockstep, nothing has to be saved but counters, and no global generator is touched.
"""

from __future__ import annotations

import numpy as np

from mtrl.envs.errors import SuiteError, as_integer

MAX_SEED = 2**32 - 1


def check_seed(name: str, seed: object) -> int:
    """Returns ``seed`` as an int; SuiteError names the field if it is not an integer in [0, 2**32 - 1]."""
    number = as_integer(seed)
    if number is None or not 0 <= number <= MAX_SEED:
        raise SuiteError(f"{name} must be an integer from 0 to {MAX_SEED}, not {seed!r}.")
    return number


def episode_seed(seed: int, boundary: int, task: int, env: int, episode: int) -> int:
    """Seed of one episode, uniform over [0, 2**32).

    Args:
        seed: the suite's seed.
        boundary: the checkpoint boundary that the episode follows; 0 before the first (``TaskVectorEnv.rebase``).
        task: position of the task in the suite.
        env: position of the environment among those of its task.
        episode: how many episodes this environment has finished since the boundary.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(boundary, task, env, episode))
    return int(sequence.generate_state(1)[0])
