"""Draws by priorities: the sum tree, weights, both agents, and training on from a saved state."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtrl.agents import MTPPO, MTSAC, AgentError
from mtrl.agents.data.priorities import Prioritised, SumTree, Uniform
from mtrl.agents.data.replay import ReplayBuffer
from mtrl.agents.files import read_state, write_state
from mtrl.agents.ppo.minibatches import Draw, by_priority
from mtrl.agents.sac.values import CategoricalValue, Scalar
from mtrl.agents.state import clone, difference, restore, to_dict
from tests.agents.ppo.test_agent import DiscreteEnv
from tests.helpers import fakes

CPU = torch.device("cpu")
TASKS = 2


def _tree(capacity: int, size: int, seed: int = 0) -> SumTree:
    tree = SumTree(TASKS, capacity, CPU, seed)
    tree.add(torch.arange(size))
    return tree


def _random(tree: SumTree, size: int, seed: int) -> torch.Tensor:
    """Give all transitions priorities of their own; returned ``[T, size]``."""
    generator = torch.Generator().manual_seed(seed)
    priority = torch.rand(TASKS, size, generator=generator, dtype=torch.float64) + 0.01
    tree.update(torch.arange(size).expand(TASKS, -1), priority)
    return priority


@settings(max_examples=50, deadline=None)
@given(
    capacity=st.integers(1, 40),
    steps=st.lists(st.integers(1, 7), min_size=1, max_size=12),
    seed=st.integers(0, 10_000),
)
def test_every_node_is_the_sum_of_its_parts(capacity: int, steps: list[int], seed: int) -> None:
    """Whatever is added around the ring and updated, with repetitions, a tree made anew has the same bits."""
    generator = torch.Generator().manual_seed(seed)
    tree = SumTree(TASKS, capacity, CPU, seed)
    position = size = 0
    for step in steps:
        count = min(step, capacity)
        tree.add((position + torch.arange(count)) % capacity)
        position, size = (position + count) % capacity, min(size + count, capacity)
        index = torch.randint(size, (TASKS, step), generator=generator)
        priority = torch.rand(TASKS, step, generator=generator, dtype=torch.float64) + 1e-3
        tree.update(index, priority)
    assert (tree._leaves[:, :size] > 0).all()
    assert (tree._leaves[:, size:] == 0).all()
    torch.testing.assert_close(tree.total, tree._leaves.sum(1))
    again = SumTree(TASKS, capacity, CPU, seed + 1)
    restore(again, to_dict(tree))
    assert torch.equal(again._nodes, tree._nodes)
    drawn = [
        each.draw(
            torch.randint(size, (TASKS, 9), generator=torch.Generator().manual_seed(1)), 0.5
        )
        for each in (tree, again)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*drawn))


def test_of_two_priorities_of_one_transition_the_larger_counts() -> None:
    tree = _tree(4, 3)
    priority = torch.tensor([[0.2, 0.7, 0.4], [0.9, 0.1, 0.3]], dtype=torch.float64)
    tree.update(torch.tensor([[1, 1, 2], [0, 0, 0]]), priority)
    assert tree._leaves[0].tolist() == [1.0, 0.7, 0.4, 0.0]
    assert tree._leaves[1].tolist() == [0.9, 1.0, 1.0, 0.0]


def test_transitions_are_drawn_in_proportion_to_their_priorities() -> None:
    """Within six standard deviations of a binomial count, for each task."""
    size, draws = 13, 40_000
    tree = _tree(16, size)
    priority = _random(tree, size, 3)
    uniform = torch.randint(size, (TASKS, draws), generator=torch.Generator().manual_seed(5))
    index, weight = tree.draw(uniform, 1.0)
    for task in range(TASKS):
        chance = priority[task] / priority[task].sum()
        counts = torch.bincount(index[task], minlength=size)
        spread = (draws * chance * (1 - chance)).sqrt()
        assert ((counts - draws * chance).abs() < 6 * spread).all()
        expected = (size * chance[index[task]]) ** -1.0
        torch.testing.assert_close(weight[task], (expected / expected.max()).float())


def test_with_weights_to_the_power_of_one_means_are_those_of_uniform_draws() -> None:
    size, draws = 9, 60_000
    tree = _tree(16, size)
    _random(tree, size, 4)
    values = torch.arange(float(size))
    uniform = torch.randint(size, (TASKS, draws), generator=torch.Generator().manual_seed(5))
    index, weight = tree.draw(uniform, 1.0)
    means = (weight * values[index]).sum(1) / weight.sum(1)
    torch.testing.assert_close(means, torch.full((TASKS,), 4.0), rtol=0.02, atol=0.0)


def test_a_draw_never_meets_what_is_not_filled() -> None:
    """Also where rounding leaves the end of the sum a little too far."""
    tree = _tree(64, 5)
    tree._nodes[:, 1] *= 1 + 1e-9
    index, _ = tree.draw(torch.full((TASKS, 1000), 4), 0.4)
    assert index.max() < 5


@pytest.mark.parametrize("size", [1, 7, 49, 64])
def test_equal_priorities_are_the_uniform_draw(size: int) -> None:
    tree = _tree(64, size)
    uniform = torch.randint(size, (TASKS, 50), generator=torch.Generator().manual_seed(2))
    index, weight = tree.draw(uniform, 0.7)
    assert torch.equal(index, uniform)
    assert torch.equal(weight, torch.ones(TASKS, 50))


def test_new_transitions_get_the_largest_priority_of_their_task() -> None:
    tree = _tree(8, 2)
    tree.update(torch.tensor([[0], [1]]), torch.tensor([[5.0], [0.5]], dtype=torch.float64))
    tree.add(torch.tensor([2]))
    assert tree._leaves[:, 2].tolist() == [5.0, 1.0]
    tree.update(torch.tensor([[2]]), torch.tensor([[9.0]], dtype=torch.float64), task=1)
    assert tree._leaves[:, 2].tolist() == [5.0, 9.0]


def test_one_tasks_draw_looks_at_its_own_priorities() -> None:
    tree = _tree(4, 4)
    tree.update(torch.tensor([[0, 1, 2]]), torch.full((1, 3), 1e-12).double(), task=1)
    index, _ = tree.draw(torch.arange(4).view(1, 4), 0.4, task=1)
    assert index.tolist() == [[3, 3, 3, 3]]
    index, _ = tree.draw(torch.arange(4).view(1, 4), 0.4, task=0)
    assert index.tolist() == [[0, 1, 2, 3]]


def test_a_copy_shares_nothing_with_its_tree() -> None:
    tree = _tree(4, 3)
    other = clone(tree)
    _random(other, 3, 0)
    assert tree.total.tolist() == [3.0, 3.0]
    assert other.total.tolist() == other._leaves.sum(1).tolist()


def test_the_buffer_follows_its_tree() -> None:
    tree = SumTree(TASKS, 8, CPU, 1)
    buffer = ReplayBuffer(TASKS, 8, 3, 2, CPU, 0, tree)
    number = torch.arange(6.0).expand(TASKS, -1)
    wide = number.unsqueeze(-1)
    for start in (0, 3):
        part = slice(start, start + 3)
        columns = (wide[:, part].expand(-1, -1, 3), wide[:, part].expand(-1, -1, 2))
        buffer.add(*columns, number[:, part], number[:, part] * 0, columns[0])
    tiny = torch.full((TASKS, 6), 1e-12, dtype=torch.float64)
    tiny[0, 4] = tiny[1, 2] = 1.0
    buffer.prioritise(torch.arange(6).expand(TASKS, -1), tiny)
    batch = buffer.sample(5, beta=1.0)
    assert batch.places is not None and batch.weight is not None
    assert batch.reward.tolist() == [[[4.0] * 5, [2.0] * 5]]
    assert torch.equal(batch.places, batch.reward.long())
    assert batch.weight.tolist() == [[[1.0] * 5] * TASKS]


def test_priorities_and_weights_by_hand() -> None:
    rule = Prioritised(a=0.5, start=0.5, end=1.0, eps=1.0)
    error = torch.tensor([3.0, -8.0])
    assert rule.priority(error).tolist() == [2.0, 3.0]
    assert [rule.beta(share) for share in (0.0, 0.5, 1.0)] == [0.5, 0.75, 1.0]
    assert rule.anneals and not Prioritised(start=1.0).anneals and not Uniform().anneals


def test_the_error_is_the_larger_of_both_critics() -> None:
    values = torch.tensor([[[[1.0, 5.0]], [[4.0, 2.0]]]])
    assert Scalar().error(values, torch.tensor([[[2.0, 3.0]]])).tolist() == [[[2.0, 2.0]]]
    atoms = CategoricalValue(atoms=3, low=0, high=4)
    target = torch.tensor([[[[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]]])
    assert atoms.error(values, target).tolist() == [[[3.0, 2.0]]]


def _minibatches(priority: torch.Tensor, sequence: int, beta: float) -> list[Any]:
    """A pass of four minibatches over 12 samples of 2 tasks."""
    generator = torch.Generator().manual_seed(0)
    units = priority.shape[-1]
    order = torch.rand(1, TASKS, units, generator=generator).argsort(-1)
    made = []
    for first in order.tensor_split(4, -1):
        rows = (first.unsqueeze(-1) * sequence + torch.arange(sequence)).flatten(2)
        draw = Draw(rows, within=torch.rand(first.shape, generator=generator))
        made.append((draw, by_priority(draw, priority, beta, sequence)))
    return made


@pytest.mark.parametrize("sequence", [1, 3])
def test_a_pass_with_equal_priorities_is_the_uniform_one(sequence: int) -> None:
    priority = torch.full((1, TASKS, 12 // sequence), 0.3, dtype=torch.float64)
    for draw, (rows, weight) in _minibatches(priority, sequence, 0.7):
        assert torch.equal(rows, draw.rows)
        assert torch.equal(weight, torch.ones_like(weight))


def test_a_pass_draws_each_sample_as_often_as_its_priority_says() -> None:
    """Of n parts of the sum, a sample covers n P, of which the first and the last only in part."""
    priority = torch.ones(1, TASKS, 12, dtype=torch.float64)
    priority[:, 0, 2], priority[:, 1, 5] = 12.0, 6.0
    made = _minibatches(priority, 1, 1.0)
    rows = torch.cat([rows for _, (rows, _) in made], -1)
    weights = torch.cat([weight for _, (_, weight) in made], -1)
    for task in range(TASKS):
        expected = 12 * priority[0, task] / priority[0, task].sum()
        counts = torch.bincount(rows[0, task], minlength=12)
        assert ((counts - expected).abs() < 2).all()
        torch.testing.assert_close(
            weights[0, task], (1 / priority[0, task, rows[0, task]]).float()
        )


SETTINGS: dict[type, dict[str, Any]] = {
    MTPPO: {"width": 8, "rollout_per_task": 40, "epochs": 2, "minibatches": 2},
    MTSAC: {"width": 8, "depth": 2, "learning_starts": 8, "batch_per_task": 8},
}


def _agent(kind: type, discrete: bool = False, **values: Any) -> Any:
    env = (
        DiscreteEnv()
        if discrete
        else fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 1, "random", 0, 0.0)
    )
    return kind(env, seed=1, device="cpu", **SETTINGS[kind] | values)


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
@pytest.mark.parametrize("heads", ["multi-head", "separate"])
def test_with_a_of_zero_an_agent_learns_what_it_learns_uniformly(
    kind: type, heads: str
) -> None:
    plain = _agent(kind, heads=heads).learn(300)
    flat = _agent(kind, heads=heads, replay="prioritised:a=0").learn(300)
    steep = _agent(kind, heads=heads, replay="prioritised:a=1").learn(300)
    assert flat.gradient_steps == plain.gradient_steps > 2
    assert difference(flat.state, plain.state) is None
    assert flat.metrics() == plain.metrics()
    assert difference(steep.state["critic"], plain.state["critic"]) is not None


def test_a_coupled_round_has_priorities_too() -> None:
    """CAMRL's tasks take their turns, each with a batch of its own."""
    values = {"curriculum": "camrl:round_steps=10,warmup=0,switch=false", "heads": "separate"}
    plain = _agent(MTSAC, **values).learn(300)
    flat = _agent(MTSAC, replay="prioritised:a=0", **values).learn(300)
    steep = _agent(MTSAC, replay="prioritised", **values).learn(300)
    assert difference(flat.state, plain.state) is None
    assert len(steep._buffer._priorities._leaves.unique()) > 10


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (MTPPO, {}),
        (MTPPO, {"precision": "bf16", "aggregator": "pcgrad"}),
        (MTSAC, {"precision": "bf16"}),
        (MTSAC, {"discrete": True, "buffer_per_task": 20, "sample_weighting": "rmtl"}),
        (MTSAC, {"value": "categorical:atoms=11"}),
    ],
)
def test_a_restored_agent_continues_bit_for_bit(
    kind: type, values: dict[str, Any], tmp_path: Path
) -> None:
    values = {"replay": "prioritised"} | values
    agent, other = _agent(kind, **values), _agent(kind, **values)
    agent.begin(2000)
    other.begin(2000)
    for _ in range(3 if kind is MTPPO else 40):
        agent.advance()
    write_state(tmp_path / "state", agent.state_dict())
    saved, env = read_state(tmp_path / "state"), copy.deepcopy(agent.env.state_dict())
    other.env.load_state_dict(env)
    other.load_state_dict(saved)
    if kind is MTSAC:
        assert torch.equal(other._buffer._priorities._nodes, agent._buffer._priorities._nodes)
        assert len(agent._buffer._priorities._leaves.unique()) > 10
    for each in (agent, other):
        for _ in range(3):
            each.advance()
    assert difference(agent.state_dict(), other.state_dict()) is None


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_weights_follow_the_planned_total(kind: type) -> None:
    assert _agent(kind, replay="prioritised").follows_total
    constant = {"replay": "prioritised:start=1", "schedule": "constant"}
    if kind is MTSAC:
        del constant["schedule"]
    assert not _agent(kind, **constant).follows_total


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prioritised:a=-1", "replay.a: .*-1.* is not a number of at least 0"),
        ("prioritised:eps=0", "replay.eps: .*0.* is not a number above 0"),
        ("prioritised:start=0.5,end=0.4", "end: 0.4 is below start, which is 0.5"),
        ("prioritized", "replay: 'prioritized' is unknown; did you mean 'prioritised'"),
    ],
)
def test_bad_settings_are_refused(text: str, message: str) -> None:
    with pytest.raises(AgentError, match=message):
        _agent(MTSAC, replay=text)
