"""State as a tree: what is saved comes back, what does not fit is named, and nothing of an agent stands outside it."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError
from mtrl.agents.aggregators import AGGREGATORS
from mtrl.agents.curricula import CURRICULA
from mtrl.agents.data.replay import ReplayBuffer
from mtrl.agents.files import read_state, write_state
from mtrl.agents.state import (
    Mark,
    Saved,
    clone,
    difference,
    join_state,
    map_tensors,
    per_seed,
    restore,
    split_state,
    stack,
    to_dict,
    unstack,
)
from tests.helpers import fakes


class Pair(NamedTuple):
    first: Tensor
    second: Tensor | None = None


@dataclasses.dataclass(eq=False)
class Part:
    values: dict[str, Any]
    numbers: list[int]
    array: NDArray[np.float64]
    maybe: NDArray[np.float64] | None
    pair: Pair


@dataclasses.dataclass(eq=False)
class Whole:
    _part: Part
    stream: torch.Generator
    count: int
    label: Annotated[str, Mark("name")]
    later: Pair | None
    shown: Annotated[dict[str, Tensor], Mark(varying=True)]
    data: Annotated[Tensor | None, Mark(experience=True)] = None

    def derive(self) -> None:
        self.doubled = 2 * self.count


DTYPES = (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    bits = torch.randint(0, 200, shape, generator=generator)
    return bits.to(draw(st.sampled_from(DTYPES)))


@st.composite
def wholes(draw: st.DrawFn) -> Whole:
    names = st.sampled_from(["a", "b", "c.d"])
    inner = st.dictionaries(names, tensors() | st.integers() | st.floats(allow_nan=False))
    pairs = st.builds(Pair, tensors(), st.none() | tensors())
    array = np.array(draw(st.lists(st.floats(), max_size=4)), np.float64)
    part = Part(
        draw(st.dictionaries(names, inner)),
        draw(st.lists(st.integers(), max_size=3)),
        array,
        draw(st.sampled_from([None, array])),
        draw(pairs),
    )
    return Whole(
        part,
        torch.Generator().manual_seed(draw(st.integers(0, 99))),
        draw(st.integers()),
        draw(st.text(max_size=3)),
        draw(st.none() | pairs),
        draw(st.dictionaries(names, tensors())),
        draw(st.none() | tensors()),
    )


def _through_a_file(tree: Any) -> Saved:
    flat, values = split_state(to_dict(tree))
    assert not any(isinstance(value, dict) for value in values.values())
    return join_state(flat, json.loads(json.dumps(values)))


def _fresh(whole: Whole) -> Whole:
    """Another state that ``whole`` can be loaded into."""
    other = map_tensors(torch.zeros_like, clone(whole))
    other.stream.manual_seed(12345)
    other.count, other.label = 7, "other"
    other.later, other.shown, other._part.maybe = None, {"other": torch.ones(2)}, None
    other._part.array[:] = 0
    return other


@given(wholes())
def test_what_is_saved_comes_back_to_the_bit(whole: Whole) -> None:
    other = _fresh(whole)
    part, stream, saved = other._part, other.stream, _through_a_file(whole)
    assert restore(other, saved) is other
    assert difference(other, whole) is None and other.doubled == 2 * whole.count
    assert other._part is part and other.stream is stream
    assert isinstance(other.later, Pair | None) and isinstance(other._part.pair, Pair)
    assert other._part.maybe is None or isinstance(other._part.maybe, np.ndarray)


@given(wholes())
def test_a_copy_shares_nothing(whole: Whole) -> None:
    copied = clone(whole)
    assert difference(copied, whole) is None
    before = copied.stream.get_state()
    whole.stream.manual_seed(54321)
    whole._part.array += 1
    whole._part.pair.first.zero_()
    whole._part.numbers.append(1)
    assert torch.equal(copied.stream.get_state(), before)
    assert len(copied._part.numbers) == len(whole._part.numbers) - 1
    assert not np.shares_memory(copied._part.array, whole._part.array)


def test_without_experience_it_is_neither_saved_nor_touched() -> None:
    whole = Whole(
        Part({}, [], np.zeros(1), None, Pair(torch.ones(1))), torch.Generator(), 1, "", None, {}
    )
    whole.data = torch.ones(3)
    saved = to_dict(whole, experience=False)
    assert "data" not in saved and saved["name"] == "" and saved["part"]["numbers"] == []
    assert restore(whole, saved).data is whole.data and whole.data is not None


@given(st.lists(tensors(), min_size=1, max_size=3), st.integers(1, 3))
def test_stacked_trees_come_apart_again(leaves: list[Tensor], seeds: int) -> None:
    trees = []
    for seed in range(seeds):
        own = [torch.full_like(leaf, seed % 2) for leaf in leaves]
        named = {str(i): leaf.unsqueeze(0) for i, leaf in enumerate(own)}
        trees.append({"net": named, "step": {"scalar": torch.tensor(float(seed))}})
    joint = stack(trees)
    assert joint["step"]["scalar"].tolist() == list(range(seeds))
    assert all(leaf.shape[0] == seeds for leaf in joint["net"].values())
    for apart, tree in zip(unstack(joint, trees), trees, strict=True):
        assert difference(apart, tree) is None
    own_first = per_seed(joint["net"], seeds)[0]
    own_first["0"].fill_(1)
    assert (joint["net"]["0"][0] == 1).all()  # views


def test_what_cannot_be_stacked_is_refused() -> None:
    with pytest.raises(AgentError, match="different names"):
        stack([{"a": torch.zeros(1)}, {"b": torch.zeros(1)}])
    with pytest.raises(AgentError, match="1 and 2 cannot be stacked"):
        stack([{"a": 1}, {"a": 2}])
    assert stack([Pair(torch.zeros(1, 2))] * 2).second is None


def _small() -> dict[str, Any]:
    return {"net": {"params": torch.zeros(2, 3), "step": 1}, "rng": torch.Generator()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"net": {"params": torch.zeros(2, 3)}}, "net/step: missing from the saved state"),
        ({"more": 1}, "more: saved, but unknown here"),
        ({"net": 3}, "net: one value is saved where several belong"),
        (
            {"net": {"params": torch.zeros(3, 2), "step": 1}},
            "net/params: the saved shape (3, 2) is not (2, 3)",
        ),
        (
            {"net": {"params": torch.zeros(2, 3).double(), "step": 1}},
            "net/params: the saved type torch.float64 is not torch.float32",
        ),
        ({"net": {"params": 1.5, "step": 1}}, "net/params: the saved float is no tensor"),
        (
            {"net": {"params": torch.zeros(2, 3), "step": "x"}},
            "net/step: the saved str is no int",
        ),
        ({"rng": torch.zeros(3)}, "rng: the saved shape (3,) is not (5056,)"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(change: Saved, words: str) -> None:
    tree = _small()
    saved = to_dict(clone(tree)) | {"net": {"params": torch.ones(2, 3), "step": 2}} | change
    saved["rng"] = change.get("rng", torch.Generator().manual_seed(9).get_state())
    before = clone(tree)
    with pytest.raises(AgentError) as caught:
        restore(tree, saved)
    assert str(caught.value) == words
    assert difference(tree, before) is None


def test_the_first_difference_is_named() -> None:
    one = {"a": {"b": torch.tensor([0.0, torch.nan, 2.0])}, "c": 1}
    assert difference(one, clone(one)) is None
    other = clone(one)
    other["a"]["b"][0] = -0.0
    assert difference(one, other) == "a/b: 1 of 3 numbers differ, the first at 0"
    assert difference(one, one | {"c": 2}) == "c: 1 is not 2"
    assert difference(one, {"c": 1}) == "a/b: only in the first"
    assert difference({"c": 1}, one) == "a/b: only in the second"
    assert difference({"a": torch.zeros(2)}, {"a": torch.zeros(2).int()}) is not None


def _buffer(capacity: int) -> ReplayBuffer:
    return ReplayBuffer(2, capacity, 1, 1, torch.device("cpu"), 0)


def test_only_the_filled_part_of_a_buffer_is_saved_and_it_must_fit() -> None:
    full, larger = _buffer(4), _buffer(9)
    row = torch.arange(6.0).view(2, 3)
    full.add(row.unsqueeze(-1), row, row, row, row.unsqueeze(-1))
    saved = _through_a_file(full)
    assert saved["rows"].shape == (2, 3, 5)
    assert difference(restore(larger, saved), full) is None
    with pytest.raises(
        AgentError, match=r"rows: the saved shape \(2, 3, 5\) is not \(2, 2, 5\)"
    ):
        restore(_buffer(2), saved)


# Everything of the suite goes through these functions

SMALL = {
    MTPPO: {"width": 8, "depth": 1, "rollout_per_task": 40, "epochs": 1, "minibatches": 2},
    MTSAC: {
        "width": 8,
        "depth": 1,
        "batch_per_task": 4,
        "buffer_per_task": 60,
        "learning_starts": 10,
    },
}


def _agent(kind: type[Agent], **settings: Any) -> Agent:
    env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 0, "random", 0, 0.0)
    return kind(env, device="cpu", **SMALL[kind] | settings)


def _continues(file: Path, agent: Agent, other: Agent, times: int) -> None:
    for _ in range(times):
        agent.advance()
    other.env.load_state_dict(agent.env.state_dict())
    write_state(file, agent.state_dict())
    other.load_state_dict(read_state(file))
    assert difference(agent, other) is None
    for each in (agent, other):
        for _ in range(times):
            each.advance()
    assert difference(agent, other) is None


# Tasks pause only where rollouts are collected.
FITTING = [
    (name, kind)
    for name in sorted(CURRICULA)
    for kind in (MTPPO, MTSAC)
    if kind is MTPPO or not CURRICULA[name]().info.paces
]


@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_every_curriculum_goes_on_from_what_is_saved(
    name: str, kind: type[Agent], tmp_path: Path
) -> None:
    info = CURRICULA[name]().info
    heads = "multi-head" if "multi-head" in info.heads else "separate"
    chosen = f"{name}:round_steps=8" if kind is MTSAC else name
    agents = [_agent(kind, curriculum=chosen, heads=heads) for _ in range(2)]
    _continues(tmp_path / "state", *agents, times=3 if kind is MTPPO else 30)


@pytest.mark.parametrize("name", sorted(AGGREGATORS))
def test_every_aggregator_goes_on_from_what_is_saved(name: str, tmp_path: Path) -> None:
    agents = [_agent(MTPPO, critic_aggregator=name) for _ in range(2)]
    _continues(tmp_path / "state", *agents, times=1)


def test_tensors_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    one = torch.arange(6.0)
    state = {"whole": one, "part": one[2:4], "none": torch.zeros(0), "more": torch.zeros(0)}
    write_state(tmp_path / "state", state)
    assert difference(read_state(tmp_path / "state"), state) is None


def test_a_failed_load_leaves_the_agent_as_it_was() -> None:
    agent, wide = _agent(MTSAC), _agent(MTSAC, width=9)
    for each in (agent, wide):
        each.advance()
    before = clone(to_dict(agent))
    with pytest.raises(AgentError, match=r"^networks/actor/params: the saved shape"):
        agent.load_state_dict(wide.state_dict())
    assert difference(to_dict(agent), before) is None


def test_no_part_of_an_agent_saves_itself() -> None:
    root = Path(fakes.__file__).parents[2] / "agents"
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name in (
                "state_dict",
                "load_state_dict",
            ):
                found.add(path.name)
    assert found == {"agent.py", "scheduled.py"}
