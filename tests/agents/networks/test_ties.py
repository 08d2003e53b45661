"""Parameters that actor and critic have in common: one value, one optimizer, fed by the losses that are declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError
from mtrl.agents.files import read_state, write_state
from mtrl.agents.networks.bodies.body import Body, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.linear import scale_rows
from mtrl.agents.networks.parameters import Parameter, uniform
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.networks.ties import Ties
from mtrl.agents.optim.adam import AdamSettings
from mtrl.agents.seeds import Seeds
from mtrl.agents.settings import Entry, settings
from mtrl.agents.state import split_state
from tests.agents.ppo.test_agent import DiscreteEnv
from tests.helpers import fakes

SHORT: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {"width": 16, "rollout_per_task": 40, "epochs": 2, "minibatches": 2},
    MTSAC: {"width": 16, "learning_starts": 8, "batch_per_task": 8, "buffer_per_task": 64},
}
CODE, SCALE = "body.code", "body.scale"


@settings
class Tied(Body):
    """Hidden layers scaled by a code of each task that both networks train, and by what the critic alone trains."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        one = (size.width,)
        return hidden_parameters(size) | {
            "code": Parameter(one, uniform(1.0), "owned", tied="both"),
            "scale": Parameter(one, 1.0, "shared", tied="critic"),
        }

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        hidden = hidden_layers(p, x, step.size)
        return scale_rows(scale_rows(hidden, p["scale"].float()), p["code"].float())


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("tests.agents.networks.test_ties:Tied", "Ties two parameters.")
    monkeypatch.setitem(NETWORKS.entries, "tied", entry)


def _agent(kind: type[Agent], seed: int = 1, **settings: Any) -> Any:
    env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, seed, "random", 0, 0.0)
    values = SHORT[kind] | {"network": "tied", "precision": "fp32"} | settings
    return kind(env, seed=seed, device="cpu", **values)


def _named(agent: Any, role: str) -> dict[str, Tensor]:
    """Parameters ``[K, G, ...]`` of a network by name."""
    network = getattr(agent, role)
    params = agent.state[role]["params"]
    named: dict[str, Tensor] = network.views(
        params.view(-1, params.shape[-1]), torch.float32
    ).named
    return named


def _common(ties: Ties, role: str, flat: Tensor) -> Tensor:
    """The tied values of a network's flat tensor."""
    return torch.cat([flat[..., place] for place in ties.places[role]], -1)


def _advance(agent: Any) -> None:
    for _ in range(10 if isinstance(agent, MTSAC) else 2):
        agent.advance()


CASES: list[dict[str, Any]] = [{}, {"aggregator": "cagrad"}, {"heads": "separate"}]


@pytest.mark.parametrize("settings", CASES)
@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_all_copies_stay_equal_and_move(kind: type[Agent], settings: dict[str, Any]) -> None:
    agent = _agent(kind, **settings)
    first = {name: _named(agent, "critic")[name].clone() for name in (CODE, SCALE)}
    _advance(agent)
    for name, before in first.items():
        actor, critic = (_named(agent, role)[name] for role in ("actor", "critic"))
        twins = len(critic) // len(actor)
        assert torch.equal(critic, actor.repeat_interleave(twins, 0))
        assert (critic != before).any()
    others = [_named(agent, "critic")["body.0.weight"]]
    assert not torch.equal(others[0][:1], _named(agent, "actor")["body.0.weight"][:1])


def test_the_common_value_is_stepped_by_the_sum_of_the_gradients_that_feed_it() -> None:
    agent = _agent(MTSAC)
    ties, state = agent.settings.ties, agent.state
    assert isinstance(ties, Ties)
    before = {role: state[role]["params"].clone() for role in ("actor", "critic")}
    grads = {role: torch.randn(params.shape) for role, params in before.items()}
    # The actor's losses do not train what only the critic's do.
    grads["actor"][:, agent.actor.layout.places[SCALE]] = 0
    wanted = _common(ties, "critic", grads["critic"].sum(1)) + _common(
        ties, "actor", grads["actor"]
    )
    for role, grad in grads.items():
        ties.collect(state, role, grad)
        assert not _common(ties, role, grad).any() and grad.any()
    assert torch.equal(state["tied"]["grad"], wanted)
    ties.step(state, None, AdamSettings(0.1, 1e-8))
    # The first step of Adam.
    moved = _common(ties, "critic", before["critic"][:, 0]) - 0.1 * wanted.sign()
    torch.testing.assert_close(state["tied"]["params"], moved)
    assert not state["tied"]["grad"].any()


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_what_the_critic_trains_is_frozen_in_the_actor(kind: type[Agent]) -> None:
    agent = _agent(kind)
    assert SCALE in agent.actor.layout.frozen and SCALE in agent.critic.layout.shared
    assert CODE in agent.actor.layout.owned and CODE in agent.critic.layout.owned


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_every_common_value_is_counted_once(kind: type[Agent]) -> None:
    tied, plain = _agent(kind), _agent(kind, network="mlp")
    tasks = tied.spec.num_tasks
    assert tied.num_parameters - plain.num_parameters == 16 * (tasks + 1)


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_a_restored_agent_continues_bit_for_bit(kind: type[Agent], tmp_path: Path) -> None:
    agent, other = _agent(kind), _agent(kind)
    _advance(agent)
    write_state(tmp_path / "state", agent.state_dict())
    other.env.load_state_dict(agent.env.state_dict())
    other.load_state_dict(read_state(tmp_path / "state"))
    for each in (agent, other):
        _advance(each)
    (tensors, values), (others, other_values) = (
        split_state(each.state_dict()) for each in (agent, other)
    )
    assert values == other_values
    assert [
        name for name in tensors | others if not torch.equal(tensors[name], others[name])
    ] == []


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_stacked_seeds_equal_seeds_alone(kind: type[Agent]) -> None:
    together = Seeds([_agent(kind, seed) for seed in (1, 2)], stack=True)
    alone = [_agent(kind, seed) for seed in (1, 2)]
    for _ in range(10 if kind is MTSAC else 2):
        assert together.advance() == {}
        for agent in alone:
            agent.advance()
    for ours, theirs in zip(together.agents, alone):
        for role in ("actor", "critic", "tied"):
            torch.testing.assert_close(
                ours.state[role]["params"],  # type: ignore[attr-defined]
                theirs.state[role]["params"],
                rtol=1e-3,
                atol=1e-4,
            )


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_networks_that_cannot_be_tied_are_refused(kind: type[Agent]) -> None:
    with pytest.raises(
        AgentError, match="critic_network: ties parameters to the actor's network"
    ):
        _agent(kind, network="mlp", critic_network="tied")


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_what_each_task_owns_in_the_critic_is_each_tasks_in_the_actor_too(
    kind: type[Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry("mtrl.agents.networks.bodies.bro:BRO", "Ties an embedding of each task.")
    monkeypatch.setitem(NETWORKS.entries, "embedded", entry)
    env = DiscreteEnv()
    agent: Any = kind(
        env, seed=1, device="cpu", **SHORT[kind] | {"network": "embedded:embedding=4"}
    )
    _advance(agent)
    actor, critic = (_named(agent, role)["body.embedding"] for role in ("actor", "critic"))
    assert actor.shape[1] == env.num_tasks and torch.equal(actor, critic[:1])
    # The same rows have features of their own in each task, also where repeated ones are computed once.
    assert not agent.actor.treats_tasks_alike
