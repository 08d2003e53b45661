from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtrl import train
from mtrl.agents import AgentError, DivergedError
from mtrl.envs import make_vec
from mtrl.extras import install_command
from mtrl.sb3 import SB3PPO, SB3SAC
from mtrl.sb3.agent import SB3Agent
from mtrl.sb3.streams import Streams
from mtrl.settings import presets
from mtrl.trainer import train as run
from tests.helpers.runs import final_record, final_state
from tests.mtrl.conftest import ShortConfig
from tests.mtrl.test_trainer import kill_at

PPO = {"method": "sb3-ppo", "agent__n_steps": 20, "agent__batch_size": 15, "agent__n_epochs": 2}
SAC = {"method": "sb3-sac", "agent__buffer_size": 300, "agent__learning_starts": 60, "agent__batch_size": 16,
       "agent__net_arch": (16,), "agent__train_freq": 2}  # fmt: skip


@pytest.mark.parametrize("suite", ["mt10:fake", "mt10:fake-inexact"])
@pytest.mark.parametrize("settings", [PPO, SAC], ids=["ppo", "sac"])
def test_killed_and_resumed_is_bit_identical(
    short_config: ShortConfig,
    suite: str,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = short_config("whole", suite=suite, **settings)
    with monkeypatch.context() as patch:
        writes = kill_at(float("inf"), patch)
        record = run(whole)
    assert record["status"] == "finished"
    assert record["method"]["agent"] == settings["method"]
    assert record["method"]["num_parameters"] > 500
    assert record["budget"]["gradient_steps"] >= 40
    expected = final_state(whole.folder), final_record(whole.folder)
    config = short_config("killed", suite=suite, **settings)
    for count in (writes[0] // 2, writes[0] // 3):
        with monkeypatch.context() as patch:
            kill_at(count, patch)
            with pytest.raises(SystemExit, match="killed"):
                run(config)
    run(config)
    assert (final_state(config.folder), final_record(config.folder)) == expected


@pytest.mark.parametrize("kind", [SB3PPO, SB3SAC])
def test_save_and_load(kind: type[SB3Agent], tmp_path: Path) -> None:
    suite = "mg3" if kind is SB3PPO else "mt1:reach-v3"
    env = make_vec(suite, 2, seed=0)
    settings: dict[str, Any] = {"n_steps": 32} if kind is SB3PPO else {"learning_starts": 20}
    agent = kind(env, seed=1, device="cpu", net_arch=(32,), **settings).learn(200)
    obs, _ = env.reset(seed=3)
    expected, _ = agent.predict(obs, deterministic=True)
    agent.save(tmp_path / "agent.safetensors")
    alone = kind.load(tmp_path / "agent.safetensors", device="cpu")
    np.testing.assert_array_equal(
        alone.predict(obs, deterministic=True, task_id=env.task_id)[0], expected
    )
    one, _ = alone.predict(obs[0], deterministic=True, task_id=env.task_id[:1])
    np.testing.assert_allclose(one, expected[0], atol=1e-6)
    assert alone.num_parameters == agent.num_parameters
    alone.set_env(make_vec(suite, 1, seed=0))
    assert alone.learn(agent.env_steps + 50).env_steps >= agent.env_steps + 50


def test_predicting_deterministically_takes_no_part_in_training() -> None:
    first, second = (
        SB3PPO(make_vec("mg3", seed=0), seed=1, device="cpu", n_steps=16) for _ in range(2)
    )
    first.learn(48)
    for _ in range(5):
        first.predict(first.env.reset(seed=2)[0], deterministic=True)
    second.learn(48)
    assert torch.equal(
        first.state_dict()["streams"]["torch"], second.state_dict()["streams"]["torch"]
    )


def test_losses_are_means_under_sb3s_names() -> None:
    agent = SB3PPO(
        make_vec("mg3", seed=0), seed=1, device="cpu", n_steps=200, batch_size=100
    ).learn(600)
    metrics = agent.metrics()
    assert {
        "train/value_loss",
        "train/policy_gradient_loss",
        "train/approx_kl",
        "rollout/ep_rew_mean",
    } <= set(metrics)
    assert not {"train/value_loss"} & set(agent.metrics())  # drained


def test_a_nan_is_named() -> None:
    agent = SB3SAC(make_vec("mt1:reach-v3", seed=0), device="cpu", learning_starts=5)
    agent.learn(10)
    with torch.no_grad():
        next(agent.model.actor.parameters())[0] = torch.nan
    with pytest.raises(
        DivergedError, match=r"actor\..* is not finite after \d+ gradient steps"
    ):
        agent.advance()
        agent.metrics()


@pytest.mark.parametrize(
    ("kind", "setting", "words"),
    [
        (SB3PPO, {"batch_size": 1}, "batch_size: 1 is out of range; it must be at least 2"),
        (SB3PPO, {"n_steps": 0}, "n_steps: 0 is not a whole number of at least 1"),
        (SB3PPO, {"gamma": 1.5}, "gamma: 1.5 is not a number of at least 0 and at most 1"),
        (SB3PPO, {"clip_rnge": 1}, "did you mean 'clip_range'"),
        (SB3SAC, {"learning_rate": 0.0}, "learning_rate: 0.0 is not a number above 0"),
        (SB3SAC, {"net_arch": (8, 0)}, "net_arch: 0 is not a whole number of at least 1"),
    ],
)
def test_bad_settings(kind: type[SB3Agent], setting: dict[str, Any], words: str) -> None:
    with pytest.raises(AgentError, match=words):
        kind(make_vec("mt1:reach-v3"), **setting)


def test_continuous_agent_on_a_discrete_suite() -> None:
    with pytest.raises(
        AgentError, match="mg3 has discrete actions; sb3-sac needs a bounded Box"
    ):
        SB3SAC(make_vec("mg3"))


def test_without_sb3_one_sentence(
    faked: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "baselines" in name else find(name)
    )
    assert (
        train.main(
            ["mt10:fake", "--method=sb3-ppo", f"--run-dir={tmp_path / 'run'}", "--device=cpu"]
        )
        == 2
    )
    command = install_command("stable-baselines3")
    assert capsys.readouterr().err == (
        f"mtrl.train: sb3-ppo needs stable-baselines3, which is not installed; run: {command}\n"
    )
    assert not (tmp_path / "run").exists()


def test_keys_of_their_own() -> None:
    for key in ("sb3-ppo.n_steps", "sb3_ppo.n_steps", "n_steps", "agent.n_steps"):
        assert (
            presets.resolve({"suite": "mt10", "method": "sb3-ppo", key: "64"}).flat()[
                "agent.n_steps"
            ]
            == 64
        )
    other = presets.resolve({"suite": "mt10", "method": "sb3-sac", "sb3-ppo.n_steps": "64"})
    assert "agent.n_steps" not in other.flat()


def test_streams_leave_the_global_generators_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    streams = Streams(torch.device("cpu"))
    outside = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002
    with streams:
        torch.manual_seed(5)
        first = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    saved = streams.state_dict()
    with streams:
        second = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    assert torch.equal(outside[0], torch.get_rng_state())
    assert outside[1] == np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002
    streams.load_state_dict(saved)
    with streams:
        assert torch.equal(torch.rand(3), second[0])
        np.testing.assert_array_equal(np.random.rand(3), second[1])  # noqa: NPY002
    assert not torch.equal(first[0], second[0])
