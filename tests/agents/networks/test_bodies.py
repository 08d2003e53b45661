"""What the papers claim of their mechanisms, body by body."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError
from mtrl.agents.networks.bodies.body import Step
from mtrl.agents.networks.bodies.care import CARE, word_vectors
from mtrl.agents.networks.bodies.d2r import D2R, Route
from mtrl.agents.networks.bodies.dsmtl import DSMTL
from mtrl.agents.networks.bodies.paco import convex
from mtrl.agents.networks.bodies.soft_modules import SoftModules
from mtrl.agents.networks.composed import compose
from mtrl.agents.networks.encoder import Identity
from mtrl.agents.networks.layers import Named, Size
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.networks.ties import tied_names
from mtrl.agents.sac.update import Progress, task_factors
from mtrl.envs import make_vec
from tests.agents.test_networks import SHORT
from tests.helpers import fakes
from tests.helpers.networks import network

TASKS, SEEDS, ROWS, WIDTH = 3, 2, 6, 8


def _network(name: str) -> Network:
    return network(Identity(4), WIDTH, 2, 2, TASKS, "tanh", NETWORKS.make(name))


def _init(made: Network) -> Tensor:
    return made.init(SEEDS, torch.Generator().manual_seed(0))


def _x(seed: int = 1) -> Tensor:
    return torch.randn(SEEDS, TASKS, ROWS, 4, generator=torch.Generator().manual_seed(seed))


def _body(made: Network, flat: Tensor) -> Named:
    return made.views(flat, torch.float32).of("body")


def _is_the_plain_network_at_first(name: str, prefix: str = "") -> bool:
    """Whether a body's features are those of the MLP whose layers it has under a prefix."""
    plain, made = _network("mlp"), _network(name)
    views = made.views(_init(made), torch.float32)
    common = {}
    for key in plain.layout.all:
        part, _, rest = key.partition(".")
        common[key] = views.named[f"body.{prefix}{rest}" if part == "body" else key]
    out = plain.forward(Params(common), _x())
    return torch.allclose(made.forward(views, _x()), out, rtol=1e-4, atol=1e-5)


def _agent(kind: type[Agent], name: str, **settings: object) -> Agent:
    env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 1, "random", 0, 0.0)
    values = SHORT[kind] | {"network": name, "precision": "fp32"} | settings
    return kind(env, seed=1, device="cpu", **values)  # type: ignore[arg-type]


# Soft modules


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_gates_of_soft_modules_are_distributions_that_task_and_row_set(layers: int) -> None:
    body = SoftModules(layers=layers, modules=3, units=5, gate=6)
    made = network(Identity(4), WIDTH, 2, 2, TASKS, "relu", body)
    p = _body(made, _init(made))
    hidden = torch.rand(SEEDS, TASKS, ROWS, WIDTH)
    gates = body.gates(p, hidden, made.size)
    assert [gate.shape[3:] for gate in gates] == [(3, 3)] * (layers - 1) + [(1, 3)]
    for gate in gates:
        assert (gate > 0).all()
        torch.testing.assert_close(gate.sum(-1), torch.ones(gate.shape[:-1]))
        assert (gate[:, :, 0] != gate[:, :, 1]).any()
    assert made.size.width != body.num_features(made.size) == 5
    # The same rows in every task: what differs is the task's vector.
    alike = _x()[:, :1].expand(-1, TASKS, -1, -1)
    features = made.features(made.views(_init(made), torch.float32), alike)
    assert (features[:, 0] - features[:, 1]).abs().max() > 1e-3


def test_temperatures_weigh_tasks_and_equal_ones_do_not() -> None:
    log_alpha = torch.tensor([[0.0, -1.0, 1.0]])
    weights = task_factors(Progress(), log_alpha).weights
    assert weights is not None
    wanted = 3 * torch.tensor([[1.0, 2.718282, 0.367879]]) / 4.086161
    torch.testing.assert_close(weights, wanted)
    given = Progress(weights=torch.tensor([[2.0, 0.0, 1.0]]))
    torch.testing.assert_close(task_factors(given, log_alpha).weights, wanted * given.weights)
    equal = task_factors(Progress(), torch.full((2, 4), 0.7)).weights
    torch.testing.assert_close(equal, torch.ones(2, 4))


