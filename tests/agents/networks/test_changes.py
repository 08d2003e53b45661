"""What a body may change between steps: the task's code in its inputs, masked tasks, corrections of a step, phases."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError
from mtrl.agents.files import read_state, write_state
from mtrl.agents.networks.bodies.body import Body, Phase, Step, Stepped
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.linear import of_members, scale_rows
from mtrl.agents.networks.parameters import Parameter, uniform
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.seeds import Seeds
from mtrl.agents.settings import Entry, settings
from mtrl.agents.state import split_state
from tests.agents.ppo.test_agent import DiscreteEnv
from tests.helpers import fakes

SHORT: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {"width": 16, "rollout_per_task": 40, "epochs": 2, "minibatches": 2},
    MTSAC: {"width": 16, "learning_starts": 8, "batch_per_task": 8, "buffer_per_task": 64},
}
KINDS = [MTPPO, MTSAC]
GATE, CODE = 0.25, "body.code"


@settings
class Coded(Body):
    """Hidden layers of inputs that end with the task's code."""

    wants_one_hot: ClassVar[bool] = True
    seen: ClassVar[list[Tensor]] = []

    def parameters(self, size: Size) -> dict[str, Parameter]:
        return hidden_parameters(size)

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        self.seen.append(x[..., -step.size.num_tasks :].detach())
        return hidden_layers(p, x, step.size)


@settings
class Changing(Body):
    """Hidden layers times a code of each task.

    Tasks whose loss is above that of half of them are masked and get a new code; weights of the first layer have unit
    norm; in the last quarter of training a gate opens and the hidden layers stay.
    """

    masks_tasks: ClassVar[bool] = True
    corrects_steps: ClassVar[bool] = True
    masked: ClassVar[list[Tensor]] = []

    @property
    def phases(self) -> tuple[float, ...]:
        return (0.5, 0.75)

    def parameters(self, size: Size) -> dict[str, Parameter]:
        return hidden_parameters(size) | {
            "code": Parameter((size.width,), uniform(1.0), "owned", tied="both"),
            "gate": Parameter((size.width,), 0.0, "frozen"),
        }

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        hidden = hidden_layers(p, x, step.size)
        return scale_rows(scale_rows(hidden, p["code"].float()), 1 + p["gate"].float())

    def mask(self, losses: Tensor) -> Tensor:
        return (losses <= losses.median(-1, keepdim=True).values).float()

    def redraw_size(self, size: Size) -> int:
        return size.width

    def after_step(self, p: Named, step: Stepped) -> Named:
        assert step.masked is not None and step.noise is not None
        self.masked.append(step.masked)
        weight, code = p["0.weight"], p["code"]
        redrawn = of_members(step.masked, len(code)).unsqueeze(-1)
        fresh = of_members(step.noise, len(code))
        return {
            "0.weight": weight / weight.norm(dim=-1, keepdim=True),
            "code": torch.where(redrawn, 2 + fresh, code),
        }

    def on_phase(self, p: Named, fresh: Named, number: int, size: Size) -> Phase:
        if number == 1:
            return Phase({"0.bias": fresh["0.bias"] + 1})
        return Phase({"gate": torch.full_like(p["gate"], GATE)}, hidden_parameters(size))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Coded", "Changing"):
        entry = Entry(f"tests.agents.networks.test_changes:{name}", "Changes.")
        monkeypatch.setitem(NETWORKS.entries, name.lower(), entry)
    Coded.seen.clear()
    Changing.masked.clear()


def _agent(kind: type[Agent], network: str, seed: int = 1, **settings: Any) -> Any:
    env = fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, seed, "random", 0, 0.0)
    values = SHORT[kind] | {"network": network, "precision": "fp32"} | settings
    return kind(env, seed=seed, device="cpu", **values)


def _named(agent: Any, role: str) -> dict[str, Tensor]:
    """Parameters ``[K, G, ...]`` of a network by name, views."""
    network = getattr(agent, "critic" if "critic" in role else "actor")
    params = agent.state[role]["params"]
    named: dict[str, Tensor] = network.views(
        params.view(-1, params.shape[-1]), torch.float32
    ).named
    return named


def _advance(agent: Any) -> None:
    for _ in range(10 if isinstance(agent, MTSAC) else 2):
        agent.advance()


