"""What the papers of the scaling bodies claim of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError
from mtrl.agents.networks.bodies.simba import SimBa
from mtrl.agents.networks.bodies.simba_v2 import SimBaV2
from mtrl.agents.networks.encoder import Identity
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.registry import NETWORKS
from tests.helpers import fakes
from tests.helpers.networks import network

TASKS, WIDTH = 3, 16
SHORT: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {"width": WIDTH, "rollout_per_task": 40, "epochs": 2, "minibatches": 2},
    MTSAC: {"width": WIDTH, "learning_starts": 8, "batch_per_task": 8, "buffer_per_task": 64},
}
KINDS = [MTPPO, MTSAC]


def _agent(kind: type[Agent], **settings: Any) -> Any:
    env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 1, "random", 0, 0.0)
    return kind(env, seed=1, device="cpu", **SHORT[kind] | {"precision": "fp32"} | settings)


def _advance(agent: Any) -> None:
    for _ in range(12 if isinstance(agent, MTSAC) else 2):
        agent.advance()


def _named(agent: Any, role: str) -> dict[str, Tensor]:
    """Parameters ``[K, G, ...]`` of a network by name."""
    made = getattr(agent, "critic" if "critic" in role else "actor")
    params = agent.state[role]["params"]
    named: dict[str, Tensor] = made.views(
        params.view(-1, params.shape[-1]), torch.float32
    ).named
    return named


def _made(name: str) -> Network:
    return network(Identity(4), WIDTH, 2, 2, TASKS, "relu", NETWORKS.make(name))


@pytest.mark.parametrize("kind", KINDS)
def test_simba_v2_keeps_weights_and_features_on_the_unit_sphere(kind: type[Agent]) -> None:
    agent = _agent(kind, network="simba-v2:blocks=2")
    first = {
        role: _named(agent, role)["body.in.weight"].clone() for role in ("actor", "critic")
    }
    _advance(agent)
    for role, before in first.items():
        weights = [
            view for name, view in _named(agent, role).items() if name.endswith("weight")
        ]
        body = [view for view in weights if view is not _named(agent, role)["head.weight"]]
        assert len(body) == 6, "the input's, two of each block, the heads'"
        for name, view in _named(agent, role).items():
            if name.startswith("body.") and name.endswith("weight"):
                norm = view.norm(dim=-1)
                torch.testing.assert_close(norm, torch.ones_like(norm), rtol=1e-5, atol=1e-5)
        assert not torch.equal(_named(agent, role)["body.in.weight"], before)
    if kind is MTSAC:
        norm = _named(agent, "target_critic")["body.in.weight"].norm(dim=-1)
        assert (norm < 1 - 1e-7).any(), "target networks are averages, inside the sphere"


def test_simba_v2s_features_have_unit_norm_and_its_input_keeps_its_size() -> None:
    made = _made("simba-v2")
    flat = made.init(2, torch.Generator().manual_seed(0))
    x = torch.randn(2, TASKS, 5, 4, generator=torch.Generator().manual_seed(1))
    views = made.views(flat, torch.float32)
    features = made.features(views, x)
    norm = features.norm(dim=-1)
    torch.testing.assert_close(norm, torch.full_like(norm, math.sqrt(WIDTH)))
    assert (made.features(views, 2 * x) - features).abs().max() > 1e-2


def test_simba_v2_starts_with_equal_steps_of_each_block() -> None:
    body = SimBaV2(blocks=2)
    size = _made("simba-v2:blocks=2").size
    rate = body.parameters(size)["0.rate"].init
    assert isinstance(rate, float)
    assert math.sqrt(WIDTH) * rate / 3 == pytest.approx(1 / 3)


def test_simbas_blocks_add_to_a_linear_stream() -> None:
    made = _made("simba:blocks=2")
    flat = made.init(1, torch.Generator().manual_seed(0))
    views = made.views(flat, torch.float32)
    for name, view in views.named.items():
        if "down" in name:
            view.zero_()
    x = torch.randn(1, TASKS, 5, 4, generator=torch.Generator().manual_seed(1))
    stream = x @ views.named["body.in.weight"][0, 0].mT
    wanted = torch.nn.functional.layer_norm(stream, (WIDTH,))
    torch.testing.assert_close(made.features(views, x), wanted, rtol=1e-4, atol=1e-5)


def test_bros_blocks_are_silent_where_their_last_norm_is() -> None:
    made = _made("bro:blocks=2")
    flat = made.init(1, torch.Generator().manual_seed(0))
    views = made.views(flat, torch.float32)
    x = torch.randn(1, TASKS, 5, 4, generator=torch.Generator().manual_seed(1))
    before = made.features(views, x)
    for block in (0, 1):
        views.named[f"body.{block}.second.gain"].zero_()
    product = x @ views.named["body.in.weight"][0, 0].mT
    first = torch.nn.functional.layer_norm(product, (WIDTH,)).relu()
    torch.testing.assert_close(made.features(views, x), first, rtol=1e-4, atol=1e-5)
    assert (before - first).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_brcs_embedding_counts_by_its_direction_and_is_trained_by_the_critic(
    kind: type[Agent],
) -> None:
    agent = _agent(kind, network="bro:blocks=1,embedding=4")
    before = _named(agent, "critic")["body.embedding"].clone()
    _advance(agent)
    critic, actor = _named(agent, "critic")["body.embedding"], _named(agent, "actor")
    assert "body.embedding" in agent.actor.layout.frozen
    assert torch.equal(actor["body.embedding"], critic[:1]) and not torch.equal(critic, before)
    if kind is MTSAC:
        target = _named(agent, "target_critic")["body.embedding"]
        assert torch.equal(target[0], target[1]) and not torch.equal(target, critic)
    x = torch.randn(1, TASKS, 5, agent.actor.encoder.num_features)
    views = agent.actor.views(agent.state["actor"]["params"].clone(), torch.float32)
    out = agent.actor.forward(views, x)
    views.named["body.embedding"].mul_(3)
    torch.testing.assert_close(agent.actor.forward(views, x), out, rtol=1e-4, atol=1e-5)


def test_embeddings_of_two_sizes_cannot_be_tied() -> None:
    with pytest.raises(AgentError, match="critic_network"):
        _agent(MTSAC, actor_network="bro:embedding=4", critic_network="bro:embedding=8")


@pytest.mark.parametrize("kind", KINDS)
def test_actor_and_critic_may_have_units_of_their_own(kind: type[Agent]) -> None:
    agent = _agent(kind, actor_network="simba:units=8", critic_network="bro:units=12")
    _advance(agent)
    sizes = agent.actor.heads.num_features, agent.critic.heads.num_features
    assert sizes == (8, 12) and SimBa().num_features(agent.actor.size) == WIDTH