def test_temperature_weights_reach_the_losses_and_are_refused_where_they_cannot() -> None:
    def critic(weighs: bool) -> Tensor:
        agent = _agent(MTSAC, "mlp", temperature_weights=weighs)
        agent.state["log_alpha"]["params"][:, 0] = -3.0
        for _ in range(12):
            agent.advance()
        params: Tensor = agent.state["critic"]["params"]
        return params

    assert not torch.equal(critic(True), critic(False))
    with pytest.raises(AgentError, match="temperature_weights: with heads=separate"):
        _agent(MTSAC, "mlp", temperature_weights=True, heads="separate")
    with pytest.raises(AgentError, match="temperature_weights gives tasks different shares"):
        _agent(MTSAC, "mlp", temperature_weights=True, aggregator="imtl-g")


# CARE


def test_words_of_names_are_unit_vectors_with_common_words_in_common() -> None:
    vectors = torch.tensor(
        word_vectors(["drawer-open-v3", "drawer-close-v3", "window-open-v3"])
    )
    wanted = torch.tensor([[1.0, 0.5, 0.5], [0.5, 1.0, 0.0], [0.5, 0.0, 1.0]])
    torch.testing.assert_close(vectors @ vectors.mT, wanted)
    grid = torch.tensor(word_vectors(["DoorKey-5x5", "DoorKey-6x6", "Empty-6x6"]))
    common = (grid @ grid.mT)[0]
    assert common[1] > common[2] == 0
    with pytest.raises(AgentError, match="needs networks that know their tasks"):
        _agent(MTPPO, "care", heads="separate")


@pytest.mark.parametrize("metadata", ["words", "none"])
def test_attention_over_encoders_is_a_distribution_without_gradient_into_the_code(
    metadata: str,
) -> None:
    made = _network(f"care:metadata={metadata}")
    leaves = made.layout.leaves(_init(made), torch.float32)
    assert isinstance(made.body, CARE)
    code, attention = made.body.attention(leaves.of("body"))
    torch.testing.assert_close(attention.sum(-1), torch.ones(SEEDS, TASKS, 1))
    trained = [leaves.named[name] for name in made.layout.trained]
    grads = torch.autograd.grad(attention.square().sum(), trained, allow_unused=True)
    reached = {name for name, grad in zip(made.layout.trained, grads) if grad is not None}
    assert reached and all(name.startswith("body.attention") for name in reached)
    assert (code[:, 0] != code[:, 1]).any()


@pytest.mark.parametrize("suite", ["fake", "mg3"])
@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_encoders_and_codes_get_the_critics_gradient_alone(
    kind: type[Agent], suite: str
) -> None:
    agent = _agent(kind, "care:trained_by=critic")
    if suite == "mg3":
        env = make_vec("mg3", 2, seed=0)
        values = SHORT[kind] | {"network": "care:trained_by=critic", "channels": 4}
        agent = kind(env, seed=1, device="cpu", **values)
    actor, critic = agent.actor, agent.critic  # type: ignore[attr-defined]
    tied = tied_names(critic)
    assert any(name.startswith("body.encoder.") for name in tied)
    assert any(name.startswith("encoder.") for name in tied) == (suite == "mg3")
    assert set(tied) <= set(critic.layout.trained)
    assert set(tied) <= set(actor.layout.frozen)
    assert all(not name.startswith("body.trunk") for name in tied)
    both = _agent(kind, "care:trained_by=both")
    assert set(tied_names(both.critic)) <= set(both.actor.layout.trained)  # type: ignore[attr-defined]
    usual = _agent(kind, "care").actor.layout  # type: ignore[attr-defined]
    wanted = actor.layout if kind is MTSAC else both.actor.layout  # type: ignore[attr-defined]
    assert usual.trained.keys() == wanted.trained.keys()


