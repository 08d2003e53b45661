"""Reward functions against stock in made-up situations, for the branches that few episodes reach.

Positions are written straight into the stock environment's data, without physics: the object near the gripper, its
start or its goal, the pads around it, any effort, and contact or none.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mtrl.envs.metaworld.native import layout as at
from mtrl.envs.metaworld.native.jit import compiled_reward
from mtrl.envs.metaworld.native.spec import Source, Task
from mtrl.envs.metaworld.native.stock import make_stock, snapshot, stock_reset
from mtrl.envs.metaworld.native.tasks import TASKS
from tests.envs.metaworld.native.fidelity import REWARDS, goals

FAST = ("shelf-place-v3", "peg-insert-side-v3", "soccer-v3")
SPREADS = (0.0, 0.003, 0.01, 0.04, 0.15)
EFFORTS = (-1.0, 0.0, 0.05, 0.1, 0.3, 0.65, 0.7, 0.75, 0.8, 1.0, 1.1)


PADS = {"right": at.RIGHT_PAD, "left": at.LEFT_PAD}
TIPS = {"right": at.RIGHT_TIP, "left": at.LEFT_TIP}


def live(env: Any, source: Source) -> NDArray:
    """The array that the stock environment reads a source from."""
    view = getattr(env.data, source.kind)(source.name)
    return view.qpos if source.kind == "joint" else view.xpos


class Scene:
    """A stock environment after a reset, and the engine's arrays of the same situation."""

    def __init__(self, task: Task, goal: tuple[float, ...], rng: np.random.Generator) -> None:
        self.task, self.rng, self.env = task, rng, make_stock(task.name)
        before = snapshot(task, self.env, stock_reset(self.env, goal))
        self.init, self.obs, self.world, self.out = (
            before.init,
            before.obs,
            np.zeros(at.WORLD_SIZE),
            np.zeros(7),
        )
        dials = [item.dial for item in task.objects if item.dial is not None]
        self.live = {source: live(self.env, source) for source in (*task.sources, *dials)}
        self.rest = {source: array.copy() for source, array in self.live.items()}
        self.pads = {side: self.env.data.body(f"{side}pad").xpos for side in PADS}
        self.tips = {side: self.env.data.site(f"{side}EndEffector").xpos for side in TIPS}
        self.touch = False
        if task.touch is not None:
            self.env.touching_object = lambda _: self.touch

    def near(self, *places: NDArray) -> NDArray:
        return self.rng.choice(np.array(places)) + self.rng.normal(
            0, self.rng.choice(SPREADS), 3
        )

    def shuffle(self) -> None:
        """A new situation, the same in the stock data as in ``world`` and ``obs``."""
        rng, init, rest = self.rng, self.init, self.rest
        first = rest[self.task.objects[0].position]
        start, target = init[at.OBJ_INIT : at.OBJ_INIT + 3], init[at.TARGET : at.TARGET + 3]
        target = np.where(target == 0.0, first, target)  # a scalar target leaves zeros
        raised = np.add(first, (0.0, 0.0, rng.uniform(0.0, 0.1)))
        main = self.near(start, target, raised, rng.uniform((-0.5, 0.4, 0.0), (0.5, 1.0, 0.5)))
        for source, array in self.live.items():
            if source.kind == "joint":
                array[:] = rest[source] + rng.normal(0, rng.choice((0.0, 0.1, 1.0)))
            else:
                array[:] = self.near(main, target, rest[source], rest[source])
        self.live[self.task.objects[0].position][:] = main
        held = rng.random() < 0.5
        center = (
            main + rng.normal(0, 0.002, 3)
            if held
            else self.near(main, main, init[at.INIT_TCP : at.INIT_TCP + 3])
        )
        width = rng.uniform(-0.01, 0.08)
        for side, sign in (("right", -1.0), ("left", 1.0)):
            self.tips[side][:] = np.add(center, (0.0, sign * 0.01, 0.0))
            self.pads[side][:] = center
            self.pads[side][1] = main[1] + sign * (width if held else rng.uniform(-0.01, 0.08))
        self.touch = self.task.touch is not None and rng.random() < 0.5
        self.gather(center)

    def gather(self, center: NDArray) -> None:
        """Fill ``world`` and ``obs`` as the engine would."""
        rng, obs, world = self.rng, self.obs, self.world
        obs[0:3], obs[3] = self.near(center), rng.uniform(-0.05, 1.0)
        for number, item in enumerate(self.task.objects):
            place = 4 + 7 * number
            obs[place : place + 3] = self.live[item.position] + item.offset
            if item.dial is not None:
                angle = self.live[item.dial].item()
                obs[place : place + 3] += np.array([np.sin(angle), -np.cos(angle), 0.0]) * 0.05
            unit = np.array((0.707, 0, 0, 0.707) if rng.random() < 0.5 else (1, 0, 0, 0))
            obs[place + 3 : place + 7] = unit + rng.normal(0, rng.choice((0.0, 0.1, 1.0)), 4)
        for places, arrays in ((PADS, self.pads), (TIPS, self.tips)):
            for side, place in places.items():
                world[place : place + 3] = arrays[side]
        world[at.TOUCH] = float(self.touch)
        for number, source in enumerate(self.task.reads):
            value = self.live[source]
            world[at.READ + 3 * number : at.READ + 3 * number + value.size] = value

    def ours(self, effort: np.float32) -> dict[str, float]:
        world, init, obs, out = (
            array.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
            for array in (self.world, self.init, self.obs, self.out)
        )
        compiled_reward(self.task.reward).ctypes(world, init, float(effort), obs, out)
        return dict(zip(at.OUT_NAMES, self.out.tolist()))


def compare(name: str, scenes: int, samples: int) -> Counter[str]:
    """Check a task; counts how often what happened, to see that the situations are worth the name."""
    rng, seen = np.random.default_rng(0), Counter[str]()
    for goal in goals(name, scenes):
        scene = Scene(TASKS[name], goal, rng)
        for _ in range(samples):
            scene.shuffle()
            action = np.array([0.0, 0.0, 0.0, rng.choice(EFFORTS)], np.float32)
            ours = scene.ours(action[3])
            try:
                reward, info = scene.env.evaluate_state(scene.obs.copy(), action)
            except ValueError:  # a negative margin or a factor outside [0, 1]
                assert any(np.isnan(value) for value in ours.values()), ours
                seen["refused"] += 1
                continue
            for key, stock in {**info, "reward": reward}.items():
                gap = abs(ours.get(key, ours["reward"]) - float(stock))
                assert gap <= (1e-12 if key in REWARDS else 0.0), (key, float(stock), ours)
            seen.update(key for key in ("success", "grasp_success") if info[key])
            seen.update(
                {
                    "full": int(reward == 10.0),
                    "float32": int(isinstance(reward, np.float32)),
                    "all": 1,
                }
            )
    return seen


@pytest.mark.parametrize("name", FAST)
def test_rewards_equal_stock_in_any_situation(name: str) -> None:
    seen = compare(name, scenes=2, samples=500)
    assert seen["all"] > 950
    assert min(seen["success"], seen["grasp_success"], seen["full"]) > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TASKS))
def test_rewards_equal_stock_in_any_situation_everywhere(name: str) -> None:
    assert compare(name, scenes=3, samples=1500)["all"] > 4000
