"""Stable-Baselines3's callbacks, evaluation and logger with our agents."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecMonitor

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError
from mtrl.envs import make_vec
from mtrl.sb3 import SB3PPO, SB3SAC, LogCallback, SB3VecEnv

SUITE, ENVS = "mt1:reach-v3", 2
STEPS = 80  # per rollout, of both environments together
SMALL: dict[type[Agent], dict[str, Any]] = {
    MTSAC: {
        "width": 8,
        "learning_starts": 10,
        "batch_per_task": 4,
        "utd_ratio": 0.1,
        "precision": "fp32",
    },
    MTPPO: {
        "width": 8,
        "rollout_per_task": STEPS,
        "epochs": 1,
        "minibatches": 2,
        "precision": "fp32",
    },
    SB3SAC: {
        "net_arch": (8,),
        "learning_starts": 10,
        "batch_size": 4,
        "buffer_size": 1_000,
        "train_freq": 5,
    },
    SB3PPO: {"net_arch": (8,), "n_steps": STEPS // ENVS, "n_epochs": 1, "batch_size": 40},
}
KINDS = pytest.mark.parametrize("kind", list(SMALL), ids=lambda kind: kind.name)
SB3_SLOW = pytest.mark.parametrize(
    "kind",
    [MTSAC, MTPPO, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (SB3SAC, SB3PPO))],
    ids=lambda kind: kind.name,
)
OURS = pytest.mark.parametrize("kind", [MTSAC, MTPPO], ids=lambda kind: kind.name)


def make(kind: type[Agent]) -> Agent:
    return kind(make_vec(SUITE, ENVS, seed=0), seed=1, device="cpu", **SMALL[kind])


class Diary(BaseCallback):
    """Notes every call, and stops at ``stop_at`` env steps."""

    def __init__(self, stop_at: float = float("inf")) -> None:
        super().__init__()
        self.stop_at = stop_at
        self.calls: list[str] = []
        self.steps: list[int] = []
        self.stored: list[int] = []
        self.episodes: list[dict[str, Any]] = []
        self.rewards = 0.0

    def _on_training_start(self) -> None:
        assert self.locals["total_timesteps"] > 0
        assert self.training_env.num_envs == ENVS
        self.calls.append("training_start")

    def _on_rollout_start(self) -> None:
        self.calls.append("rollout_start")

    def _on_step(self) -> bool:
        self.calls.append("step")
        self.steps.append(self.num_timesteps)
        self.rewards += float(self.locals["rewards"].sum())
        buffer = getattr(self.model, "_buffer", None)
        self.stored.append(len(buffer) if buffer is not None else -1)
        for done, info in zip(self.locals["dones"], self.locals["infos"], strict=True):
            assert ("terminal_observation" in info) == ("episode" in info) == done
            self.episodes += [info["episode"] | {"success": info["is_success"]}] if done else []
        return self.num_timesteps < self.stop_at

    def _on_rollout_end(self) -> None:
        self.calls.append("rollout_end")

    def _on_training_end(self) -> None:
        self.calls.append("training_end")


@KINDS
def test_callbacks_fire_where_sb3_fires_them(kind: type[Agent]) -> None:
    diary, agent = Diary(), make(kind)
    agent.learn(2 * STEPS, callback=diary)
    per_rollout = {MTSAC: 1, SB3SAC: 5}.get(kind, STEPS // ENVS)
    rollout = ["rollout_start", *["step"] * per_rollout, "rollout_end"]
    assert diary.calls == [
        "training_start",
        *rollout * (2 * STEPS // ENVS // per_rollout),
        "training_end",
    ]
    assert diary.steps == list(range(ENVS, 2 * STEPS + 1, ENVS))
    assert diary.n_calls == STEPS
    assert agent.num_timesteps == 2 * STEPS


def test_the_transition_is_stored_before_the_callback() -> None:
    diary = Diary()
    make(MTSAC).learn(40, callback=diary)
    assert diary.stored == diary.steps


@KINDS
def test_returning_false_stops_at_once_and_learning_goes_on_later(kind: type[Agent]) -> None:
    diary, agent = Diary(stop_at=50), make(kind)
    agent.learn(10_000, callback=[diary])
    assert agent.env_steps == diary.steps[-1] == 50
    assert diary.calls[-1] == "training_end"
    agent.learn(50 + STEPS)
    assert agent.env_steps == 50 + STEPS
    assert diary.steps[-1] == 50  # it belonged to the first call only


@OURS
def test_episodes_as_a_monitor_reports_them(kind: type[Agent]) -> None:
    diary, agent = Diary(), make(kind)
    agent.learn(1_040, callback=diary)
    assert [episode["l"] for episode in diary.episodes] == [500] * ENVS
    rollout = agent.metrics()
    assert rollout["rollout/ep_rew_mean"] == pytest.approx(
        np.mean([episode["r"] for episode in diary.episodes])
    )
    assert rollout["rollout/success_rate"] == np.mean(
        [episode["success"] for episode in diary.episodes]
    )


@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
@SB3_SLOW
def test_sb3s_own_callbacks_work(kind: type[Agent], tmp_path: Path) -> None:
    agent, vec = make(kind), VecMonitor(SB3VecEnv(make_vec(SUITE, ENVS, seed=5), encode=False))
    evaluation = EvalCallback(
        vec,
        n_eval_episodes=2,
        eval_freq=250,
        best_model_save_path=str(tmp_path / "best"),
        verbose=0,
        warn=False,
    )
    saving = CheckpointCallback(save_freq=STEPS // ENVS, save_path=str(tmp_path / "saved"))
    counted = Diary()
    callbacks = CallbackList(
        [evaluation, saving, EveryNTimesteps(40, counted), StopTrainingOnMaxEpisodes(1)]
    )
    agent.learn(1_120, callback=callbacks)
    assert agent.env_steps == 1_000  # the first episodes ended there
    assert counted.n_calls == 1_000 // 40
    assert evaluation.n_calls == 500
    assert np.isfinite(agent.logger.name_to_value["eval/mean_reward"])
    again = kind.load(tmp_path / "saved" / "rl_model_80_steps.zip", device="cpu")
    assert again.env_steps == STEPS
    best = kind.load(
        tmp_path / "best" / "best_model", env=make_vec(SUITE, ENVS, seed=5), device="cpu"
    )
    mean, _ = evaluate_policy(best, vec, n_eval_episodes=2, warn=False)
    assert best.env_steps in (500, 1_000)
    assert np.isfinite(mean)
    vec.close()


@OURS
def test_evaluate_policy_counts_what_our_evaluator_would(kind: type[Agent]) -> None:
    agent = make(kind)
    vec = SB3VecEnv(make_vec(SUITE, ENVS, seed=9), encode=False)
    vec.seed(9)
    rewards, lengths = evaluate_policy(
        agent, vec, n_eval_episodes=ENVS, return_episode_rewards=True, warn=False
    )
    env = make_vec(SUITE, ENVS, seed=9)
    obs, _ = env.reset(seed=9)
    total = np.zeros(ENVS)
    for _ in range(500):
        obs, reward, *_ = env.step(agent.predict(obs, deterministic=True)[0])
        total += reward
    assert lengths == [500] * ENVS
    np.testing.assert_allclose(rewards, total, rtol=1e-5)


@SB3_SLOW
def test_logger_keys_are_sb3s(kind: type[Agent], tmp_path: Path) -> None:
    agent = make(kind)
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    agent.learn(1_120, callback=LogCallback(every=400))
    rows = list(csv.DictReader((tmp_path / "progress.csv").open()))
    assert len(rows) == 3
    expected = {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "rollout/success_rate",
        "time/fps",
    }
    expected |= {"time/time_elapsed", "time/total_timesteps"}
    if kind in (MTSAC, SB3SAC):
        expected |= {"train/actor_loss", "train/critic_loss", "train/ent_coef"}
    else:
        expected |= {
            "train/policy_gradient_loss",
            "train/value_loss",
            "train/approx_kl",
            "train/clip_fraction",
        }
        expected |= {"train/explained_variance", "train/learning_rate"}
    assert expected <= set(rows[-1])
    assert [int(row["time/total_timesteps"]) for row in rows] == [400, 800, 1_120]
    assert float(rows[-1]["rollout/ep_len_mean"]) == 500


def test_something_else_as_a_callback() -> None:
    with pytest.raises(
        AgentError, match="callback: 3 is neither a function of the agent nor an SB3 callback"
    ):
        make(MTPPO).learn(80, callback=3)
