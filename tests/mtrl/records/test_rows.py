"""What a row is called and where its files stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtrl.records.rows import budget_name, changes, folder_name, label, place, told_apart
from mtrl.settings.presets import resolve


def params(**given: Any) -> dict[str, Any]:
    values = {key.replace("__", "."): value for key, value in given.items()}
    return resolve(
        {"suite": "mt10", "method": "mtppo", "total_env_steps": 3_000_000} | values
    ).flat()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, []),
        ({"seed": 3, "num_threads": 1, "eval__every": 7, "tensorboard": False}, []),
        ({"agent__rollout_per_task": 800}, ["rollout_per_task 800"]),
        ({"agent__precision": "fp32", "agent__heads": "one-hot"}, ["one-hot", "fp32"]),
        (
            {"agent__noise_correlation": 0, "agent__noise_until": 0.5},
            ["without noise_correlation", "noise_until 0.5"],
        ),
        ({"agent__popart_step": None}, ["without popart_step"]),
        ({"agent__popart_step": 0}, ["popart_step 0.0"]),
        (
            {"stagger": False, "agent__noise_by_failure": True},
            ["without stagger", "with noise_by_failure"],
        ),
        ({"agent__aggregator": "cagrad:c=0.9"}, ["aggregator cagrad:c=0.9"]),
        ({"method": "toppo", "agent__actor_aggregator": None}, ["without actor_aggregator"]),
        ({"method": "mtppo-cagrad", "agent__aggregator__c": 0.9}, ["aggregator cagrad:c=0.9"]),
        ({"method": "sb3-ppo", "agent__net_arch": [8, 8]}, ["net_arch 8,8"]),
        (
            {"backend": "stock", "eval__episodes_per_task": 5},
            ["backend stock", "eval.episodes_per_task 5"],
        ),
        ({"suite": "mg1:MemoryS7", "agent__memory": "gru"}, ["gru"]),
        (
            {"suite": "mg3", "agent__noise_correlation": 0, "agent__advantage_floor": 0},
            ["without advantage_floor"],
        ),
    ],
)
def test_words_for_what_differs_from_the_preset(
    given: dict[str, Any], words: list[str]
) -> None:
    assert list(changes(params(**given)).values()) == words


def test_choices_written_short_say_the_same() -> None:
    flat = {
        "suite": "mt10",
        "method": "mtppo",
        "algorithm": "mtppo",
        "agent.aggregator": "cagrad:c=0.9",
    }
    assert list(changes(flat).values()) == ["aggregator cagrad:c=0.9"]


def test_what_another_version_wrote_is_said_as_it_stands() -> None:
    assert list(changes({"algorithm": "td3", "agent.width": 3, "agent.aggregator": "x"}).values()) == [
        "algorithm td3", "width 3", "aggregator x"]  # fmt: skip


def test_told_apart_leaves_out_the_machine_the_protocol_and_what_does_nothing() -> None:
    assert (
        told_apart(params()).keys()
        == told_apart(params(seed=1, backend="stock", eval__seed=2)).keys()
    )
    assert told_apart(params()) == told_apart(
        params(seed=1, backend="stock", eval__seed=2, total_env_steps=9)
    )
    assert told_apart(params()) != told_apart(params(agent__noise_correlation=0))
    on_minigrid = [
        told_apart(params(suite="mg3", agent__noise_correlation=value)) for value in (0, 0.4)
    ]
    assert on_minigrid[0] == on_minigrid[1]


def test_places() -> None:
    assert place(params(seed=2)) == Path("mt10/3m/mtppo/seed-2.json")
    flat = params(suite="mt1:reach-v3", agent__precision="fp32", total_env_steps=80_000)
    assert place(flat) == Path("mt1-reach-v3/80k/mtppo-fp32/seed-0.json")


def test_a_method_of_ones_own_is_compared_with_its_file_or_else_the_plain_algorithm(
    tmp_path: Path,
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("algorithm: mtppo\nagent.width: 8\n")
    flat = params(method=str(file), agent__depth=3)
    assert place(flat, file).parent.name == "own-depth-3"
    assert place(flat).parent.name == "own-width-8-depth-3"
    shipped = tmp_path / "mtppo.yaml"
    shipped.write_text(file.read_text())
    assert (
        place(params(method=str(shipped)), shipped).parent.name
        == "mtppo-envs-per-task-1-width-8"
    )


@pytest.mark.parametrize(
    ("steps", "name"),
    [(1, "1"), (999, "999"), (1000, "1k"), (1500, "1.5k"), (200_000, "200k"), (315_000, "315k"), (1_000_000, "1m"),
     (1_400_000, "1.4m"), (1_000_001, "1.000001m"), (20_000_000, "20m"), (2_000_000_000, "2000m")],
)  # fmt: skip
def test_budgets_are_exact(steps: int, name: str) -> None:
    assert budget_name(steps) == name


def test_folders_are_safe_and_differ() -> None:
    expected = {
        "m": "m",
        "m, x 1": "m-x-1",
        "m, x -1": "m-x-minus-1",
        "m, x 1e-05": "m-x-1e-05",
        "m, x 1e+05": "m-x-1e05",
        "m, a b:c=-2.0": "m-a-b-c-minus-2.0",
        "m, a b:c=2.0": "m-a-b-c-2.0",
        "../m/../x": "m-..-x",
        "..": "method",
    }
    assert {row: folder_name(row) for row in expected} == expected
    long = [folder_name("m, " + "x" * length) for length in (300, 301)]
    assert long[0] != long[1]
    assert all(len(name) <= 120 for name in long)


def test_a_label_is_the_method_and_its_words() -> None:
    assert label("mtppo", []) == "mtppo"
    assert label("mtppo", ["fp32", "without stagger"]) == "mtppo, fp32, without stagger"