# PaCo


def test_every_convex_mixture_of_sets_starts_as_the_same_function() -> None:
    made = _network("paco:sets=4")
    flat = _init(made)
    out = made.features(made.views(flat, torch.float32), _x())
    mixture = _body(made, flat)["mixture"]
    torch.testing.assert_close(mixture.sum(-1), torch.ones(SEEDS, TASKS))
    assert (mixture >= 0).all() and (mixture[:, 0] != mixture[:, 1]).all()
    mixture.copy_(convex(mixture.shape, torch.Generator().manual_seed(9)))
    other = made.features(made.views(flat, torch.float32), _x())
    torch.testing.assert_close(other, out, rtol=1e-4, atol=1e-5)
    mixture.mul_(1.5)
    further = made.features(made.views(flat, torch.float32), _x())
    assert (further - out).abs().max() > 1e-3


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_composed_weights_and_their_gradients_are_those_of_the_sum(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    sets = torch.randn(2, 1, 4, 5, 3, generator=generator, dtype=torch.float64)
    sets = sets.expand(-1, groups, -1, -1, -1).requires_grad_()
    mixture = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    by_group = mixture.repeat_interleave(max(groups // 3, 1), 1)
    wanted = torch.einsum(
        "kge,kgeoi->kgoi", by_group, sets.expand(-1, by_group.shape[1], *[-1] * 3)
    )
    composed = compose(sets, mixture)
    torch.testing.assert_close(composed, wanted)
    slope = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    ours = torch.autograd.grad(composed, [sets, mixture], slope)
    theirs = torch.autograd.grad(wanted, [sets, mixture], slope)
    for our, their in zip(ours, theirs):
        torch.testing.assert_close(our, their)


def test_a_task_whose_losses_explode_is_left_out_and_gets_a_mixture_of_the_others() -> None:
    body = NETWORKS.make("paco:sets=4,loss_limit=10")
    losses = torch.tensor([[1.0, 11.0, 10.0], [torch.nan, -50.0, torch.inf]])
    factors = body.mask(losses)
    assert factors.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert body.mask(torch.full((1, 3), 11.0)).tolist() == [[1, 1, 1]]
    made = network(Identity(4), WIDTH, 2, 2, TASKS, "tanh", body)
    flat = made.init(2 * SEEDS, torch.Generator().manual_seed(0))
    before = _body(made, flat)["mixture"].clone()
    noise = torch.rand(
        SEEDS, TASKS, made.num_redrawn, generator=torch.Generator().manual_seed(1)
    )
    made.after_step(flat, factors == 0, noise, tied=True)
    after = _body(made, flat)["mixture"]
    assert torch.equal(after[:2, [0, 2]], before[:2, [0, 2]])
    share = (after[:2, 1] - before[:2, 2]) / (before[:2, 0] - before[:2, 2])
    assert ((share > 0) & (share < 1)).all()
    torch.testing.assert_close(share, share[:1, :1].expand(2, 4))
    # One task is left, so the others become copies of it.
    torch.testing.assert_close(after[2:], before[2:, 1:2].expand(-1, 3, -1))
    made.after_step(flat, torch.ones(SEEDS, TASKS, dtype=torch.bool), noise, tied=True)
    assert torch.equal(_body(made, flat)["mixture"], after)


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_mixtures_are_redrawn_in_training_alike_in_all_networks(kind: type[Agent]) -> None:
    agent = _agent(kind, "paco:sets=3,loss_limit=0.6")
    for _ in range(12 if kind is MTSAC else 2):
        agent.advance()
    assert agent.metrics()["train/masked"] > 0
    agent.check_finite()
    role = {}
    for name in ("actor", "critic"):
        params = agent.state[name]["params"]
        made = getattr(agent, name)
        role[name] = made.views(params.view(-1, params.shape[-1]), torch.float32).named
    actor, critic = (role[name]["body.mixture"] for name in ("actor", "critic"))
    assert torch.equal(critic, actor.repeat_interleave(len(critic) // len(actor), 0))


def test_without_a_limit_no_task_is_masked() -> None:
    body = NETWORKS.make("paco:loss_limit=0")
    assert not body.masks_tasks and not body.corrects_steps


def test_one_mixture_serves_actor_and_critics() -> None:
    agent = _agent(MTSAC, "paco:sets=2")
    assert tied_names(agent.critic) == tied_names(agent.actor) == ["body.mixture"]  # type: ignore[attr-defined]
    assert "body.mixture" in agent.actor.layout.owned  # type: ignore[attr-defined]


# D2R


def _routes(
    body: D2R, step_noise: Tensor | None = None, seed: int = 1
) -> tuple[list[Tensor], list[Tensor]]:
    made = network(Identity(4), WIDTH, 2, 2, TASKS, "relu", body)
    p = _body(made, _init(made))
    product = torch.randn(
        SEEDS, TASKS, ROWS, WIDTH, generator=torch.Generator().manual_seed(seed)
    )
    return body.gates(p, product, Step(made.size, step_noise))


def test_routes_are_distributions_over_a_few_sources_that_task_and_row_set() -> None:
    gates, kept = _routes(D2R(modules=5, units=6, gate=8))
    for sources, (gate, keeps) in enumerate(zip(gates, kept), 1):
        assert gate.shape == keeps.shape == (SEEDS, TASKS, ROWS, sources)
        torch.testing.assert_close(gate.sum(-1), torch.ones(SEEDS, TASKS, ROWS))
        assert ((gate > 0).sum(-1) == min(2, sources)).all()
        # The largest share of a distribution is above 1 / (j + 1).
        assert keeps.any(-1).all()
    choices = torch.cat([gate > 0 for gate in gates], -1)
    assert len(choices.flatten(0, 2).unique(dim=0)) > 2
    made = _network("d2r")
    alike = _x()[:, :1].expand(-1, TASKS, -1, -1)
    features = made.features(made.views(_init(made), torch.float32), alike)
    assert (features[:, 0] - features[:, 1]).abs().max() > 1e-3


def test_sources_below_the_threshold_get_no_gradient_through_the_module() -> None:
    gate = torch.tensor([[[[0.7, 0.3]]]], requires_grad=True)
    outputs = [torch.full((1, 1, 1, 2), value, requires_grad=True) for value in (1.0, 2.0)]
    kept = torch.tensor([[[[True, False]]]])
    around, into = Route.apply(gate, kept, *outputs)
    assert torch.equal(around, into) and torch.allclose(into, torch.tensor(1.3))
    through = torch.autograd.grad(into.sum(), [gate, *outputs], retain_graph=True)
    assert through[0].flatten().tolist() == [2.0, 4.0]
    torch.testing.assert_close(through[1], torch.full((1, 1, 1, 2), 0.7))
    assert not through[2].any()
    by_sum = torch.autograd.grad(around.sum(), outputs)
    torch.testing.assert_close(by_sum[1], torch.full((1, 1, 1, 2), 0.3))


def test_sampled_routes_are_drawn_as_often_as_their_share_says() -> None:
    body = D2R(modules=3, units=6, gate=8, top=1, sampled=True)
    assert body.noise_size == 6 and D2R().noise_size == 0
    plain, _ = _routes(D2R(modules=3, units=6, gate=8, top=3))
    generator = torch.Generator().manual_seed(3)
    count = torch.zeros(SEEDS, TASKS, ROWS, 3)
    for _ in range(500):
        noise = torch.rand(SEEDS, TASKS, ROWS, 6, generator=generator)
        count += _routes(body, noise)[0][-1]
    torch.testing.assert_close(count / 500, plain[-1], rtol=0, atol=0.1)


# MTAN, YOLOR, DSMTL, embedding


def test_masks_of_a_shared_trunk_lie_between_zero_and_one() -> None:
    made, plain = _network("mtan"), _network("mlp")
    views = made.views(_init(made), torch.float32)
    trunk = {key: views.named[key] for key in plain.layout.all}
    masked, features = made.features(views, _x()), plain.features(Params(trunk), _x())
    mask = masked / features
    assert (mask > 0).all() and (mask < 1).all() and mask.std() > 0.01
    assert list(made.layout.shared) == list(plain.layout.shared)


@pytest.mark.parametrize("mode", ["add", "multiply", "both"])
@pytest.mark.parametrize("position", ["all", "last"])
def test_neutral_vectors_change_nothing(mode: str, position: str) -> None:
    settings = f"mode={mode},position={position}"
    assert _is_the_plain_network_at_first(f"yolor:spread=0,{settings}")
    assert not _is_the_plain_network_at_first(f"yolor:spread=0.5,{settings}")


def test_concatenated_vectors_are_read_by_the_next_layer_and_the_heads() -> None:
    made = _network("yolor:mode=concatenate,units=3")
    assert made.layout.all["body.1.weight"].shape == (WIDTH, WIDTH + 3)
    features = made.features(made.views(_init(made), torch.float32), _x())
    code = _body(made, _init(made))["code.1"]
    torch.testing.assert_close(
        features[..., WIDTH:], code.unsqueeze(2).expand(-1, -1, ROWS, -1)
    )


def test_a_safe_gate_can_leave_a_task_alone_and_the_lite_one_starts_shared() -> None:
    assert _is_the_plain_network_at_first("dsmtl:lite=true", "all.")
    for settings in ("alone=0.5", "alone=0.5,lite=true"):
        made = _network(f"dsmtl:{settings}")
        leaves = made.layout.leaves(_init(made), torch.float32)
        for share in (0.4, 0.6):
            loss = made.forward(leaves, _x(), share=share).square().sum()
            grads = torch.autograd.grad(
                loss, [leaves.named[name] for name in made.layout.trained]
            )
            moved = {name for name, grad in zip(made.layout.trained, grads) if grad.any()}
            shared = [name for name in moved if name.startswith("body.all.")]
            assert bool(shared) == (share > 0.5)
            assert share > 0.5 or any(name.startswith("body.own.") for name in moved)


def test_the_gate_of_the_lite_network_is_a_choice_with_the_shares_gradient() -> None:
    body = DSMTL(lite=True)
    gate = torch.tensor([[[-1.0, 1.0]]], requires_grad=True)
    value = body.gates({"gate": gate}, Step(Size(4, WIDTH, 2, "relu", 1)))
    assert value.flatten().tolist() == [0.0, 1.0]
    (grad,) = torch.autograd.grad(value.sum(), gate)
    torch.testing.assert_close(grad, gate.sigmoid() * (1 - gate.sigmoid()))


def test_embeddings_are_of_unit_length_whatever_their_numbers_are() -> None:
    made = _network("embedding:code=5")
    flat = _init(made)
    out = made.features(made.views(flat, torch.float32), _x())
    leaves = made.layout.leaves(flat, torch.float32)
    loss = made.forward(leaves, _x()).square().sum()
    code = leaves.named["body.code"]
    (grad,) = torch.autograd.grad(loss, code)
    assert grad.any()
    torch.testing.assert_close(
        (grad * code).sum(-1), torch.zeros(SEEDS, TASKS), atol=1e-5, rtol=0
    )
    _body(made, flat)["code"].mul_(7.0)
    torch.testing.assert_close(made.features(made.views(flat, torch.float32), _x()), out)


@pytest.mark.parametrize("trainer", ["critic", "both", "each"])
def test_embeddings_are_trained_by_whom_the_setting_names(trainer: str) -> None:
    agent = _agent(MTSAC, f"embedding:trained_by={trainer}")
    actor, critic = agent.actor, agent.critic  # type: ignore[attr-defined]
    assert ("body.code" in actor.layout.owned) == (trainer != "critic")
    assert "body.code" in critic.layout.owned
    assert tied_names(critic) == ([] if trainer == "each" else ["body.code"])
    follows = replace(actor, follows=True)
    assert actor.layout.by_task == follows.layout.by_task
