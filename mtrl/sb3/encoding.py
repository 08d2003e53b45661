"""Observations as an MLP policy that knows nothing of tasks can use them: categories and the task as one-hot codes."""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl.agents.agent import EnvSpec
from mtrl.envs import TaskVectorEnv


@dataclasses.dataclass(frozen=True)
class SB3Spec(EnvSpec):
    """An ``EnvSpec`` that also knows the observation space.

    Attributes:
        categories: number of values of each entry of a categorical observation (uint8), empty for real numbers.
        obs_low, obs_high: bounds of observations of real numbers, empty for categories.
    """

    categories: tuple[int, ...] = ()
    obs_low: tuple[float, ...] = ()
    obs_high: tuple[float, ...] = ()

    @classmethod
    def of(cls, env: TaskVectorEnv) -> Self:
        spec = super().of(env)
        space = env.single_observation_space
        assert isinstance(space, Box)
        if space.dtype == np.uint8:
            return dataclasses.replace(
                spec, categories=tuple(int(high) + 1 for high in space.high)
            )
        return dataclasses.replace(
            spec, obs_low=tuple(space.low.tolist()), obs_high=tuple(space.high.tolist())
        )

    @property
    def code_size(self) -> int:
        """Columns of the task's one-hot code; a suite of one task needs none."""
        return self.num_tasks if self.num_tasks > 1 else 0

    def encoded_space(self) -> Box:
        """Space of one encoded observation: uint8 zeros and ones for categories, else float32."""
        if self.categories:
            return Box(0, 1, (sum(self.categories) + self.code_size,), np.uint8)
        low = np.concatenate([self.obs_low, np.zeros(self.code_size)]).astype(np.float32)
        high = np.concatenate([self.obs_high, np.ones(self.code_size)]).astype(np.float32)
        return Box(low, high, dtype=np.float32)

    def encode(self, obs: NDArray, task_id: NDArray) -> NDArray:
        """Observations ``[n, D]`` of tasks ``[n]`` as rows of ``encoded_space``: the observation, then the task."""
        code = np.arange(self.code_size) == np.asarray(task_id)[:, None]
        if not self.categories:
            return np.concatenate([obs, code], axis=1, dtype=np.float32)
        sizes = np.array(self.categories)
        columns = np.cumsum(sizes) - sizes + obs
        ones = np.zeros((len(obs), int(sizes.sum())), np.uint8)
        np.put_along_axis(ones, columns, 1, axis=1)
        return np.concatenate([ones, code], axis=1, dtype=np.uint8)
