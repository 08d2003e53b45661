from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.agents.data.replay import Batch, ByteReplay, ReplayBuffer
from mtrl.agents.state import difference, restore, to_dict


def _fill(buffer: ReplayBuffer, count: int, tasks: int, envs: int, start: int = 0) -> None:
    """Transition n of task t carries the number 1000 t + n in every field."""
    for n in range(start, start + count, envs):
        value = 1000 * torch.arange(tasks).unsqueeze(1) + n + torch.arange(envs)
        wide = value.unsqueeze(-1).float()
        buffer.add(
            wide.expand(-1, -1, 3),
            wide.expand(-1, -1, 2),
            value,
            value % 2,
            wide.expand(-1, -1, 3),
        )


def _buffer(capacity: int, tasks: int = 2) -> ReplayBuffer:
    return ReplayBuffer(tasks, capacity, 3, 2, torch.device("cpu"), seed=0)


@given(capacity=st.integers(2, 20), envs=st.integers(1, 2), count=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_samples_come_from_their_task_and_from_the_newest_transitions(
    capacity: int, envs: int, count: int
) -> None:
    buffer = _buffer(capacity)
    count = -(-count // envs) * envs
    _fill(buffer, count, 2, envs)
    assert len(buffer) == min(capacity, count)
    batch = buffer.sample(64)
    assert batch.obs.shape == (1, 2, 64, 3) and batch.reward.shape == (1, 2, 64)
    number = batch.reward[0] - 1000 * torch.arange(2).unsqueeze(1)
    assert number.max() < count and number.min() >= max(0, count - capacity)
    for field in (batch.obs, batch.action, batch.next_obs):
        assert torch.equal(field[..., 0], batch.reward)
    assert torch.equal(batch.terminated, batch.reward % 2)


def test_each_task_draws_its_own_times() -> None:
    buffer = _buffer(100)
    _fill(buffer, 100, 2, 1)
    reward = buffer.sample(64).reward[0]
    assert not torch.equal(reward[0], reward[1] - 1000)


def test_every_transition_is_drawn_about_equally_often() -> None:
    buffer = _buffer(10)
    _fill(buffer, 10, 2, 1)
    counts = torch.bincount(buffer.sample(20_000).reward[0, 0].long(), minlength=10)
    assert (counts - 2000).abs().max() < 250  # six standard deviations of a binomial count


def test_a_restored_buffer_continues_with_the_same_samples() -> None:
    buffer, other = _buffer(8), _buffer(8)
    _fill(buffer, 11, 2, 1)
    buffer.sample(4)
    restore(other, to_dict(buffer))
    for _ in range(3):
        _fill(buffer, 2, 2, 1, start=20)
        _fill(other, 2, 2, 1, start=20)
        assert difference(buffer.sample(16), other.sample(16)) is None


def test_a_million_transitions_fit_in_half_a_gigabyte() -> None:
    row_bytes = 4 * sum(
        part.shape[-1] if part.dim() == 4 else 1 for part in _sample_of_meta_world()[:5]
    )
    assert row_bytes * 1_000_000 < 500e6


def _sample_of_meta_world() -> Batch:
    buffer = ReplayBuffer(1, 2, 39, 4, torch.device("cpu"), 0)
    buffer.add(*(torch.zeros(1, 1, *shape) for shape in [(39,), (4,), (), (), (39,)]))
    return buffer.sample(1)


def test_byte_replay_gives_back_bytes_and_exact_rewards() -> None:
    buffer = ByteReplay(2, 4, 3, 1, torch.device("cpu"), seed=0)
    obs = torch.arange(12, dtype=torch.uint8).view(2, 2, 3)
    reward = torch.tensor([[0.1, -1e-30], [3e38, 0.9550000429153442]])
    action, ended = torch.tensor([[6, 0], [3, 255]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    buffer.add(obs, action, reward, ended, obs + 100)
    batch = buffer.sample(64)
    assert batch.obs.dtype == batch.next_obs.dtype == batch.action.dtype == torch.uint8
    assert torch.equal(batch.next_obs, batch.obs + 100)
    for task in range(2):
        index = (batch.obs[0, task, :, 0].int() - 6 * task) // 3
        assert torch.equal(batch.reward[0, task], reward[task, index])
        assert torch.equal(batch.action[0, task].long(), action[task, index])
        assert torch.equal(batch.terminated[0, task], ended[task, index])
    again = ByteReplay(2, 4, 3, 1, torch.device("cpu"), seed=1)
    restore(again, to_dict(buffer))
    assert torch.equal(again.sample(8).reward, buffer.sample(8).reward)
