"""Whole training steps on a device that refuses what a GPU refuses, and notes what makes the host wait for one."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import pytest
import torch

from mtrl.agents import MTPPO, MTSAC, Agent
from mtrl.agents.agent import auto_remark, resolve_device
from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.seeds import Seeds
from mtrl.envs.make import make_vec
from tests.helpers import fakes
from tests.helpers.device import DeviceError, Log, OnChip, Watch, to_cpu, use_chip

SETTINGS: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {
        "width": 8,
        "rollout_per_task": 20,
        "epochs": 1,
        "minibatches": 1,
        "precision": "fp32",
    },
    MTSAC: {
        "width": 8,
        "learning_starts": 4,
        "batch_per_task": 4,
        "buffer_per_task": 64,
        "precision": "fp32",
    },
}
METHODS = [
    (MTSAC, "mean"),
    (MTPPO, "mean"),
    (MTPPO, "cagrad"),
    (MTSAC, "cagrad:flat_minima=0.05"),
]
NETWORKS = ["mlp", "film", "moore"]


@pytest.fixture(autouse=True)
def chip(monkeypatch: pytest.MonkeyPatch) -> None:
    use_chip(monkeypatch)


def _agent(kind: type[Agent], device: str = "chip", suite: str = "", **settings: Any) -> Any:
    make = make_vec if suite else fakes.make_vec
    env: Any = make(suite or "mt10:fake", 1 if suite else 2, seed=0)
    agent = kind(env, seed=settings.pop("seed", 0), device=device, **SETTINGS[kind] | settings)
    agent.begin(480)
    return agent


def _method(kind: type[Agent], name: str) -> dict[str, str]:
    """The setting of a gradient method: the critics' in SAC, whose actor loss has no logarithm."""
    return {"aggregator" if kind is MTPPO else "critic_aggregator": name}


def _data(agent: Any) -> Any:
    """What the next update learns from."""
    if isinstance(agent, MTPPO):
        return agent.collect()
    while True:
        agent.start_step()
        batch = agent.next_batch()
        if batch is not None:
            agent.env.step_wait()
            return batch
        agent.finish_step()


def _updates(watch: Watch, agent: Any) -> tuple[Log, Log]:
    """Two updates on the same data, each the first after metrics were read."""
    data = _data(agent)
    agent._recent_success()  # moves to the device when an episode has ended
    with watch.part() as first:
        agent.update(data)
    agent._meter.drain()
    with watch.part() as second:
        agent.update(data)
    return first, second


def _allowed(agent: Any) -> int:
    """Times that an update waits: once a pass of PPO, for the KL limit."""
    return agent.config.epochs if isinstance(agent, MTPPO) else 0


def _check(watch: Watch, agent: Any) -> None:
    first, second = _updates(watch, agent)
    assert not first.up and not first.waits
    assert len(first.down) == _allowed(agent), first.down
    assert first.operations, "the update ran on the chip"
    # Equal operations of equal shapes, whatever the numbers: what a CUDA graph asks for.
    assert first.operations == second.operations


@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_an_update_stays_on_its_device(kind: type[Agent], method: str) -> None:
    with Watch() as watch:
        _check(watch, _agent(kind, **_method(kind, method)))


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_stays_on_its_device(kind: type[Agent], network: str) -> None:
    with Watch() as watch:
        _check(watch, _agent(kind, network=network, **_method(kind, "pcgrad")))


@pytest.mark.parametrize(("kind", "suite"), [(MTSAC, ""), (MTPPO, "mg3")])
def test_compiled_loops_for_bfloat16_are_not_asked_for_tensors_on_a_device(
    kind: type[Agent], suite: str
) -> None:
    with Watch() as watch:
        _check(watch, _agent(kind, suite=suite, precision="bf16", **_method(kind, "pcgrad")))


