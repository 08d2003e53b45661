"""Recorded updates: a function of buffers alone, equal to the eager update, and refused where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError
from mtrl.agents.optim.graphs import Graph, in_place, record_by_call, uses_graphs
from mtrl.agents.seeds import Seeds
from mtrl.agents.state import difference
from mtrl.envs.make import make_vec
from tests.helpers import fakes
from tests.helpers.device import Watch, use_chip

CUDA = torch.device("cuda")
# A recorded pass reads its step size in float32, which holds this one exactly.
SETTINGS: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {
        "width": 8,
        "rollout_per_task": 20,
        "epochs": 3,
        "minibatches": 2,
        "precision": "fp32",
        "learning_rate": 2.0**-12,
        "schedule": "constant",
        "std_learning_rate": 2.0**-10,
    },
    MTSAC: {
        "width": 8,
        "learning_starts": 4,
        "batch_per_task": 4,
        "buffer_per_task": 64,
        "precision": "fp32",
    },
}


def _agent(kind: type[Agent], seed: int = 0, suite: str = "", **settings: Any) -> Any:
    make = make_vec if suite else fakes.make_vec
    env: Any = make(suite or "mt10:fake", 1 if suite else 2, seed=seed)
    device = settings.pop("device", "cpu")
    return kind(env, seed=seed, device=device, **SETTINGS[kind] | settings)


class Counted:
    """``record_by_call`` that counts its recordings."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, work: Callable[[], Any], state: Any) -> Callable[[], Any]:
        self.count += 1
        return record_by_call(work, state)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MTSAC, {}),
        (MTSAC, {"critic_aggregator": "cagrad", "network": "film"}),
        (MTSAC, {"critic_aggregator": "pcgrad:ema=0.5"}),
        (MTSAC, {"critic_aggregator": "famo"}),
        (MTSAC, {"curriculum": "success-focal"}),
        (MTSAC, {"suite": "mg3"}),
        (MTPPO, {}),
        (MTPPO, {"kl_stop": 1e-5, "aggregator": "pcgrad"}),
        (MTPPO, {"network": "moore", "aggregator": "smooth-tchebycheff"}),
        (MTPPO, {"suite": "mg3", "rollout_per_task": 32, "memory": "gru", "sequence": 8}),
    ],
)
def test_a_recorded_update_equals_the_eager_one(
    kind: type[Agent], settings: dict[str, Any]
) -> None:
    eager, recorded = _agent(kind, **settings), _agent(kind, **settings)
    recorder = Counted()
    recorded.record(recorder)
    for _ in range(2 if kind is MTPPO else 8):
        eager.advance()
        recorded.advance()
    assert eager.gradient_steps == recorded.gradient_steps > 1
    assert recorder.count >= 1
    assert difference(eager, recorded) is None
    assert eager.metrics() == recorded.metrics()


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
def test_one_recording_serves_all_updates(kind: type[Agent]) -> None:
    agent, recorder = _agent(kind), Counted()
    agent.record(recorder)
    for _ in range(3 if kind is MTPPO else 8):
        agent.advance()
    assert agent.gradient_steps > 4 and recorder.count == 1


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
def test_a_stacked_update_is_recorded_too(kind: type[Agent]) -> None:
    groups, recorder = [], Counted()
    for records in (False, True):
        agents = [_agent(kind, seed) for seed in (3, 1)]
        if records:
            agents[0].record(recorder)
        groups.append(Seeds(agents, stack=True))
    for _ in range(2 if kind is MTPPO else 6):
        assert [group.advance() for group in groups] == [{}, {}]
    assert recorder.count == 1
    for eager, recorded in zip(groups[0].agents, groups[1].agents, strict=True):
        assert difference(eager, recorded) is None


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
def test_a_recorded_update_never_leaves_its_device(
    kind: type[Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_chip(monkeypatch)
    with Watch() as watch:
        agent = _agent(kind, device="chip")
        inner: list[Any] = []

        def record(work: Callable[[], Any], state: Any) -> Callable[[], Any]:
            def replay() -> Any:
                with watch.part() as log:
                    out = work()
                inner.append(log)
                return out

            return replay

        agent.record(record)
        for _ in range(1 if kind is MTPPO else 5):
            agent.advance()
        assert len(inner) > 1
        for log in inner:
            assert not log.crossings
            assert log.operations == inner[0].operations


def test_what_a_recording_returns_follows_its_buffers() -> None:
    made: list[int] = []

    def function(state: Any, inputs: Any) -> Any:
        made.append(1)
        state["net"] = {"total": state["net"]["total"] + inputs["x"].sum()}
        return {"mean": inputs["x"].mean()}

    state = {"net": {"total": torch.zeros(())}}
    kept = state["net"]["total"]
    graph = Graph(function, record_by_call)
    assert graph(state, {"x": torch.ones(2)})["mean"] == 1
    assert graph(state, {"x": torch.full((2,), 3.0)})["mean"] == 3
    assert graph(state, {"x": torch.ones(4)})["mean"] == 1
    assert state["net"]["total"] is kept and kept == 12 and len(made) == 3
    other = {"net": {"total": torch.zeros(())}}
    graph(other, {"x": torch.ones(2)})
    assert kept == 12 and other["net"]["total"] == 2


def test_replaced_tensors_are_copied_where_they_were() -> None:
    state = {"a": {"x": torch.zeros(2)}, "b": {"y": torch.zeros(1)}}
    before = {net: dict(tensors) for net, tensors in state.items()}

    def function(state: Any, inputs: Any) -> str:
        state["a"]["x"] += 1
        state["b"] = {"y": state["b"]["y"] + 2}
        return "done"

    assert in_place(function, state, None) == "done"
    assert state["a"]["x"] is before["a"]["x"] and state["b"]["y"] is before["b"]["y"]
    assert state["a"]["x"].tolist() == [1, 1] and state["b"]["y"].tolist() == [2]


def test_auto_records_where_the_device_and_the_update_allow_it() -> None:
    cpu = torch.device("cpu")
    assert uses_graphs("auto", CUDA, None) and uses_graphs("on", CUDA, None)
    assert not uses_graphs("auto", CUDA, "it waits") and not uses_graphs("off", CUDA, None)
    assert not uses_graphs("auto", cpu, None)
    with pytest.raises(
        AgentError, match="graph: 'on' cannot record this update, since it waits"
    ):
        uses_graphs("on", CUDA, "it waits")


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
def test_graphs_are_refused_in_a_sentence(kind: type[Agent]) -> None:
    with pytest.raises(
        AgentError, match="graph: 'on' records CUDA graphs, and the device is cpu"
    ):
        _agent(kind, graph="on")
    with pytest.raises(AgentError, match="graph: 'yes' is unknown; use auto, on or off"):
        _agent(kind, graph="yes")
    assert _agent(kind, graph="off").graph_obstacle is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"heads": "separate"}, "every task has an update of its own"),
        ({"critic_aggregator": "pcgrad:every=2"}, "solves only every k-th update"),
        (
            {"curriculum": "camrl-shared"},
            "curriculum 'camrl-shared' couples the parameters of tasks",
        ),
    ],
)
def test_updates_that_cannot_be_recorded_say_why(settings: dict[str, Any], reason: str) -> None:
    obstacle = _agent(MTSAC, **settings).graph_obstacle
    assert obstacle is not None and reason in obstacle
