"""Where each part of a flat MiniGrid observation lies, and how many categories each part has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from mtrl.envs.errors import SuiteError
from mtrl.envs.minigrid.missions import NUM_TOKENS
from mtrl.envs.minigrid.view import VIEW_BYTES
from mtrl.envs.specs import GridLayout

VIEW_SHAPE = (7, 7, 3)


@dataclass(frozen=True)
class ObsLayout:
    """Parts of one observation row, uint8 ``[num_bytes]``. All of them are categories, never magnitudes.

    Attributes:
        mission_words: length of the mission, 0 if the suite's missions say no more than the task id.
        view: 7 x 7 x 3 bytes in minigrid's order: column from left to right, row from far to near, (object, color,
            state). The agent stands at column 3, row 6 and looks towards row 0.
        direction: the agent's compass direction, 0 to 3.
        mission: token ids, 0 is padding.
        channels: number of categories of object, color and state.
        directions: number of categories of the direction.
        vocabulary: number of token ids, padding included.
    """

    mission_words: int
    channels: tuple[int, int, int] = (11, 6, 3)
    directions: int = 4
    vocabulary: int = NUM_TOKENS

    @property
    def view(self) -> slice:
        return slice(0, VIEW_BYTES)

    @property
    def direction(self) -> int:
        return VIEW_BYTES

    @property
    def mission(self) -> slice:
        return slice(VIEW_BYTES + 1, self.num_bytes)

    @property
    def num_bytes(self) -> int:
        return VIEW_BYTES + 1 + self.mission_words

    @property
    def grid(self) -> GridLayout:
        """The same in numbers, as networks need it."""
        return GridLayout(*self.channels, self.directions, self.mission_words, self.vocabulary)

    def space(self) -> Box:
        """The space of one observation; its upper bounds are the highest categories."""
        view = np.tile(np.array(self.channels, np.uint8) - 1, VIEW_BYTES // 3)
        rest = np.array(
            [self.directions - 1] + [self.vocabulary - 1] * self.mission_words, np.uint8
        )
        high = np.concatenate([view, rest]).astype(np.uint8)
        return Box(np.zeros_like(high), high, dtype=np.uint8)

    def split(self, obs: NDArray[np.uint8]) -> tuple[NDArray, NDArray, NDArray]:
        """Views of the parts: view ``[..., 7, 7, 3]``, direction ``[...]``, mission ``[..., mission_words]``.

        Raises:
            SuiteError: the last axis has not ``num_bytes`` entries.
        """
        if obs.shape[-1] != self.num_bytes:
            raise SuiteError(
                f"Observations here have {self.num_bytes} bytes, but these have shape {obs.shape}."
            )
        return (
            obs[..., self.view].reshape(*obs.shape[:-1], *VIEW_SHAPE),
            obs[..., self.direction],
            obs[..., self.mission],
        )


def check_view_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Require that every task sees 7 x 7 cells.

    Raises:
        SuiteError: some task has another shape; the message names it.
    """
    for name, shape in shapes.items():
        if shape != VIEW_SHAPE:
            raise SuiteError(
                f"Task {name!r} observes {shape}, but all tasks of a suite must observe {VIEW_SHAPE}."
            )
