"""What a body may ask for besides parameters and inputs: noise of each row, the share of training done, a loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, Agent
from mtrl.agents.aggregators import parse_aggregator
from mtrl.agents.networks.bodies.body import Body, Step
from mtrl.agents.networks.encoder import Identity
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.optim.task_gradients import Losses, Reduction
from mtrl.agents.seeds import Seeds
from mtrl.agents.settings import Entry, settings
from tests.agents.ppo.test_agent import DiscreteEnv
from tests.helpers import fakes
from tests.helpers.networks import network

TASKS, SEEDS, ROWS = 3, 2, 6
SHORT: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {"width": 16, "rollout_per_task": 40, "epochs": 2, "minibatches": 2},
    MTSAC: {"width": 16, "learning_starts": 8, "batch_per_task": 8, "buffer_per_task": 64},
}


@settings
class Asking(Body):
    """Hidden layers, shifted by noise while there is training left; tasks are drawn toward their common mean."""

    noise_size: ClassVar[int] = 2
    uses_share: ClassVar[bool] = True
    mixes_tasks: ClassVar[bool] = True
    steps: ClassVar[list[Step]] = []

    def parameters(self, size: Size) -> dict[str, Parameter]:
        return hidden_parameters(size) | {
            "still": Parameter((size.width,), 0.5, "frozen"),
            "shift": Parameter((size.width,), 0.1, "owned"),
        }

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        self.steps.append(step)
        hidden = hidden_layers(p, x, step.size)
        hidden = hidden + (p["still"] + p["shift"]).unsqueeze(2)
        if step.noise is None:
            return hidden
        twins = hidden.shape[0] // step.noise.shape[0]
        noise = step.noise.sum(-1, keepdim=True).repeat_interleave(twins, 0)
        return hidden + (1 - step.share) * noise

    def extra(self, p: Named, x: Tensor, step: Step) -> Tensor:
        features = hidden_layers(p, x, step.size).mean(2)
        return (features - features.mean(1, keepdim=True)).square().mean((1, 2))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("tests.agents.networks.test_hooks:Asking", "Asks for everything.")
    monkeypatch.setitem(NETWORKS.entries, "asking", entry)
    Asking.steps.clear()


def _agent(kind: type[Agent], seed: int = 1, discrete: bool = False, **settings: Any) -> Any:
    env = (
        DiscreteEnv()
        if discrete
        else fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, seed, "random", 0, 0.0)
    )
    values = SHORT[kind] | {"network": "asking", "precision": "fp32"} | settings
    return kind(env, seed=seed, device="cpu", **values)


@pytest.mark.parametrize("aggregator", ["mean", "random", "cagrad", "sdmgrad"])
@pytest.mark.parametrize("twins", [1, 2])
def test_a_loss_that_mixes_tasks_joins_after_aggregation(aggregator: str, twins: int) -> None:
    made = network(Identity(4), 8, 2, 2, TASKS, "tanh", Asking())
    generator = torch.Generator().manual_seed(0)
    flat = made.init(SEEDS * twins, generator)
    x = torch.randn(SEEDS, TASKS, ROWS, 4, generator=generator)
    reduction = Reduction(made, parse_aggregator(aggregator), TASKS, twins)
    shape = reduction.noise_shape()
    noise = None if shape is None else torch.rand(SEEDS, *shape, generator=generator)
    extra = made.extra_of(x, None, 0.0)
    assert extra is not None

    def gradient(given: Losses | None) -> Tensor:
        leaves = reduction.leaves(flat, torch.float32)
        out = made.forward(leaves, x).square().mean((-2, -1))
        losses = out.view(SEEDS, twins, TASKS).sum(1)
        state = reduction.init(SEEDS, flat.device)
        grad, _, _ = reduction.gradient(
            losses, leaves, state, noise, step=0, again=lambda _: losses, extra=given
        )
        return grad

    leaf = flat.clone().requires_grad_()
    loss = extra(made.views(leaf, torch.float32))
    assert loss.shape == (SEEDS * twins,)
    (wanted,) = torch.autograd.grad(loss.sum(), leaf)
    assert wanted.abs().max() > 1e-4
    torch.testing.assert_close(gradient(extra) - gradient(None), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_sampling_and_losses_draw_noise_and_deterministic_actions_do_not(
    kind: type[Agent], discrete: bool
) -> None:
    agent = _agent(kind, discrete=discrete)
    while agent.gradient_steps == 0:
        agent.advance()
    drawn = [step.noise for step in Asking.steps if step.noise is not None]
    assert {noise.shape[-1] for noise in drawn} == {2}
    assert any(step.noise is None for step in Asking.steps), "targets draw none"
    Asking.steps.clear()
    obs, ids = agent.env.reset(seed=3)[0], agent.env.task_id
    first, second = (agent.predict(obs, deterministic=True, task_id=ids)[0] for _ in range(2))
    assert (first == second).all()
    assert all(step.noise is None for step in Asking.steps)
    Asking.steps.clear()
    agent.predict(obs, task_id=ids)
    assert all(step.noise is not None for step in Asking.steps)


@pytest.mark.parametrize("heads", ["multi-head", "separate"])
def test_the_actor_of_ppo_learns_with_the_numbers_that_it_acted_with(heads: str) -> None:
    agent = _agent(MTPPO, heads=heads, epochs=1, minibatches=1)
    rollout = agent.collect()
    acted = [step.noise for step in Asking.steps if step.noise is not None]
    Asking.steps.clear()
    agent.update(rollout)
    learned = [step.noise for step in Asking.steps if step.noise is not None]
    wanted = torch.stack(acted, -3).flatten(2, 3).flatten(0, 1)
    # Rows of a minibatch are in another order, and the critic's numbers are drawn anew.
    ordered = [noise.flatten(0, 1).sort(1).values for noise in learned]
    assert any(torch.equal(noise, wanted.sort(1).values) for noise in ordered)
    assert {step.share for step in Asking.steps} == {agent._share}


@pytest.mark.parametrize(
    "name", ["asking", "c-poly", "m3vit", "d2r:sampled=true,modules=4", "ltb"]
)
def test_first_ratios_of_ppo_are_one_whatever_a_body_draws(name: str) -> None:
    agent = _agent(MTPPO, network=name, epochs=1, minibatches=2, learning_rate=1e-12)
    agent.settings = replace(agent.settings, std_rate=0.0)
    agent.begin(400)
    for _ in range(2):
        agent.advance()
        metrics = agent.metrics()
        assert abs(metrics["train/approx_kl"]) < 1e-9
        assert metrics["train/clip_fraction"] == 0


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_the_share_of_training_goes_from_zero_to_one(kind: type[Agent]) -> None:
    agent = _agent(kind)
    agent.learn(800)
    shares = [step.share for step in Asking.steps]
    # MTPPO's last losses see the share at which their rollout began.
    assert shares[0] < 0.1 and shares[-1] > 0.8
    assert all(0 <= share <= 1 for share in shares)
    loaded = _agent(kind)
    loaded.load_state_dict(agent.state_dict())
    Asking.steps.clear()
    loaded.predict(agent.env.reset(seed=3)[0], task_id=agent.env.task_id)
    assert Asking.steps[0].share == 1.0


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
@pytest.mark.parametrize("heads", ["multi-head", "separate"])
def test_frozen_parameters_stay_and_owned_ones_move(kind: type[Agent], heads: str) -> None:
    agent = _agent(kind, heads=heads)
    for _ in range(12 if kind is MTSAC else 2):
        agent.advance()
    for name in ("actor", "critic"):
        network = getattr(agent, name)
        flat = agent.state[name]["params"]
        named = network.views(flat.view(-1, flat.shape[-1]), torch.float32).named
        assert (named["body.still"] == 0.5).all()
        assert (named["body.shift"] != 0.1).any(-1).all()


@pytest.mark.parametrize("kind", [MTPPO, MTSAC])
def test_stacked_seeds_draw_what_each_draws_alone(kind: type[Agent]) -> None:
    together = Seeds([_agent(kind, seed) for seed in (1, 2)], stack=True)
    alone = [_agent(kind, seed) for seed in (1, 2)]
    for _ in range(10 if kind is MTSAC else 2):
        assert together.advance() == {}
        for agent in alone:
            agent.advance()
    for ours, theirs in zip(together.agents, alone):
        for name in ("actor", "critic"):
            torch.testing.assert_close(
                ours.state[name]["params"],  # type: ignore[attr-defined]
                theirs.state[name]["params"],
                rtol=1e-3,
                atol=1e-4,
            )
