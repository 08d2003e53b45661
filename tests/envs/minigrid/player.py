"""A player that wanders from object to object and uses them: it opens, carries, drops and often solves tasks."""

from __future__ import annotations

from collections import deque

import numpy as np

from mtrl.envs.minigrid.cells import (
    BALL,
    BORDER,
    BOX,
    CARRIED,
    CLOSED,
    DIRECTION,
    DOOR,
    EMPTY,
    GOAL_KIND,
    KEY,
    KIND,
    LAVA_KIND,
    LOCKED,
    STEP_X,
    STEP_Y,
    WALL_KIND,
    X,
    Y,
)
from mtrl.envs.minigrid.native import NativeMiniGrid
from mtrl.envs.minigrid.rules import DONE, DROP, FORWARD, PICK_UP, TOGGLE, TURN_LEFT, TURN_RIGHT

WALKABLE = (EMPTY, DOOR, GOAL_KIND)
USES = {
    GOAL_KIND: FORWARD,
    KEY: PICK_UP,
    BALL: PICK_UP,
    BOX: PICK_UP,
    DOOR: DONE,
    CLOSED: TOGGLE,
    LOCKED: TOGGLE,
}


def _path(
    kinds: np.ndarray, pose: tuple[int, int, int], target: tuple[int, int]
) -> list[int] | None:
    """Shortest list of actions after which the agent faces ``target``."""
    queue, seen = deque([(pose, [])]), {pose}
    while queue:
        (x, y, direction), actions = queue.popleft()
        ahead = (x + int(STEP_X[direction]), y + int(STEP_Y[direction]))
        if ahead == target:
            return actions
        moves = [
            (x, y, (direction + 3) % 4, TURN_LEFT),
            (x, y, (direction + 1) % 4, TURN_RIGHT),
        ]
        if kinds[ahead[1], ahead[0]] in WALKABLE:
            moves.append((*ahead, direction, FORWARD))
        for *place, action in moves:
            if tuple(place) not in seen:
                seen.add(tuple(place))
                queue.append((tuple(place), [*actions, action]))
    return None


class Wanderer:
    """Plans for every environment of a native vector environment by looking at its state.

    Args:
        env: the environment to look at.
        noise: share of uniformly random actions.
    """

    def __init__(self, env: NativeMiniGrid, seed: int, noise: float = 0.05) -> None:
        self.env, self.noise = env, noise
        self.rng = np.random.default_rng(seed)
        self.plans: list[list[int]] = [[] for _ in range(env.num_envs)]

    def actions(self) -> np.ndarray:
        return np.array([self._action(i) for i in range(self.env.num_envs)])

    def forget(self, ended: np.ndarray) -> None:
        for i in np.flatnonzero(ended):
            self.plans[i] = []

    def _action(self, i: int) -> int:
        num_actions = int(self.env.action_mask[self.env.task_id[i]].sum())
        if self.rng.random() < self.noise:
            self.plans[i] = []
            return int(self.rng.integers(num_actions))
        if not self.plans[i]:
            self.plans[i] = self._plan(i)
        action = self.plans[i].pop(0)
        if (
            action == FORWARD
            and self.env._arrays["level"][i, CARRIED]
            and self.rng.random() < 0.15
        ):
            self.plans[i] = []
            action = DROP
        return min(action, num_actions - 1)

    def _plan(self, i: int) -> list[int]:
        level, kinds = self.env._arrays["level"][i], self.env._arrays["grid"][i] & KIND
        pose = (int(level[X]) + BORDER, int(level[Y]) + BORDER, int(level[DIRECTION]))
        things = np.argwhere(~np.isin(kinds, (EMPTY, WALL_KIND, LAVA_KIND)))
        self.rng.shuffle(things)
        for y, x in things:
            path = _path(kinds, pose, (int(x), int(y)))
            if path is not None:
                return [*path, *self._use(int(kinds[y, x]), bool(level[CARRIED]))]
        return [int(self.rng.integers(7))]

    def _use(self, kind: int, carrying: bool) -> list[int]:
        """What to do with the thing in front: mostly what it is for, sometimes done, a drop beside it, anything."""
        if carrying and kind in (KEY, BALL, BOX):
            return [TURN_RIGHT, DROP, TURN_LEFT, PICK_UP]
        draw = self.rng.random()
        if draw < 0.7:
            return [USES[kind]]
        return [DONE] if draw < 0.85 else [int(self.rng.integers(7))]
