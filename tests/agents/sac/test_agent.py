"""MTSAC as a user of the class meets it: learn, predict, save, load, resume, refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtrl.agents import MTSAC, AgentError, DivergedError, EnvSpec
from mtrl.agents.files import write_state
from mtrl.agents.sac.build import sac_settings
from mtrl.agents.sac.settings import MTSACConfig
from mtrl.agents.state import join_state, split_state
from tests.helpers import fakes

SMALL: dict[str, Any] = {
    "width": 16,
    "depth": 2,
    "batch_per_task": 8,
    "buffer_per_task": 200,
    "learning_starts": 20,
}


def _env(suite: str = "mt10:fake", envs_per_task: int = 2, seed: int = 0) -> fakes.FakeEnv:
    return fakes.FakeEnv(fakes.get_suite(suite), envs_per_task, seed, "random", 0, 0.0)


def _agent(seed: int = 0, **settings: Any) -> MTSAC:
    return MTSAC(_env(seed=seed), seed=seed, device="cpu", **SMALL | settings)


def _tensors(agent: MTSAC) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in split_state(agent.state_dict())[0].items()}


def test_learn_counts_env_steps_over_tasks_and_one_update_per_vector_step() -> None:
    agent = _agent().learn(300)
    assert agent.env_steps == 300  # 3 tasks x 2 environments x 50 vector steps
    # Random until 20 env steps per task, which is 10 vector steps.
    assert agent.gradient_steps == 50 - 10
    assert agent.learn(306).gradient_steps == 41


@pytest.mark.parametrize(("utd_ratio", "updates"), [(0.5, 20), (1.0, 40), (2.5, 100)])
def test_utd_ratio(utd_ratio: float, updates: int) -> None:
    assert _agent(utd_ratio=utd_ratio).learn(300).gradient_steps == updates


def test_callback_runs_after_each_vector_step_and_can_stop() -> None:
    seen: list[int] = []
    agent = _agent()
    agent.learn(300, lambda a: seen.append(a.env_steps) or len(seen) < 4)
    assert seen == [6, 12, 18, 24] and agent.env_steps == 24


@pytest.mark.parametrize("heads", ["multi-head", "one-hot"])
def test_equal_seeds_give_equal_runs_and_different_seeds_do_not(heads: str) -> None:
    first, second, other = (
        _tensors(_agent(seed, heads=heads).learn(240)) for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["networks/actor/params"], other["networks/actor/params"])


def test_a_restored_agent_continues_bit_for_bit() -> None:
    agent = _agent(utd_ratio=1.5).learn(210)
    tensors, values = split_state(agent.state_dict())
    saved = join_state({name: tensor.clone() for name, tensor in tensors.items()}, values)
    env_state = agent.env.state_dict()
    other = _agent(utd_ratio=1.5)
    other.env.load_state_dict(env_state)
    other.load_state_dict(saved)
    first, second = _tensors(agent.learn(420)), _tensors(other.learn(420))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert agent.metrics().keys() == other.metrics().keys()


def test_evaluating_and_logging_change_nothing_in_training() -> None:
    plain, watched = _agent().learn(150), _agent().learn(150)
    watched.predict(np.zeros((6, 3), np.float32), deterministic=True)
    watched.metrics()
    watched.check_finite()
    first, second = _tensors(plain.learn(240)), _tensors(watched.learn(240))
    assert all(
        torch.equal(first[name], second[name]) for name in first if name.startswith("networks")
    )


def test_the_true_last_observation_is_stored_and_truncation_is_not_termination() -> None:
    agent = _agent().learn(6 * fakes.HORIZON)
    rows = agent.state_dict()["buffer"]["rows"]
    clock, next_clock, terminated = rows[..., 2], rows[..., -1], rows[..., 6]
    # The clock never jumps back to 0.
    torch.testing.assert_close(next_clock, clock + 1 / fakes.HORIZON)
    assert (next_clock > 0.999).any() and not terminated.any()


def test_it_learns_the_fake_tasks() -> None:
    agent = MTSAC(
        _env(seed=3),
        seed=3,
        device="cpu",
        **SMALL | {"width": 32, "learning_rate": 3e-3, "gamma": 0.8},
    )
    agent.learn(1200)
    before = agent.metrics()["rollout/ep_rew_mean"]
    agent.learn(3600)
    agent.metrics()
    agent.learn(4200)
    # Of at most 20, and random play loses ground.
    assert agent.metrics()["rollout/ep_rew_mean"] > before + 3


def test_save_and_load_predict_alike_and_learn_on(tmp_path: Path) -> None:
    agent = _agent(heads="one-hot").learn(150)
    agent.save(tmp_path / "agent.safetensors")
    loaded = MTSAC.load(tmp_path / "agent.safetensors", device="cpu")
    obs, tasks = (
        np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32),
        np.array([2, 0, 1, 1, 2]),
    )
    expected = agent.predict(obs, deterministic=True, task_id=tasks)[0]
    np.testing.assert_array_equal(
        loaded.predict(obs, deterministic=True, task_id=tasks)[0], expected
    )
    assert loaded.config == agent.config and loaded.env_steps == 150
    with pytest.raises(AgentError, match="loaded without an environment"):
        loaded.learn(200)
    loaded.set_env(_env())
    # An empty buffer fills before updates go on.
    assert loaded.learn(210).gradient_steps == agent.gradient_steps
    assert loaded.learn(300).gradient_steps > agent.gradient_steps


def test_predict_takes_single_observations_and_asks_for_missing_tasks() -> None:
    agent = _agent()
    assert agent.predict(np.zeros(3, np.float32), task_id=np.array([1]))[0].shape == (2,)
    assert agent.predict(np.zeros((6, 3), np.float32))[0].shape == (6, 2)
    with pytest.raises(AgentError, match="task_id"):
        agent.predict(np.zeros((4, 3), np.float32))
    with pytest.raises(AgentError, match=r"task_id: 7 .* 0 to 2"):
        agent.predict(np.zeros(3, np.float32), task_id=np.array([7]))
    with pytest.raises(AgentError, match=r"observation: shape \(6, 4\)"):
        agent.predict(np.zeros((6, 4), np.float32))


def test_nan_is_reported_by_name() -> None:
    agent = _agent().learn(150)
    agent.state["critic"]["params"][0, 1, 5] = float("nan")
    with pytest.raises(DivergedError, match=r"critic\.params"):
        agent.check_finite()
    with pytest.raises(DivergedError, match=r"critic\.params"):
        agent.metrics()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1.0}, "learning_rat.*did you mean 'learning_rate'"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0"),
        ({"gamma": 1.5}, "gamma: 1.5 .* at least 0 and at most 1"),
        ({"width": 0}, "width: 0"),
        ({"heads": "multihead"}, "heads: 'multihead'.*multi-head"),
        ({"precision": "fp16"}, "precision: 'fp16'"),
        ({"learning_starts": 0}, "learning_starts: 0"),
        ({"aggregator": "pcgrd"}, "did you mean 'pcgrad'"),
        (
            {"critic_aggregator": "cagrad:d=1"},
            "critic_aggregator.d: unknown setting; use one of c, ema",
        ),
        (
            {"actor_aggregator": "famo"},
            "actor_aggregator: 'famo' .* changes sign; give the actor one of .*pcgrad",
        ),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AgentError, match=message):
        _agent(**settings)


@pytest.mark.parametrize(
    ("device", "message"), [("gpu", "device: 'gpu' is unknown"), ("cuda:99", "GPUs")]
)
def test_bad_devices_are_named(device: str, message: str) -> None:
    with pytest.raises(AgentError, match=message):
        MTSAC(_env(), device=device)


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    with pytest.raises(AgentError, match="does not exist"):
        MTSAC.load(path)
    _agent().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AgentError, match="truncated"):
        MTSAC.load(path)
    path.write_bytes(b"not a file of ours")
    with pytest.raises(AgentError, match="truncated or not a saved agent"):
        MTSAC.load(path)
    path.write_bytes(whole)
    with pytest.raises(AgentError, match="task_names"):
        MTSAC.load(path, env=_env("mt1:fake"))


def test_a_limit_of_rewards_bounds_returns() -> None:
    def bound(**settings: Any) -> float | None:
        return sac_settings(
            MTSACConfig(**settings), EnvSpec.of(_env()), torch.device("cpu")
        ).max_target

    assert bound(max_reward=10.0) == pytest.approx(1_000)
    assert bound(max_reward=10.0, gamma=0.999) == pytest.approx(10_000)
    # Sums without discount have no limit.
    assert bound() is None and bound(max_reward=10.0, gamma=1.0) is None


def test_agents_saved_before_specifications_had_a_graph_take_that_of_their_environment(
    tmp_path: Path,
) -> None:
    agent = _agent(curriculum="mrcl")
    saved = agent.saved()
    fields = json.loads(saved["about"]["spec"])
    del fields["builds_on"]
    saved["about"]["spec"] = json.dumps(fields)
    write_state(tmp_path / "agent", saved)
    env = _env()
    tasks = [replace(task, builds_on=("task-0",)) for task in env.suite.tasks[1:]]
    env.suite = replace(env.suite, tasks=(env.suite.tasks[0], *tasks))
    loaded = MTSAC.load(tmp_path / "agent", env, device="cpu")
    assert loaded._rounds.tasks.builds_on.tolist() == [[False] * 3, *[[True, False, False]] * 2]
    assert loaded.learn(60).env_steps == 60