@pytest.mark.parametrize(
    ("heads", "aggregator"),
    [
        *product(["multi-head", "one-hot"], ["mean", "sdmgrad", "mean:flat_minima=0.1"]),
        ("separate", "mean"),  # separate agents have no shared gradient
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_inputs_are_the_tasks_code_in_updates_and_in_acting(
    kind: type[Agent], aggregator: str, heads: str
) -> None:
    agent = _agent(kind, "coded", heads=heads, aggregator=aggregator)
    _advance(agent)
    obs, ids = agent.env.reset(seed=3)[0], agent.env.task_id
    # Rows of one task alone are arranged by task too.
    agent.predict(obs[ids == 2], task_id=ids[ids == 2])
    tasks = 1 if heads == "separate" else agent.spec.num_tasks
    assert Coded.seen
    for code in Coded.seen:
        # Flat minima make a member of every task.
        by_task = code.flatten(0, 1).unflatten(0, (-1, tasks))
        wanted = torch.eye(tasks, dtype=code.dtype)[:, None]
        assert torch.equal(by_task, wanted.expand_as(by_task))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_tasks_have_in_common_get_the_code_of_each(kind: type[Agent]) -> None:
    values = SHORT[kind] | {"network": "coded", "precision": "fp32"}
    agent: Any = kind(DiscreteEnv(), seed=1, device="cpu", **values)
    _advance(agent)
    tasks = agent.spec.num_tasks
    for code in Coded.seen:
        assert (code.argmax(-1) == torch.arange(tasks)[:, None]).all() and (
            code.sum(-1) == 1
        ).all()


@pytest.mark.parametrize("settings", [{}, {"aggregator": "cagrad"}, {"heads": "separate"}])
@pytest.mark.parametrize("kind", KINDS)
def test_masked_tasks_do_not_train_and_the_body_learns_which_they_were(
    kind: type[Agent], settings: dict[str, Any]
) -> None:
    agent = _agent(kind, "changing", **settings)
    _advance(agent)
    assert Changing.masked
    for masked in Changing.masked:
        assert 0 <= masked.float().mean() <= 0.5
    if settings.get("heads") == "separate":
        return
    assert agent.metrics()["train/masked"] == pytest.approx(1 / 3), "the worst of three tasks"
    code = _named(agent, "critic")[CODE]
    assert ((code >= 2).all(-1).any()) and torch.equal(code[:1], _named(agent, "actor")[CODE])


def test_a_masked_tasks_head_gets_no_gradient() -> None:
    agent = _agent(MTSAC, "changing")
    while agent.gradient_steps == 0:
        before = agent.critic.owned(agent.state["critic"]["params"].clone())
        agent.advance()
    masked = Changing.masked[0][0]
    moved = agent.critic.owned(agent.state["critic"]["params"])["head.weight"]
    still = (moved == before["head.weight"]).flatten(2).all(-1)
    assert torch.equal(still, masked.expand_as(still)) and masked.any()
    alphas = agent.state["log_alpha"]["exp_avg"][0]
    assert torch.equal(alphas == 0, masked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_that_needs_every_task_is_refused_with_a_body_that_masks(
    kind: type[Agent],
) -> None:
    with pytest.raises(AgentError, match="needs every task in every update"):
        _agent(kind, "changing", aggregator="moco")


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_corrected_in_the_trained_networks_alone(kind: type[Agent]) -> None:
    agent = _agent(kind, "changing")
    _advance(agent)
    for role in ("actor", "critic"):
        norm = _named(agent, role)["body.0.weight"].norm(dim=-1)
        torch.testing.assert_close(norm, torch.ones_like(norm))
    if kind is MTSAC:
        norm = _named(agent, "target_critic")["body.0.weight"].norm(dim=-1)
        assert (norm - 1).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("aggregator", ["mean", "cagrad"])
def test_phases_change_values_and_what_trains(kind: type[Agent], aggregator: str) -> None:
    agent = _agent(kind, "changing", aggregator=aggregator)
    seen = {}

    def look(agent: Any) -> None:
        if agent._phase not in seen:
            seen[agent._phase] = {
                role: {name: view.clone() for name, view in _named(agent, role).items()}
                for role in ("actor", "critic")
            }

    agent.learn(2400 if kind is MTPPO else 600, look)
    assert agent._phase == 4 and set(seen) == {0, 2, 4}, "two networks with two phases each"
    for role in ("actor", "critic"):
        assert (seen[2][role]["body.gate"] == 0).all() and (
            seen[4][role]["body.gate"] == GATE
        ).all()
        assert (seen[2][role]["body.0.bias"] > 0.5).all() and (
            seen[0][role]["body.0.bias"] < 0.5
        ).all()
        last = _named(agent, role)
        for name in ("body.1.weight", "body.0.bias"):
            assert torch.equal(last[name], seen[4][role][name]), "the base stays"
            assert not torch.equal(last[name], seen[2][role][name])
        assert not torch.equal(last["head.weight"], seen[4][role]["head.weight"])
    if kind is MTSAC:
        assert (_named(agent, "target_critic")["body.gate"] == GATE).all()
    assert agent.follows_total and not _agent(MTSAC, "mlp").follows_total


@pytest.mark.parametrize("heads", ["multi-head", "separate"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_agent_passes_its_phases_bit_for_bit(
    kind: type[Agent], heads: str, tmp_path: Path
) -> None:
    agent, other = (_agent(kind, "changing", heads=heads) for _ in range(2))
    total = 2400 if kind is MTPPO else 600
    agent.begin(total)
    while agent.env_steps < 0.6 * total:
        agent.advance()
    write_state(tmp_path / "state", agent.state_dict())
    other.env.load_state_dict(agent.env.state_dict())
    other.load_state_dict(read_state(tmp_path / "state"))
    for each in (agent, other):
        each.learn(total)
    assert agent._phase == other._phase == 4
    (tensors, values), (others, other_values) = (
        split_state(each.state_dict()) for each in (agent, other)
    )
    assert values == other_values
    assert [
        name for name in tensors | others if not torch.equal(tensors[name], others[name])
    ] == []


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_seeds_equal_seeds_alone(kind: type[Agent]) -> None:
    total = 1200 if kind is MTPPO else 200
    together = Seeds([_agent(kind, "changing", seed) for seed in (1, 2)], stack=True)
    alone = [_agent(kind, "changing", seed) for seed in (1, 2)]
    for agent in (*together.agents, *alone):
        agent.begin(total)
    while alone[0].env_steps < total:
        assert together.advance() == {}
        for agent in alone:
            agent.advance()
    for ours, theirs in zip(together.agents, alone):
        assert ours._phase == theirs._phase > 0  # type: ignore[attr-defined]
        for role in ("actor", "critic", "tied"):
            torch.testing.assert_close(
                ours.state[role]["params"],  # type: ignore[attr-defined]
                theirs.state[role]["params"],
                rtol=1e-3,
                atol=1e-4,
            )
