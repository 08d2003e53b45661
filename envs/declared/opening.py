"""Making gymnasium environments, and what their spaces leave open in a declaration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mtrl.envs.declared.reading import Values
from mtrl.envs.errors import SuiteError, nearest


def make_env(env_id: str, arguments: Values, **more: Any) -> gymnasium.Env:
    """``gymnasium.make`` without its checker.

    Args:
        arguments: from the declaration.

    Raises:
        SuiteError: gymnasium does not know the id, or the environment cannot be made.
    """
    try:
        return gymnasium.make(env_id, disable_env_checker=True, **arguments, **more)
    except gymnasium.error.UnregisteredEnv:
        known = [name for name in gymnasium.registry if not name.startswith("mtrl/")]
        close = nearest(env_id, known)
        hint = (
            f"did you mean {close!r}?"
            if close
            else "is its package imported, as in module:Id-v0?"
        )
        raise SuiteError(f"gymnasium knows no environment {env_id!r}; {hint}") from None
    # Anything may go wrong in a constructor that is not ours, a missing library or a wrong argument say.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SuiteError(f"{env_id!r} cannot be made: {reason.rstrip('.')}.") from None


def completed(task: Values, source: str, place: int) -> tuple[Values, str]:
    """A checked task with its horizon, observation and actions filled in, and the kind of its actions.

    Raises:
        SuiteError: the environment cannot be made, cannot be repeated, or has spaces that no suite can hold.
    """
    where = f"{source}: tasks[{place}]"
    try:
        env = make_env(task["id"], task["make"])
    except SuiteError as error:
        raise SuiteError(f"{where}.id: {error}") from None
    try:
        size = num_features(env.observation_space, f"{where}.id: {task['id']}")
        own = own_actions(env.action_space, f"{where}.id: {task['id']}")
        horizon = task["horizon"] or (env.spec and env.spec.max_episode_steps)
        if horizon is None:
            raise SuiteError(
                f"{where}.horizon: is missing, and {task['id']} has no limit of its own; "
                "give a number of steps."
            )
        observation = task["observation"] or [0, size]
        actions = task["actions"] or own
        check_fit(observation, actions, size, own, where)
        _check_repeats(env, f"{where}.id: {task['id']}")
    finally:
        env.close()
    kind = "discrete" if isinstance(env.action_space, spaces.Discrete) else "continuous"
    filled = {"horizon": horizon, "observation": observation, "actions": actions}
    return task | filled, kind


def check_fit(
    observation: Sequence[int],
    actions: Sequence[int],
    size: int,
    own: Sequence[int],
    where: str,
) -> None:
    """Raise SuiteError where a declared slice or action is not one of the environment's.

    Args:
        size, own: entries of its observations, and its actions or components of an action.
    """
    if observation[1] > size:
        raise SuiteError(
            f"{where}.observation: {list(observation)} reaches past the {size} entries that are observed."
        )
    for action in actions:
        if action not in own:
            raise SuiteError(
                f"{where}.actions: {action} is none of the environment's, {own[0]} to {own[-1]}."
            )


def num_features(space: spaces.Space, where: str) -> int:
    """Entries of a flat observation. Raises SuiteError for images and for what has no fixed size."""
    flat = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
    if isinstance(space, spaces.Dict):
        return sum(num_features(part, where) for part in space.values())
    if isinstance(space, spaces.Tuple):
        return sum(num_features(part, where) for part in space)
    if not isinstance(space, flat) or len(space.shape or ()) > 1:
        raise SuiteError(
            f"{where} observes {space}, which cannot be joined; "
            "a suite takes flat observations, no images, texts or sequences."
        )
    return spaces.flatdim(space)


def own_actions(space: spaces.Space, where: str) -> list[int]:
    """Numbers of an environment's actions, or of the components of a continuous one.

    Raises:
        SuiteError: neither ``Discrete`` nor a bounded flat ``Box``.
    """
    if isinstance(space, spaces.Discrete):
        return list(range(int(space.start), int(space.start + space.n)))
    real = isinstance(space, spaces.Box) and np.issubdtype(
        space.dtype or np.float32, np.floating
    )
    if not real or len(space.shape or ()) != 1 or not space.is_bounded():  # type: ignore[attr-defined]
        raise SuiteError(
            f"{where} has action space {space}, which cannot be joined; "
            "a suite takes Discrete, or a flat Box of real numbers with bounds."
        )
    return list(range(space.shape[0]))  # type: ignore[index]


def flat(space: spaces.Space, observation: Any) -> NDArray[np.float32]:
    """An observation as one row; categories are one-hot."""
    return np.asarray(spaces.flatten(space, observation), np.float32)


def _check_repeats(env: gymnasium.Env, where: str) -> None:
    """Raise SuiteError where one seed gives two beginnings: neither evaluation nor training could be repeated."""
    first = flat(env.observation_space, env.reset(seed=1)[0])
    again = flat(env.observation_space, env.reset(seed=1)[0])
    if not np.array_equal(first, again):
        raise SuiteError(
            f"{where} begins differently after two resets with one seed, so no evaluation could be repeated."
        )
