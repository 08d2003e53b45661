"""Which environments an agent can work with, and whether it can go from one to another."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from mtrl.agents.errors import AgentError
from mtrl.envs.specs import EnvSpec
from mtrl.envs.vector import TaskVectorEnv


def check_env(env: Any) -> None:
    """Raise AgentError unless observations are flat and actions a bounded flat ``Box`` or ``Discrete`` from 0."""
    if not isinstance(env, TaskVectorEnv):
        raise AgentError(
            f"env: a {type(env).__name__} is no TaskVectorEnv; agents need what make_vec returns, without wrappers"
        )
    observations, actions = env.single_observation_space, env.single_action_space
    if not isinstance(observations, Box) or len(observations.shape) != 1:
        raise AgentError(
            f"env: observation space {observations} is not supported; it must be a flat Box"
        )
    _check_layout(env)
    discrete = isinstance(actions, Discrete) and actions.start == 0
    flat = isinstance(actions, Box) and len(actions.shape) == 1 and actions.is_bounded()
    if not (discrete or flat):
        raise AgentError(
            f"env: {env.suite.id} has action space {actions}; agents need a bounded flat Box, or Discrete from 0"
        )


def _check_layout(env: TaskVectorEnv) -> None:
    """Raise AgentError for bytes of an unknown layout, or of another size than the layout says."""
    space = env.single_observation_space
    layout = getattr(env, "obs_layout", None)
    if layout is None:
        if space.dtype == np.uint8:
            raise AgentError(
                f"env: {env.suite.id} observes bytes without an obs_layout that says what they mean"
            )
        return
    grid = layout.grid
    if space.shape != (grid.num_bytes,):
        raise AgentError(
            f"env: {env.suite.id} observes {space.shape}, but a 7 x 7 view, direction and {grid.words} mission words "
            f"have {grid.num_bytes} bytes"
        )


def check_same(own: EnvSpec, other: EnvSpec) -> None:
    """Raise AgentError unless an agent built for ``own`` can go on with ``other``."""
    kinds = {True: "discrete", False: "continuous"}
    if other.discrete != own.discrete:
        theirs, ours = kinds[other.discrete], kinds[own.discrete]
        raise AgentError(
            f"env: {other.suite} has {theirs} actions, but this agent was built for {ours} ones"
        )
    if other.grid != own.grid or other.obs_dim != own.obs_dim:
        raise AgentError(
            f"env: {other.suite} has observations of {other.obs_dim} entries, laid out otherwise than the "
            f"{own.obs_dim} that this agent was built for"
        )
    for field in dataclasses.fields(other):
        old, new = getattr(own, field.name), getattr(other, field.name)
        if old != new and field.name not in ("suite", "builds_on"):
            raise AgentError(
                f"env: {field.name} is {new!r}, but this agent was built for {old!r}"
            )
