"""Vector steps, written one by one, as one task-major rollout."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtrl.agents.data.rollout import Memory, RolloutBuffer

TASKS, LENGTH, ENVS = 2, 3, 4


@pytest.mark.parametrize("action_dim", [None, 2])
def test_every_field_is_where_its_step_and_environment_put_it(action_dim: int | None) -> None:
    rng = np.random.default_rng(0)
    num = TASKS * ENVS
    buffer = RolloutBuffer((TASKS, LENGTH, ENVS), 5, action_dim, "uint8")
    steps, before = [], []
    for step in range(LENGTH):
        obs, next_obs = rng.integers(0, 256, (2, num, 5)).astype(np.uint8)
        action = (
            rng.integers(0, 7, num)
            if action_dim is None
            else rng.standard_normal((num, 2)).astype(np.float32)
        )
        reward, (terminated, done) = rng.standard_normal(num), rng.random((2, num)) < 0.5
        steps.append((obs, next_obs, action, reward, terminated, done))
        before.append(Memory(torch.from_numpy(done), torch.rand(num, 6)))
        buffer.add(step, *steps[-1], before=before[-1])
    rollout = buffer.rollout(torch.device("cpu"))
    assert rollout.action.dtype == (torch.int64 if action_dim is None else torch.float32)
    assert (
        rollout.obs.dtype == torch.uint8
        and rollout.done.dtype == rollout.reward.dtype == torch.float32
    )
    assert rollout.fresh is None and rollout.log_prob is None
    for step, (arrays, tensors) in enumerate(zip(steps, before, strict=True)):
        for field, value in zip(
            rollout, [*map(torch.from_numpy, arrays), *tensors], strict=False
        ):
            assert field is not None and field.is_contiguous()
            expected = value.to(field.dtype).view(TASKS, ENVS, *value.shape[1:])
            assert torch.equal(field[0, :, step], expected)


def test_nothing_is_remembered_without_memory() -> None:
    rollout = RolloutBuffer((TASKS, LENGTH, ENVS), 5, None, "float32").rollout(
        torch.device("cpu")
    )
    assert (
        rollout.start is None
        and rollout.memory is None
        and rollout.obs.shape == (1, TASKS, LENGTH, ENVS, 5)
    )


def test_a_step_that_is_reused_by_its_environment_is_kept() -> None:
    buffer = RolloutBuffer((1, 2, 1), 1, None, "float32")
    row = np.zeros((1, 1), np.float32)
    for step in range(2):
        row[:] = step
        flags = np.zeros(1, bool)
        buffer.add(step, row, row, np.zeros(1, np.int64), row[:, 0], flags, flags)
    assert buffer.rollout(torch.device("cpu")).obs.flatten().tolist() == [0.0, 1.0]
