"""Whole training steps on a device that refuses what a GPU refuses, and notes what makes the host wait for one."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrl.agents import MTPPO, MTSAC, Agent, EnvSpec
from mtrl.agents.agent import auto_remark, resolve_device
from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.files import read_state, write_state
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.seeds import Seeds
from mtrl.envs.make import make_vec
from mtrl.settings.presets import resolve
from tests.helpers import fakes
from tests.helpers.device import DeviceError, OnChip, Watch, to_cpu, use_chip

SETTINGS: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {
        "width": 8,
        "depth": 2,
        "rollout_per_task": 4,
        "epochs": 1,
        "minibatches": 1,
        "precision": "fp32",
    },
    MTSAC: {
        "width": 8,
        "depth": 2,
        "learning_starts": 2,
        "batch_per_task": 4,
        "buffer_per_task": 64,
        "precision": "fp32",
    },
}
SMALL = {
    "d2r": "d2r:modules=3,units=8,gate=8",
    "m3vit": "m3vit:experts=3",
    "mmoeex": "mmoeex:experts=3",
    "paco": "paco:sets=2",
}
"""Settings that make networks cheap."""
SMALL_PRESETS: dict[str, dict[str, Any]] = {
    "mtsac-brc": {
        "actor_network": "bro:units=8,embedding=4",
        "critic_network": "bro:units=8,embedding=4",
    },
    "mtsac-simba": {"actor_network": "simba:units=8", "critic_network": "simba:units=8"},
    "mtsac-ars": {"resets": 1, "reset_updates": 2},
}


@pytest.fixture(scope="module", autouse=True)
def chip() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_chip(patch)
        yield


def _agent(kind: type[Agent], device: str = "chip", suite: str = "", **settings: Any) -> Any:
    make = make_vec if suite else fakes.make_vec
    env: Any = make(suite or "mt10:fake", 1 if suite else 2, seed=0)
    agent = kind(env, seed=settings.pop("seed", 0), device=device, **SETTINGS[kind] | settings)
    agent.begin(480)
    return agent


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


@pytest.fixture(scope="module")
def experience(chip: None) -> dict[type[Agent], tuple[EnvSpec, Any]]:
    """For each algorithm an environment's spec, and data of it on the chip to update with."""
    found = {}
    with Watch():
        for kind in (MTSAC, MTPPO):
            agent = _agent(kind)
            found[kind] = agent.spec, _data(agent)
    return found


def _method(kind: type[Agent], name: str) -> dict[str, str]:
    """The setting of a gradient method: the critics' in SAC, whose actor loss has no logarithm."""
    return {"aggregator" if kind is MTPPO else "critic_aggregator": name}


def _check(watch: Watch, agent: Any, data: Any) -> None:
    """Update twice on the same data, each time the first after metrics were read."""
    agent._recent_success()  # moves to the device when an episode has ended
    with watch.part() as first:
        agent.update(data)
    agent._meter.drain()
    with watch.part() as second:
        agent.update(data)
    # PPO waits once a pass, for the KL limit.
    allowed = agent.config.epochs if isinstance(agent, MTPPO) else 0
    assert not first.up and not first.waits, first.up + first.waits
    assert len(first.down) == allowed, first.down
    assert first.operations, "the update ran on the chip"
    # Equal operations of equal shapes, whatever the numbers: what a CUDA graph asks for.
    assert first.operations == second.operations


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *[(MTSAC, name) for name in sorted(AGGREGATORS)],
        (MTSAC, "cagrad:flat_minima=0.05"),
        (MTPPO, "mean"),
        (MTPPO, "cagrad"),
    ],
)
def test_every_gradient_method_stays_on_its_device(
    kind: type[Agent], method: str, experience: dict[type[Agent], tuple[EnvSpec, Any]]
) -> None:
    spec, data = experience[kind]
    with Watch() as watch:
        agent = kind(spec, device="chip", **SETTINGS[kind] | _method(kind, method))
        _check(watch, agent, data)


@pytest.mark.parametrize("network", sorted(NETWORKS))
@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
def test_every_network_acts_and_learns_on_its_device(
    kind: type[Agent], network: str, experience: dict[type[Agent], tuple[EnvSpec, Any]]
) -> None:
    with Watch() as watch:
        settings = {"network": SMALL.get(network, network)} | _method(kind, "pcgrad")
        agent = _agent(kind, **settings)
        if kind is MTPPO:
            with watch.part() as log:
                data = agent.collect()
            # The actions of two steps, and the critic's losses for a curriculum.
            assert len(log.down) == 2 + 1 and not log.waits
        else:
            _, data = experience[kind]
            obs, agent.env_steps = agent._observed(), 100
            agent._exploration_action(obs)
            with watch.part() as log:
                agent._exploration_action(obs)
            assert len(log.up) == 1 and not log.down and not log.waits
        _check(watch, agent, data)


