"""The engine against stock Meta-World, a few tasks of each family; the full sweep is marked slow."""

from __future__ import annotations

import pytest

from mtrl.envs.metaworld.native.tasks import TASKS
from tests.envs.metaworld.native.fidelity import POLICIES, check

# One task for each thing that can differ: touch flag, own caging, joint angle and visual geom, live pads, stale first
# observation, dial, two objects, a margin set after the first step.
FAST = (
    "push-v3",
    "pick-place-v3",
    "door-open-v3",
    "door-lock-v3",
    "window-close-v3",
    "dial-turn-v3",
    "stick-pull-v3",
    "bin-picking-v3",
    "plate-slide-v3",
)


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("name", FAST)
def test_engine_equals_stock(name: str, kind: str) -> None:
    found = check(name, kind, num_goals=2, steps=100, resets=1)
    assert found.exact, str(found)
    assert found.steps == 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("name", sorted(TASKS))
def test_engine_equals_stock_everywhere(name: str, kind: str) -> None:
    found = check(name, kind, num_goals=3, steps=500, resets=3)
    assert found.exact, str(found)
