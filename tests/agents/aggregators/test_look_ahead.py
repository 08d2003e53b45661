"""Look-ahead: against a loop over tasks with parts of the batch, on quadratics, in both agents, and its limits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, AgentError
from mtrl.agents.aggregators import Inputs, LookAhead, make_aggregator, parse_aggregator
from mtrl.agents.files import read_state, write_state
from mtrl.agents.networks.parameters import Params
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.optim.weighted import weighted_mean
from mtrl.agents.state import difference
from tests.agents.ppo.test_agent import DiscreteEnv
from tests.helpers import fakes
from tests.helpers.networks import mlp

TASKS, SEEDS, ROWS = 3, 2, 10
FACTORS = torch.tensor([[1.0, 0.5, 0.0]]).expand(SEEDS, -1)


@pytest.mark.parametrize("twins", [1, 2])
@pytest.mark.parametrize("heads", [1, TASKS])
@pytest.mark.parametrize(
    ("base", "step", "shares"),
    [
        ("mean", "look_ahead=0.5", False),
        ("mean", "look_ahead_eta=0.3", True),
        ("upgrad", "look_ahead=0.5", True),
        ("cagrad", "look_ahead_eta=0.3", False),
    ],
)
def test_the_gradient_is_that_of_a_loop_over_tasks(
    base: str, step: str, shares: bool, heads: int, twins: int
) -> None:
    """Eight rows give the inner step of trunk and head, the last two the gradients there; shares scale only these."""
    generator = torch.Generator().manual_seed(3)
    network = mlp(4, 8, 2, 2, heads)
    method = parse_aggregator(f"{base}:{step}")
    reduction = Reduction(network, method, TASKS, twins, learning_rate=1.0)
    flat = network.init(SEEDS * twins, generator)
    x = torch.randn(SEEDS, TASKS, ROWS, 4, generator=generator)
    factors = FACTORS if shares else None

    def losses(views: Params, weight: Tensor | None) -> Tensor:
        of_rows = network.forward(views, x).square().mean(-1)
        of_members = None if weight is None else weight.repeat_interleave(twins, 0)
        return weighted_mean(of_rows, of_members).view(SEEDS, twins, TASKS).sum(1)

    first, second = reduction.parts(x[..., 0])
    assert first is not None and second is not None
    assert first.shape == second.shape == (SEEDS, TASKS, ROWS)
    assert first[1, 2].tolist() == [1.25] * 8 + [0.0] * 2
    assert second[1, 2].tolist() == [0.0] * 8 + [5.0] * 2
    leaves = reduction.leaves(flat, torch.float32)
    shape = reduction.noise_shape()
    noise = None if shape is None else torch.rand(SEEDS, *shape, generator=generator)
    actual, _, about = reduction.gradient(
        losses(leaves, first),
        leaves,
        reduction.init(SEEDS, flat.device),
        noise,
        weights=factors,
        again=lambda at: losses(at, second),
    )

    def gradient(at: Tensor, task: int, weight: Tensor) -> Tensor:
        leaf = at.clone().requires_grad_()
        loss = losses(network.views(leaf, torch.float32), weight)[:, task]
        (grad,) = torch.autograd.grad(loss.sum(), leaf)
        return grad.view(SEEDS, twins, -1)

    rows = []
    for task in range(TASKS):
        inner = gradient(flat, task, first)
        size = 0.5 / inner.norm(dim=(1, 2), keepdim=True) if "eta" not in step else 0.3
        there = flat - (size * inner).view_as(flat)
        share = 1.0 if factors is None else factors[:, task].view(-1, 1, 1)
        rows.append(gradient(there, task, second) * share)
    shared = reduction.num_shared // twins
    jacobian = torch.stack([row[..., :shared].flatten(1) for row in rows], 1)
    expected, _ = make_aggregator(base).direction(Inputs(jacobian=jacobian, noise=noise), {})
    wanted = expected.direction.view(SEEDS * twins, shared)
    torch.testing.assert_close(
        actual[:, :shared], wanted, rtol=1e-3, atol=2e-5 * float(wanted.abs().max())
    )
    own = torch.stack([row[..., shared:] for row in rows]).mean(0).flatten(0, 1)
    torch.testing.assert_close(actual[:, shared:], own, rtol=1e-3, atol=1e-5)
    assert about["outer_loss"].shape == (SEEDS, TASKS)


def test_a_pair_of_quadratics_tells_it_from_plain_averaging_and_from_flat_minima() -> None:
    """L_i = ½ (θ − c_i)ᵀ H_i (θ − c_i): the gradients after a step down, and after one up, are exact."""
    hessians = torch.stack([torch.diag(torch.tensor([1.0, 4.0])), torch.eye(2)]).double()
    centres = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).double()
    theta = torch.zeros(2).double()

    def rows(at: Tensor) -> Tensor:
        return torch.einsum("tij,tj->ti", hessians, at - centres)

    found = {}
    for text in ("mean:look_ahead=0.5", "mean:flat_minima=0.5", "mean"):
        aggregator: Any = parse_aggregator(text)
        here = rows(theta.expand(2, -1))
        there = None
        if text != "mean":
            there = rows(theta + aggregator.perturbations(here))
        inputs = Inputs(jacobian=here, perturbed_jacobian=there)
        found[text] = aggregator.direction(inputs, aggregator.init(2, num_params=2))[
            0
        ].direction
    # Each step of 0.5 goes straight to its centre and leaves half of (−1, 0) and three quarters of (0, −2).
    expected = torch.tensor([-0.25, -0.75]).double()
    torch.testing.assert_close(found["mean:look_ahead=0.5"], expected)
    torch.testing.assert_close(found["mean"], torch.tensor([-0.5, -1.0]).double())
    assert not torch.allclose(found["mean:flat_minima=0.5"], expected)


def test_a_step_is_at_most_a_hundred_of_the_optimizers() -> None:
    method = LookAhead(make_aggregator("mean"), radius=0.05)
    norms = torch.tensor([10.0, 0.001, 0.0]).double()
    scale = method.scales(norms, None, 1e-3)
    torch.testing.assert_close(scale, -torch.tensor([0.005, 0.1, 0.0]).double())
    # A gradient of half the loss is half as long; its step is that of the whole one.
    halved = method.scales(norms / 2, torch.full((3,), 2.0), 1e-3)
    torch.testing.assert_close(halved, 2 * scale)


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


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (MTSAC, {"aggregator": "mean:look_ahead=0.05", "discrete": True}),
        (MTPPO, {"aggregator": "mean:look_ahead=0.05"}),
        (MTPPO, {"aggregator": "gradvac:look_ahead=0.05,sparse=3"}),
        (MTPPO, {"aggregator": "cagrad:look_ahead=0.05", "replay": "prioritised"}),
        (MTSAC, {"aggregator": "mean:look_ahead=0.05", "heads": "one-hot"}),
        (MTSAC, {"aggregator": "gradvac:look_ahead=0.05", "sample_weighting": "rmtl"}),
        (MTSAC, {"aggregator": "mean:look_ahead=0.05", "curriculum": "success-focal"}),
    ],
)
def test_a_restored_agent_continues_bit_for_bit(
    kind: type, values: dict[str, Any], tmp_path: Path
) -> None:
    agent, other = _agent(kind, **values), _agent(kind, **values)
    for each in (agent, other):
        each.begin(2000)
    for _ in range(2 if kind is MTPPO else 12):
        agent.advance()
    write_state(tmp_path / "state", agent.state_dict())
    saved, env = read_state(tmp_path / "state"), copy.deepcopy(agent.env.state_dict())
    other.env.load_state_dict(env)
    other.load_state_dict(saved)
    for each in (agent, other):
        for _ in range(2):
            each.advance()
    assert agent.gradient_steps > 0
    assert difference(agent.state_dict(), other.state_dict()) is None
    assert "train/critic_outer_loss" in agent.metrics()


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_it_learns_otherwise_than_what_it_is_around(kind: type) -> None:
    plain = _agent(kind, precision="fp32").learn(240)
    ahead = _agent(kind, aggregator="mean:look_ahead=0.05").learn(240)
    assert ahead.settings.dtype == torch.float32
    for network in ("actor", "critic"):
        assert difference(plain.state[network], ahead.state[network]) is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"precision": "bf16"},
            "precision: 'bf16' rounds away the steps of aggregator 'look-ahead.mean.'; use auto",
        ),
        (
            {"heads": "separate"},
            "'look-ahead.mean.' has no shared gradient to act on with heads=separate",
        ),
        (
            {"critic_aggregator": "sdmgrad:look_ahead=0.1"},
            "look_ahead cannot go around 'sdmgrad'",
        ),
        (
            {"critic_aggregator": "mean:look_ahead=0.1,flat_minima=0.1"},
            "look_ahead cannot go around 'flat-minima.mean.'",
        ),
        ({"actor_aggregator": "mean:look_ahead=-1"}, "look_ahead=-1.0 is not allowed"),
        (
            {"actor_aggregator": "mean:look_ahead=1,look_ahead_inner=1"},
            "look_ahead_inner=1.0 is not allowed; it must be above 0 and below 1",
        ),
    ],
)
def test_what_it_cannot_do_is_said_at_start(values: dict[str, Any], message: str) -> None:
    with pytest.raises(AgentError, match=message):
        _agent(MTSAC, **{"aggregator": "mean:look_ahead=0.05"} | values)


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    agent = _agent(MTSAC, aggregator="mean:look_ahead=0.05", batch_per_task=1)
    with pytest.raises(AgentError, match="a batch of 1 sample a task cannot be split"):
        agent.learn(240)
