"""Planned totals: what is taken, what a run that is continued under another total says of itself, and whose hours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtrl import train as train_command
from mtrl.errors import ConfigError, InterruptedTraining
from mtrl.settings.presets import resolve
from mtrl.trainer import train, train_together
from mtrl.training import clock
from mtrl.training.clock import Clock
from mtrl.training.plan import extended
from tests.helpers.fakes import FakeAgent
from tests.mtrl.conftest import ShortConfig
from tests.mtrl.test_commands import complaint


def segments(record: dict[str, Any]) -> list[tuple[int, int]]:
    return [tuple(part.values()) for part in record["budget"]["segments"]]


def test_a_lengthened_run_is_told_from_a_straight_one(short_config: ShortConfig) -> None:
    first = train(short_config(total_env_steps=300), "first")
    longer = train(short_config(total_env_steps=600), "second")
    straight = train(short_config("straight", total_env_steps=600), "only")
    assert segments(first) == [(0, 300)]
    assert segments(longer) == [(0, 300), (300, 600)]
    assert segments(straight) == [(0, 600)]
    assert longer["provenance"]["commands"] == ["first", "second"]
    assert straight["provenance"]["commands"] == ["only"]
    assert longer["run_id"] == straight["run_id"]


def test_every_command_of_an_interrupted_run_is_kept_and_its_plan_stays_one(
    short_config: ShortConfig,
) -> None:
    """A stop in between is no other plan."""
    config = short_config(total_env_steps=300)
    train(config, "first")
    done = [0]

    def stop() -> bool:
        done[0] += 1
        return done[0] > 40

    longer = short_config(total_env_steps=900)
    with pytest.raises(InterruptedTraining):
        train(longer, "second", stop)
    record = train(longer, "third")
    assert segments(record) == [(0, 300), (300, 900)]
    assert record["provenance"]["commands"] == ["first", "second", "third"]


def test_a_total_that_nothing_was_trained_under_leaves_no_trace(
    short_config: ShortConfig,
) -> None:
    """An inexact environment saves at boundaries only, so the next start goes on from 360 again."""
    suite = "mt10:fake-inexact"
    train(short_config(suite=suite, total_env_steps=360))
    with pytest.raises(InterruptedTraining):
        train(short_config(suite=suite, total_env_steps=900), should_stop=lambda: True)
    record = train(short_config(suite=suite, total_env_steps=600))
    assert segments(record) == [(0, 360), (360, 600)]


def test_segments_by_hand() -> None:
    def plan(*parts: tuple[int, int]) -> list[dict[str, Any]]:
        return [{"env_steps": at, "total_env_steps": total} for at, total in parts]

    assert extended(plan((0, 8)), 4, 8) == plan((0, 8))
    assert extended(plan((0, 8)), 8, 16) == plan((0, 8), (8, 16))
    assert extended(plan((0, 8)), 4, 6) == plan((0, 8), (4, 6))
    # The second total was set at 4, where the run stands again: nothing was trained under it.
    assert extended(plan((0, 8), (4, 16)), 4, 12) == plan((0, 8), (4, 12))
    assert extended(plan((0, 8), (4, 16)), 4, 8) == plan((0, 8))
    assert extended(plan((0, 8)), 0, 16) == plan((0, 16))


def test_fewer_env_steps_than_are_done_is_an_error(
    short_config: ShortConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = train(short_config())
    with pytest.raises(
        ConfigError, match="total_env_steps: 300 is less than the 600 env steps"
    ):
        train(short_config(total_env_steps=300))
    capsys.readouterr()
    words = ["--resume", str(tmp_path / "run"), "--total-env-steps=300"]
    assert "it must be at least that" in complaint(
        "mtrl.train", train_command.main(words), capsys
    )
    assert train(short_config()) == before


def test_one_sentence_where_a_schedule_follows_the_total(
    short_config: ShortConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(short_config(total_env_steps=300))
    assert "step sizes follow" not in capsys.readouterr().err
    monkeypatch.setattr(FakeAgent, "follows_total", True)
    train(short_config(total_env_steps=600))
    assert (
        "total_env_steps: 600 instead of 300; step sizes follow the planned total and jump at 300"
        in (capsys.readouterr().err)
    )
    train(short_config(total_env_steps=600))
    assert "step sizes follow" not in capsys.readouterr().err


def test_agents_know_whether_they_follow_the_total_and_where_they_end() -> None:
    from mtrl import make_vec
    from mtrl.settings.algorithms import agent_class

    env = make_vec("mg1:Empty-5x5", 8)
    for method, follows, end in (
        ("mtppo", True, 16_000 + 2_000),
        ("mtsac", False, 16_008),
        ("sb3-ppo", False, 2_048 * 8),
    ):
        config = resolve(
            {"suite": "mg1:Empty-5x5", "method": method, "total_env_steps": 16_001}
        )
        agent = agent_class(config.algorithm)(env, config.agent, device="cpu")
        assert (agent.follows_total, agent.ends_at(16_001)) == (follows, end), method
    constant = resolve({"suite": "mg1:Empty-5x5", "agent.schedule": "constant"})
    assert not agent_class("mtppo")(env, constant.agent, device="cpu").follows_total
    paced = resolve({"suite": "mg1:Empty-5x5", "agent.curriculum": "success-pacing"})
    assert agent_class("mtppo")(env, paced.agent, device="cpu").ends_at(16_001) is None


def test_what_will_be_taken_is_said_at_the_start(
    short_config: ShortConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    record = train(short_config(total_env_steps=100))
    words = (
        "total_env_steps: 100 is not a multiple of a rollout or vector step: 102 will be taken"
    )
    assert words in capsys.readouterr().err
    assert record["budget"]["env_steps"] == 102
    train(short_config("even", total_env_steps=90))
    assert "will be taken" not in capsys.readouterr().err


def test_seconds_of_a_process_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    shared = Clock(2)
    now[0] += 6.0
    assert shared.seconds() == 3.0
    shared.leave()
    now[0] += 4.0
    assert shared.seconds() == 7.0


def test_hours_of_seeds_that_train_together_add_up(
    short_config: ShortConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def tick() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(clock.time, "monotonic", tick)
    configs = [
        short_config(f"seed-{seed}", seed=seed, total_env_steps=90) for seed in (1, 2, 3)
    ]
    records = train_together(configs)
    walls = [record["evaluations"][-1]["wall_s"] for record in records]
    assert sum(walls) <= now[0]
    assert sum(walls) > 0.5 * now[0]
