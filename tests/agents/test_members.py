"""One network per task on the axis of seeds."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtrl.agents.data.replay import Batch
from mtrl.agents.members import group_rows, member, per_task, to_members


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_grouped_rows_find_their_way_back(tasks: list[int]) -> None:
    task_id = np.array(tasks)
    index, place = group_rows(task_id, 5)
    assert index.shape == (5, np.bincount(task_id).max())
    rows = np.arange(len(tasks)) * 10
    assert (rows[index].ravel()[place] == rows).all()
    owner = np.repeat(np.arange(5), index.shape[1])[place]
    assert (owner == task_id).all()


def test_batches_move_tasks_to_the_axis_of_seeds() -> None:
    batch = Batch(*(torch.arange(24.0).view(1, 3, 4, 2)[..., : 2 - i % 2] for i in range(5)))
    moved = to_members(batch)
    assert moved.obs.shape == (3, 1, 4, 2)
    assert torch.equal(moved.obs[2, 0], batch.obs[0, 2])


def test_members_are_views_and_metrics_become_per_task() -> None:
    state = {"actor": {"params": torch.zeros(3, 5), "step": torch.zeros(3)}}
    member(state, 1)["actor"]["params"] += 1
    assert state["actor"]["params"].sum(1).tolist() == [0, 5, 0]
    out = per_task({"a": torch.arange(3.0), "b": torch.arange(3.0).unsqueeze(1)})
    assert out["a"].shape == out["b"].shape == (1, 3)
