"""Meta-World's multi-task suites: ``mt1:<task>``, ``mt10``, ``mt25``, ``mt50``, in the benchmark's own task order.

The id carries the reward version: plain ids mean V2, ``mt10-v1``, ``mt50-v1`` and ``mt1-v1:<task>`` the old rewards.
"""

from __future__ import annotations

from mtrl.envs.rendering import prepare_mujoco
from mtrl.envs.specs import Backend, Suite, TaskSpec

BACKENDS = {
    "native": Backend("mtrl.envs.metaworld.native.engine", reward_versions=("v2",)),
    "stock": Backend("mtrl.envs.metaworld.stock"),
}
prepare = prepare_mujoco  # which OpenGL mujoco uses is decided when it is imported
HORIZON = 500

SKILLS = {
    "assembly-v3": "pick up a wrench and put its ring over a peg",
    "basketball-v3": "pick up a basketball and drop it through a hoop",
    "bin-picking-v3": "move a cube from one bin to the other",
    "box-close-v3": "pick up a lid and close the box with it",
    "button-press-topdown-v3": "press a button from above",
    "button-press-topdown-wall-v3": "press a button from above, over a wall",
    "button-press-v3": "press a button from the front",
    "button-press-wall-v3": "press a button from the front, behind a wall",
    "coffee-button-v3": "press the button of the coffee machine",
    "coffee-pull-v3": "pull a mug away from the coffee machine",
    "coffee-push-v3": "push a mug under the coffee machine",
    "dial-turn-v3": "turn a dial half way round",
    "disassemble-v3": "lift a wrench off its peg",
    "door-close-v3": "close a door",
    "door-lock-v3": "lock a door by turning its lock down",
    "door-open-v3": "open a door by its handle",
    "door-unlock-v3": "unlock a door by turning its lock sideways",
    "hand-insert-v3": "put the gripper into a hole",
    "drawer-close-v3": "push a drawer shut",
    "drawer-open-v3": "pull a drawer open by its handle",
    "faucet-open-v3": "turn a faucet counter-clockwise",
    "faucet-close-v3": "turn a faucet clockwise",
    "hammer-v3": "pick up a hammer and drive a screw into the wall",
    "handle-press-side-v3": "press a handle down from the side",
    "handle-press-v3": "press a handle down",
    "handle-pull-side-v3": "pull a handle up from the side",
    "handle-pull-v3": "pull a handle up",
    "lever-pull-v3": "pull a lever up",
    "pick-place-wall-v3": "pick up a puck and carry it over a wall to the goal",
    "pick-out-of-hole-v3": "pick a puck out of a hole and lift it to the goal",
    "pick-place-v3": "pick up a puck and hold it at the goal",
    "plate-slide-v3": "slide a plate forward into a cabinet",
    "plate-slide-side-v3": "slide a plate sideways into a cabinet",
    "plate-slide-back-v3": "slide a plate back out of a cabinet",
    "plate-slide-back-side-v3": "slide a plate sideways out of a cabinet",
    "peg-insert-side-v3": "pick up a peg and insert it into a hole from the side",
    "peg-unplug-side-v3": "pull a peg out sideways",
    "soccer-v3": "push a ball into the goal",
    "stick-push-v3": "grasp a stick and push a bottle with it",
    "stick-pull-v3": "grasp a stick and pull a bottle with it",
    "push-v3": "push a puck to the goal",
    "push-wall-v3": "push a puck around a wall to the goal",
    "push-back-v3": "pull a puck back to the goal",
    "reach-v3": "move the gripper to the goal",
    "reach-wall-v3": "move the gripper past a wall to the goal",
    "shelf-place-v3": "pick up a puck and put it on a shelf",
    "sweep-into-v3": "sweep a puck into a hole",
    "sweep-v3": "sweep a puck off the table",
    "window-open-v3": "slide a window open",
    "window-close-v3": "slide a window shut",
}

# Reaching comes first, then pushing or pressing, then grasping, then using what is grasped; opening needs more than
# closing.
BUILDS_ON: dict[str, tuple[str, ...]] = {
    "push-v3": ("reach-v3",),
    "pick-place-v3": ("push-v3", "reach-v3"),
    "door-open-v3": ("reach-v3",),
    "drawer-close-v3": ("reach-v3",),
    "drawer-open-v3": ("drawer-close-v3",),
    "button-press-topdown-v3": ("reach-v3",),
    "peg-insert-side-v3": ("pick-place-v3",),
    "window-close-v3": ("reach-v3",),
    "window-open-v3": ("reach-v3",),
}

MT10 = (
    "reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "drawer-close-v3",
    "button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "window-close-v3",
)  # fmt: skip

MT25 = (
    *MT10, "coffee-pull-v3", "pick-out-of-hole-v3", "disassemble-v3", "pick-place-wall-v3", "basketball-v3",
    "stick-pull-v3", "button-press-wall-v3", "faucet-open-v3", "door-lock-v3", "lever-pull-v3", "sweep-into-v3",
    "faucet-close-v3", "coffee-button-v3", "button-press-topdown-wall-v3", "dial-turn-v3",
)  # fmt: skip

MT50 = tuple(SKILLS)


def _suite(suite_id: str, names: tuple[str, ...], reward_version: str) -> Suite:
    return Suite(
        id=suite_id,
        family="metaworld",
        tasks=tuple(
            TaskSpec(name, name, HORIZON, SKILLS[name], builds_on=BUILDS_ON.get(name, ()))
            for name in names
        ),
        reward_version=reward_version,
        success="any-step",
        goals="the benchmark's 50 goals a task for the goal seed",
    )


def _all_suites() -> dict[str, Suite]:
    suites = {}
    for version, suffix in (("v2", ""), ("v1", "-v1")):
        for name, tasks in (("mt10", MT10), ("mt25", MT25), ("mt50", MT50)):
            suites[name + suffix] = _suite(name + suffix, tasks, version)
        for task in MT50:
            suites[f"mt1{suffix}:{task}"] = _suite(f"mt1{suffix}:{task}", (task,), version)
    return suites


SUITES = _all_suites()
