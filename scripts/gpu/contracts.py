"""What must hold on every device: agreement with the CPU, the eager update and seeds alone, and exact resuming."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from mtrl.agents import MTPPO, MTSAC, Agent
from mtrl.agents.optim.graphs import record_by_call, record_on_gpu
from mtrl.agents.seeds import Seeds
from mtrl.agents.state import clone, difference
from mtrl.envs import make_vec
from scripts.gpu.agents import MT10, random_batch, random_rollout
from scripts.gpu.report import Section

KINDS: dict[str, tuple[type[Agent], dict[str, Any]]] = {
    "mtsac": (MTSAC, {"width": 64, "learning_starts": 10, "batch_per_task": 16}),
    "mtppo": (MTPPO, {"width": 64, "rollout_per_task": 50, "epochs": 2, "minibatches": 2}),
}
UPDATES = 5


def of_updates(section: Section, device: torch.device) -> None:
    """Contracts of single updates; a number is the largest relative difference of a network's parameters."""
    section.attempt("mtsac: first updates beside the CPU", partial(_sac_beside_cpu, device))
    section.attempt("mtppo: first passes beside the CPU", partial(_ppo_beside_cpu, device))
    for method in ("mean", "pcgrad", "cagrad", "fairgrad"):
        section.attempt(f"recorded beside eager, {method}", partial(_recorded, device, method))


def of_runs(section: Section, device: torch.device) -> None:
    """Contracts of whole training loops, with environments."""
    for name in KINDS:
        section.attempt(f"{name}: resumed beside whole", partial(_resumed, name, device))
        section.attempt(f"{name}: recorded beside eager", partial(_recorded_run, name, device))
        section.attempt(f"{name}: stacked beside alone", partial(_stacked, name, device))


def _agent(name: str, device: torch.device, seed: int = 0, **settings: Any) -> Any:
    kind, own = KINDS[name]
    agent: Any = kind(
        make_vec("mt10", seed=seed), seed=seed, device=device, graph="off", **own | settings
    )
    agent.begin(10_000)
    return agent


def _far(one: Any, other: Any) -> dict[str, float]:
    """For each network ``max |a - b| / max |b|`` of its parameters."""
    found = {}
    for network in ("actor", "critic"):
        a = one.state[network]["params"].double().cpu()
        b = other.state[network]["params"].double().cpu()
        found[network] = ((a - b).abs().max() / b.abs().max()).item()
    return found


def _sac_beside_cpu(device: torch.device) -> dict[str, Any]:
    """The same float32 updates on the CPU; their noise is the CPU's on both, since generators differ."""
    agents = [
        MTSAC(MT10, seed=0, device=where, graph="off", precision="fp32", width=400)
        for where in (torch.device("cpu"), device)
    ]
    found: dict[str, Any] = {}
    for update in range(1, UPDATES + 1):
        batches = [random_batch(agent.device, 1_280, update) for agent in agents]
        inputs = [
            agent.update_inputs(batch) for agent, batch in zip(agents, batches, strict=True)
        ]
        noise = inputs[0].noise
        moved = type(noise)(*[None if each is None else each.to(device) for each in noise])
        for agent, own, drawn in zip(agents, inputs, (noise, moved), strict=True):
            agent.run_update(agent.state, own._replace(noise=drawn))
        if update in (1, UPDATES):
            found[f"after {update}"] = _far(agents[1], agents[0])
    return found


def _ppo_beside_cpu(device: torch.device) -> dict[str, Any]:
    """Passes over equal rollouts, one minibatch each, so that the order of samples, which is drawn, does not count."""
    agents = [
        MTPPO(
            MT10,
            seed=0,
            device=where,
            graph="off",
            precision="fp32",
            rollout_per_task=40,
            epochs=UPDATES,
            minibatches=1,
            kl_stop=None,
        )
        for where in (torch.device("cpu"), device)
    ]
    for agent in agents:
        agent.update(random_rollout(agent.device, 20, 2))
    return {"passes": agents[1].gradient_steps} | _far(agents[1], agents[0])


def _recorded(device: torch.device, method: str) -> dict[str, Any]:
    """``UPDATES`` recorded updates of MTSAC beside eager ones from equal states on equal data."""
    settings = {"critic_aggregator": method, "actor_aggregator": method}
    eager = MTSAC(MT10, seed=0, device=device, graph="off", **settings)
    recorded = MTSAC(MT10, seed=0, device=device, graph="off", **settings)
    recorded.record(record_on_gpu if device.type == "cuda" else record_by_call)
    for update in range(UPDATES):
        inputs = eager.update_inputs(random_batch(device, 1_280, update))
        eager.run_update(eager.state, inputs)
        recorded.run_update(recorded.state, inputs)
    return {"same_bits": difference(eager.state, recorded.state) is None} | _far(
        recorded, eager
    )


def _recorded_run(name: str, device: torch.device) -> dict[str, Any]:
    """The whole training loop, recorded and not."""
    eager, recorded = _agent(name, device), _agent(name, device)
    recorded.record(record_on_gpu if device.type == "cuda" else record_by_call)
    for agent in (eager, recorded):
        for _ in range(2 if name == "mtppo" else 30):
            agent.advance()
        agent.env.close()
    return {"gradient_steps": recorded.gradient_steps} | _far(recorded, eager)


def _stacked(name: str, device: torch.device) -> dict[str, Any]:
    """Two seeds in one call beside one of them alone."""
    group = Seeds([_agent(name, device, seed) for seed in (0, 1)], stack=True)
    alone = _agent(name, device)
    for _ in range(1 if name == "mtppo" else 20):
        group.advance()
        alone.advance()
    for agent in [*group.agents, alone]:
        agent.env.close()
    return _far(group.agents[0], alone)


def _resumed(name: str, device: torch.device) -> dict[str, Any]:
    """A run that goes on in a new agent from a saved state, beside the run itself, bit for bit."""
    times = 1 if name == "mtppo" else 20
    whole = _agent(name, device)
    for _ in range(times):
        whole.advance()
    state, env_state = clone(whole.state_dict()), whole.env.state_dict()
    resumed = _agent(name, device, seed=0)
    resumed.env.load_state_dict(env_state)
    resumed.load_state_dict(state)
    for agent in (whole, resumed):
        for _ in range(times):
            agent.advance()
        agent.env.close()
    found = difference(whole, resumed)
    return {"same_bits": found is None, "difference": found}