@pytest.mark.parametrize("preset", list(SMALL_PRESETS))
def test_presets_of_large_networks_stay_on_their_device_and_learn_what_the_cpu_learns(
    preset: str,
) -> None:
    config: Any = resolve({"suite": "mt10", "method": preset}).agent
    small = SETTINGS[MTSAC] | SMALL_PRESETS[preset]

    def made(device: str) -> Any:
        env: Any = fakes.make_vec("mt10:fake", 2, seed=0)
        agent = MTSAC(env, config, device=device, **small)
        # The reset comes at half of it, in the fifth step.
        agent.begin(8 * env.num_envs)
        return agent

    with Watch() as watch:
        there = made("chip")
        for step in range(8):
            with watch.part() as log:
                there.advance()
            if step > 5:
                assert len(log.up) == len(log.down) == 1 and not log.waits
    here = made("cpu")
    for _ in range(8):
        here.advance()
    assert there.gradient_steps == here.gradient_steps > 0
    _compare(there, here)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MTSAC, {"critic_aggregator": "pcgrad", "suite": "mg3"}),
        (MTSAC, {"precision": "bf16", "critic_aggregator": "pcgrad"}),
        (MTPPO, {"precision": "bf16", "aggregator": "pcgrad", "suite": "mg3"}),
        (MTPPO, {"rollout_per_task": 8, "memory": "gru", "sequence": 4, "suite": "mg3"}),
    ],
)
def test_compiled_loops_of_the_cpu_are_not_asked_for_what_is_on_a_device(
    kind: type[Agent], settings: dict[str, Any]
) -> None:
    with Watch() as watch:
        agent = _agent(kind, **settings)
        _check(watch, agent, _data(agent))


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
def test_seeds_that_train_together_stay_on_their_device(kind: type[Agent]) -> None:
    with Watch() as watch:
        group = Seeds([_agent(kind, seed=seed) for seed in (3, 1)], stack=True)
        agents: list[Any] = list(group.agents)
        for _ in range(1 if kind is MTPPO else 3):
            assert group.advance() == {}
        data = {index: _data(agent) for index, agent in enumerate(agents)}
        learn = group._update_ppo if kind is MTPPO else group._update_sac
        with watch.part() as log:
            group._learn(data, learn, {})
        # PPO waits once a pass, for the KL limit, and once for the passes that each seed took.
        waits = 2 if kind is MTPPO else 0
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
    _compare(there, here)


def _compare(there: Any, here: Any) -> None:
    """Agents on the chip and on the CPU have equal parameters to rounding."""
    for network in ("actor", "critic"):
        found = there.state[network]["params"]
        assert isinstance(found, OnChip)
        torch.testing.assert_close(
            to_cpu(found), here.state[network]["params"], rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("suite", ["", "mg3"])
def test_a_step_of_mtsac_crosses_once_each_way(suite: str) -> None:
    with Watch() as watch:
        agent = _agent(MTSAC, suite=suite)
        for _ in range(4):
            agent.advance()
        for _ in range(3):
            updates = agent.gradient_steps
            with watch.part() as log:
                agent.advance()
            assert agent.gradient_steps > updates
            # Up go observations, exploration noise and the last step's transitions; down come the actions.
            assert len(log.up) == 1 and len(log.down) == 1 and not log.waits


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"noise_correlation": 0.4},
        {"suite": "mg3"},
        {"suite": "mg3", "memory": "gru", "sequence": 4},
        {"curriculum": "success-pacing", "noise_correlation": 0.4, "noise_by_failure": True},
    ],
)
def test_a_step_of_mtppo_crosses_once_each_way(settings: dict[str, Any]) -> None:
    with Watch() as watch:
        agent = _agent(MTPPO, **{"rollout_per_task": 16} | settings)
        agent.advance()
        with watch.part() as log:
            agent.collect()
        steps = 16 // agent.env.envs_per_task
        # A curriculum's round looks at the critic's losses once.
        assert len(log.down) == steps + 1 and not log.waits
        # Up go observations, noise and what came of the last step; after the last step that alone.
        masks = 0
        if agent.sequence:
            masks = 1  # which environments move
        if agent._rounds.paused is not None:
            masks = 3  # which environments move, and which tasks keep an earlier rollout
        assert len(log.up) == steps + 1 + masks


def test_acting_on_the_cpu_crosses_once_a_rollout() -> None:
    with Watch() as watch:
        agent = _agent(MTPPO)
        agent.advance()
        agent.act_on(torch.device("cpu"))
        agent.collect()  # statistics of observations come down
        with watch.part() as log:
            agent.collect()
        # The actor, its deviations and the critic's losses come down, and the whole rollout goes up.
        assert len(log.up) == 1 and len(log.down) == 3 and not log.waits


@pytest.mark.parametrize("suite", ["", "mg3"])
def test_acting_on_the_cpu_collects_what_the_device_does(suite: str) -> None:
    rollouts = []
    with Watch():
        for where in ("chip", "cpu"):
            agent = _agent(MTPPO, suite=suite, rollout_per_task=16)
            agent.act_on(torch.device(where))
            rollouts.append(to_cpu(agent.collect()))
    for there, here in zip(*rollouts, strict=True):
        if there is not None:
            torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


def test_a_step_under_way_is_saved(tmp_path: Path) -> None:
    with Watch():
        there = _agent(MTSAC)
        for _ in range(5):
            there.advance()
        assert there._landing
        write_state(tmp_path / "there", there.state_dict())
    here = _agent(MTSAC, device="cpu")
    for _ in range(5):
        here.advance()
    saved = read_state(tmp_path / "there")
    expected = here.state_dict()["buffer"]
    assert saved["buffer"]["size"] == expected["size"] == 10
    torch.testing.assert_close(saved["buffer"]["rows"], expected["rows"])


@pytest.mark.parametrize("kind", [MTSAC, MTPPO])
def test_reading_metrics_waits_once(kind: type[Agent]) -> None:
    with Watch() as watch:
        agent = _agent(kind)
        for _ in range(2 if kind is MTPPO else 6):
            agent.advance()
        with watch.part() as log:
            metrics = agent.metrics()
        assert metrics["train/critic_loss"] > 0
        # Whether parameters are finite comes with the sums of the metrics.
        assert len(log.down) == 1 and not log.waits and not log.up


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
