"""What callers get wrong, and the one sentence that names the field, the value and what is allowed."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers.vector import ClipReward
from safetensors.torch import save_file

from mtrl.agents import MTPPO, MTSAC, Agent, AgentError, MTSACConfig
from mtrl.sb3 import SB3VecEnv
from tests.helpers import fakes

SMALL: dict[type[Agent], dict[str, Any]] = {
    MTPPO: {"width": 16, "rollout_per_task": 40, "epochs": 1, "minibatches": 2},
    MTSAC: {"width": 16, "batch_per_task": 8, "learning_starts": 10, "buffer_per_task": 100},
}
both = pytest.mark.parametrize("kind", SMALL)


def _env() -> fakes.FakeEnv:
    return fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 0, "random", 0, 0.0)


def _agent(kind: type[Agent], **settings: Any) -> Agent:
    return kind(_env(), device="cpu", **SMALL[kind] | settings)


def _refused(action: Callable[[], Any]) -> str:
    """The message of the AgentError that ``action`` raises: one sentence, on one line, that begins with the field."""
    with pytest.raises(AgentError) as caught:
        action()
    message = str(caught.value)
    assert re.match(r"[a-z_]+: ", message)
    assert "\n" not in message and ". " not in message
    return message


FOREIGN: list[tuple[str, Callable[[], Any]]] = [
    ("ClipReward", lambda: ClipReward(_env(), max_reward=1.0)),
    ("SB3VecEnv", lambda: SB3VecEnv(_env())),
    ("SyncVectorEnv", lambda: gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")),
    ("TimeLimit", lambda: gymnasium.make("CartPole-v1")),
    ("str", lambda: "mt10"),
    ("NoneType", lambda: None),
]


@both
@pytest.mark.parametrize(("name", "make"), FOREIGN, ids=[name for name, _ in FOREIGN])
def test_foreign_and_wrapped_environments(
    kind: type[Agent], name: str, make: Callable[[], Any]
) -> None:
    expected = f"env: a {name} is no TaskVectorEnv; agents need what make_vec returns, without wrappers"
    assert _refused(lambda: kind(make())) == expected
    assert _refused(lambda: _agent(kind).set_env(make())) == expected


@both
@pytest.mark.parametrize("seed", [None, -1, 2**32, 1.5, 1.0, "1", True, np.True_])
def test_seeds(kind: type[Agent], seed: Any) -> None:
    message = _refused(lambda: _agent(kind, seed=seed))
    assert message == f"seed: {seed!r} is not an integer from 0 to 4294967295"


@both
def test_seeds_of_numpy_are_as_good_as_plain_ones(kind: type[Agent], tmp_path: Path) -> None:
    agent, plain = _agent(kind, seed=np.int64(3)).learn(120), _agent(kind, seed=3).learn(120)
    obs = np.zeros((6, 3), np.float32)
    np.testing.assert_array_equal(
        agent.predict(obs, deterministic=True)[0], plain.predict(obs, deterministic=True)[0]
    )
    agent.save(tmp_path / "agent")
    assert type(kind.load(tmp_path / "agent", device="cpu").seed) is int


def test_settings_of_another_agent() -> None:
    assert (
        _refused(lambda: MTPPO(_env(), MTSACConfig()))
        == "config: a MTSACConfig is no MTPPOConfig"
    )  # type: ignore[arg-type]


@both
@pytest.mark.parametrize("total", ["100", -1, 1.5, float("nan"), float("inf"), None, True])
def test_totals(kind: type[Agent], total: Any) -> None:
    agent = _agent(kind)
    message = _refused(lambda: agent.learn(total))
    assert message == f"total_env_steps: {total!r} is not a whole number of at least 0"
    assert agent.env_steps == 0


@both
@pytest.mark.parametrize("total", [120, 120.0, np.int64(120), np.float64(120)])
def test_whole_numbers_of_any_kind_are_totals(kind: type[Agent], total: Any) -> None:
    assert _agent(kind).learn(total).env_steps == 120


@both
def test_nothing_is_learned_for_no_steps(kind: type[Agent]) -> None:
    assert _agent(kind).learn(0).env_steps == 0


@both
def test_lists_are_as_good_as_arrays(kind: type[Agent]) -> None:
    agent, obs = _agent(kind), np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    expected, _ = agent.predict(obs, deterministic=True)
    for same in (
        obs.tolist(),
        list(obs),
        tuple(map(tuple, obs.tolist())),
        torch.from_numpy(obs),
    ):
        np.testing.assert_allclose(
            agent.predict(same, deterministic=True)[0], expected, rtol=1e-6
        )
    single, _ = agent.predict(obs[1].tolist(), deterministic=True, task_id=0)
    np.testing.assert_allclose(single, expected[1], rtol=1e-5)


@both
def test_integers_are_numbers(kind: type[Agent]) -> None:
    agent = _agent(kind)
    expected, _ = agent.predict(np.ones((6, 3), np.float32), deterministic=True)
    np.testing.assert_array_equal(
        agent.predict([[1, 1, 1]] * 6, deterministic=True)[0], expected
    )


@both
@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (np.zeros((6, 4)), "shape (6, 4) does not fit; it must be (3,) or (n, 3)"),
        (np.zeros((2, 3, 3)), "shape (2, 3, 3) does not fit"),
        (np.zeros(()), "shape () does not fit"),
        (1.5, "shape () does not fit"),
        (
            [[0.0, 1.0], [0.0]],
            "this list is no array of numbers; give one of shape (3,) or (n, 3), such as reset()[0]",
        ),
        ((np.zeros((6, 3)), {}), "this tuple is no array of numbers"),
        (None, "this NoneType is no array of numbers"),
        ({"obs": np.zeros((6, 3))}, "this dict is no array of numbers"),
        (np.array([["a", "b", "c"]]), "this ndarray is no array of numbers"),
        (np.zeros((6, 3), complex), "this ndarray is no array of numbers"),
        (torch.zeros((6, 3), requires_grad=True), "this Tensor is no array of numbers"),
    ],
)
def test_observations(kind: type[Agent], observation: Any, words: str) -> None:
    agent = _agent(kind)
    assert _refused(lambda: agent.predict(observation)).startswith(f"observation: {words}")


@both
@pytest.mark.parametrize(
    "task_id", ["reach-v3", 0.5, [0, 1], np.zeros((6, 1), int), [None] * 6]
)
def test_task_ids(kind: type[Agent], task_id: Any) -> None:
    agent = _agent(kind)
    message = _refused(lambda: agent.predict(np.zeros((6, 3)), task_id=task_id))
    assert message.startswith("task_id: ") and message.endswith(
        "is neither an integer nor one for each of 6 observations"
    )


@both
def test_files(kind: type[Agent], tmp_path: Path) -> None:
    torn, empty, foreign = tmp_path / "torn", tmp_path / "empty", tmp_path / "foreign"
    _agent(kind).save(torn)
    torn.write_bytes(torn.read_bytes()[:100])
    empty.touch()
    save_file({"weight": torch.zeros(2)}, foreign)
    other = tmp_path / "other"
    _agent(MTSAC if kind is MTPPO else MTPPO).save(other)
    for path, words in {
        tmp_path: "is a folder without an agent; give a file that save wrote",
        tmp_path / "none": "does not exist",
        torn / "agent": "does not exist",
        Path(os.devnull): "cannot be read (",
        torn: "is truncated or not a saved agent (",
        empty: "is truncated or not a saved agent (",
        foreign: "is a safetensors file but holds no saved agent",
        other: "holds agent ",
    }.items():
        assert _refused(lambda path=path: kind.load(path)).startswith(f"path: {path} {words}")  # type: ignore[misc]


@both
@pytest.mark.parametrize("header", ['{"gain": 1}', "[]", "3", "{"])
def test_safetensors_files_of_other_programs(
    kind: type[Agent], header: str, tmp_path: Path
) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "file", metadata={"json": header})
    assert _refused(lambda: kind.load(tmp_path / "file")).startswith(
        f"path: {tmp_path / 'file'} "
    )


@both
def test_learning_to_a_total_that_is_already_reached_warns(
    kind: type[Agent], tmp_path: Path
) -> None:
    agent = _agent(kind).learn(800)
    agent.save(tmp_path / "agent.safetensors")
    loaded = kind.load(tmp_path / "agent.safetensors", env=_env())
    taken = agent.env_steps
    said = rf"learn\(800\) trains nothing: .* taken {taken} env steps; learn\({800 + taken}\) trains"
    with pytest.warns(UserWarning, match=said):
        loaded.learn(800)
    assert loaded.env_steps == taken
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded.learn(800 + taken)
    assert loaded.env_steps >= 800 + taken