@pytest.mark.parametrize("name", sorted(AGGREGATORS))
def test_every_gradient_method_stays_on_its_device(name: str) -> None:
    with Watch() as watch:
        _check(watch, _agent(MTSAC, **_method(MTSAC, name)))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MTSAC, {}),
        (MTPPO, {}),
        (MTPPO, {"rollout_per_task": 32, "memory": "gru", "sequence": 8}),
    ],
)
def test_compiled_loops_of_the_cpu_are_not_asked_for_observations_on_a_device(
    kind: type[Agent], settings: dict[str, Any]
) -> None:
    with Watch() as watch:
        _check(watch, _agent(kind, suite="mg3", **settings | _method(kind, "pcgrad")))


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
def test_seeds_that_train_together_stay_on_their_device(kind: type[Agent]) -> None:
    with Watch() as watch:
        group = Seeds([_agent(kind, seed=seed) for seed in (3, 1)], stack=True)
        agents: list[Any] = list(group.agents)
        for _ in range(1 if kind is MTPPO else 4):
            assert group.advance() == {}
        data = {index: _data(agent) for index, agent in enumerate(agents)}
        learn = group._update_ppo if kind is MTPPO else group._update_sac
        with watch.part() as log:
            group._learn(data, learn, {})
        waits = _allowed(agents[0]) + 1 if kind is MTPPO else 0
        assert not log.up and not log.waits and len(log.down) == waits


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
@pytest.mark.parametrize("settings", [{}, {"network": "moore"}, {"aggregator": "cagrad"}])
def test_a_device_learns_what_the_cpu_learns(
    kind: type[Agent], settings: dict[str, Any]
) -> None:
    times = 2 if kind is MTPPO else 5
    with Watch():
        there = _agent(kind, **settings)
        for _ in range(times):
            there.advance()
    here = _agent(kind, device="cpu", **settings)
    for _ in range(times):
        here.advance()
    assert there.gradient_steps == here.gradient_steps > 0
    for network in ("actor", "critic"):
        found = there.state[network]["params"]
        assert isinstance(found, OnChip)
        torch.testing.assert_close(
            to_cpu(found), here.state[network]["params"], rtol=1e-3, atol=1e-4
        )


def test_a_step_of_mtsac_waits_once() -> None:
    with Watch() as watch:
        agent = _agent(MTSAC)
        for _ in range(4):
            agent.advance()
        for _ in range(3):
            with watch.part() as log:
                agent.advance()
            assert agent.gradient_steps > 0
            # Down come the actions; up go observations, exploration noise and the transitions.
            assert len(log.down) == 1 and not log.waits
            assert len(log.up) == 3, log.up


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_a_step_of_mtppo_waits_once_and_its_rollout_goes_up_at_once(correlation: float) -> None:
    with Watch() as watch:
        agent = _agent(MTPPO, noise_correlation=correlation)
        agent.advance()
        with watch.part() as log:
            agent.collect()
        steps = agent.config.rollout_per_task // 2
        # A curriculum's round looks at the critic's losses once.
        assert len(log.down) == steps + 1 and not log.waits
        fields, moves = 6, 1
        assert len(log.up) == 2 * steps + fields + moves


def test_acting_on_the_cpu_crosses_once_a_rollout() -> None:
    with Watch() as watch:
        agent = _agent(MTPPO)
        agent.advance()
        agent.act_on(torch.device("cpu"))
        with watch.part() as log:
            agent.collect()
        # The actor, its deviations and the critic's losses come down, and the rollout's fields go up.
        assert len(log.up) == 6 and len(log.down) == 3 and not log.waits


@pytest.mark.parametrize("suite", ["", "mg3"])
def test_acting_on_the_cpu_collects_what_the_device_does(suite: str) -> None:
    settings: dict[str, Any] = {"rollout_per_task": 16} if suite else {}
    rollouts = []
    with Watch():
        for where in ("chip", "cpu"):
            agent = _agent(MTPPO, suite=suite, **settings)
            agent.act_on(torch.device(where))
            rollouts.append(to_cpu(agent.collect()))
    for there, here in zip(*rollouts, strict=True):
        if there is not None:
            torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
def test_reading_metrics_waits_twice(kind: type[Agent]) -> None:
    with Watch() as watch:
        agent = _agent(kind)
        for _ in range(2 if kind is MTPPO else 6):
            agent.advance()
        with watch.part() as log:
            metrics = agent.metrics()
        assert metrics["train/critic_loss"] > 0
        # Whether parameters are finite, and the sums of the metrics.
        assert len(log.down) == 2 and not log.waits and not log.up


def test_operands_of_two_devices_are_refused_and_waits_are_noted() -> None:
    with Watch() as watch:
        x = torch.ones(3, device="chip")
        with pytest.raises(DeviceError, match="two devices"):
            x + torch.ones(3)
        assert x.sum().item() == 3 and bool((x > 0).all())
        assert x[x > 0].shape == (3,) and x.nonzero().shape == (3, 1)
        assert x.cpu().device.type == "cpu" and x.tolist() == [1, 1, 1]
        with pytest.raises(RuntimeError, match=r"numpy\(\) is not supported"):
            x.numpy()
    waits = Counter(wait.partition(".")[0] for wait in watch.log.waits)
    assert waits == {"_local_scalar_dense": 2, "index": 1, "nonzero": 1}
    assert len(watch.log.down) == 2 and not watch.log.up


def test_auto_is_the_cpu_and_says_why_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert auto_remark("auto") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cpu")
    assert auto_remark("cuda") is None and auto_remark("cpu") is None
    remark = auto_remark("auto")
    assert remark is not None and "has been measured on one yet; name the device cuda" in remark
    with pytest.warns(UserWarning, match="device: auto trains on the CPU"):
        agent = _agent(MTSAC, device="auto")
    assert agent.device == torch.device("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _agent(MTSAC, device="cpu")
