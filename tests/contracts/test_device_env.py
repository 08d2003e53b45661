"""An environment whose arrays are tensors on a device: agents learn as from the same one of numpy, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mtrl import make_vec
from mtrl.agents import MTPPO, MTSAC, Agent
from mtrl.agents.data.arrays import host, placed
from mtrl.agents.data.normalize import ObsNormalizer
from mtrl.agents.data.tracking import EpisodeTracker
from mtrl.agents.files import read_state, write_state
from mtrl.agents.state import difference
from mtrl.envs import TaskVectorEnv
from mtrl.evaluation.evaluator import Evaluator
from tests.helpers import fakes
from tests.helpers.device import CHIP, ChipEnv, OnChip, Watch

PPO: dict[str, Any] = {"width": 8, "rollout_per_task": 20, "epochs": 2, "minibatches": 2}
SAC: dict[str, Any] = {"width": 8, "batch_per_task": 8, "learning_starts": 6}
NOISE = {"noise_correlation": 0.5, "noise_by_failure": True, "curriculum": "success-pacing"}
MEMORY = {"memory": "gru", "sequence": 5}


def _numbers() -> TaskVectorEnv:
    return fakes.FakeEnv(fakes.get_suite("mt10:fake"), 2, 1, "random", 0, 0.0)


def _bytes() -> TaskVectorEnv:
    return make_vec("mg3", 2, seed=1)


Case = tuple[type[Agent], Callable[[], TaskVectorEnv], dict[str, Any], int]
CASES: dict[str, Case] = {
    "ppo": (MTPPO, _numbers, PPO, 240),
    "ppo-noise-and-pauses": (MTPPO, _numbers, PPO | NOISE, 300),
    "sac": (MTSAC, _numbers, SAC, 96),
    "sac-curriculum": (MTSAC, _numbers, SAC | {"curriculum": "success-focal"}, 180),
    "ppo-grid-memory": (MTPPO, _bytes, PPO | MEMORY, 120),
    "sac-grid": (MTSAC, _bytes, SAC, 72),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


@pytest.fixture(autouse=True)
def watch() -> Iterator[Watch]:
    with Watch() as watching:
        yield watching
    assert not watching.log.waits


def _agent(case: Case, on_device: bool) -> Agent:
    kind, make, settings, _ = case
    env = make()
    return kind(ChipEnv(env) if on_device else env, seed=1, device="cpu", **settings)


@every
def test_learning_resuming_and_evaluating_equal_those_on_numpy_in_every_bit(
    case: Case, tmp_path: Path
) -> None:
    kind, make, _, total = case
    plain = _agent(case, on_device=False).learn(total)
    agent = _agent(case, on_device=True)
    # Not ``learn``, whose schedules would end half way.
    agent.begin(total)
    while agent.env_steps < total // 2:
        agent.advance()
    write_state(tmp_path / "state", {"agent": agent.state_dict()})
    resumed = _agent(case, on_device=True)
    resumed.env.load_state_dict(agent.env.state_dict())
    resumed.load_state_dict(read_state(tmp_path / "state")["agent"])
    for other in (agent, resumed):
        other.learn(total)
        assert other.gradient_steps == plain.gradient_steps > 0
        assert difference(other, plain) is None
    assert agent.metrics().keys() == plain.metrics().keys()
    agent.save(tmp_path / "agent")
    loaded = kind.load(tmp_path / "agent", device="cpu")
    if make is _numbers:
        there = Evaluator(ChipEnv(make()), 2).evaluate(loaded)
        assert there == Evaluator(make(), 2).evaluate(plain)
    # Episodes of grids are long, so that only their beginning is compared.
    np.testing.assert_array_equal(_acts(loaded, ChipEnv(make())), _acts(plain, make()))
    loaded.set_env(ChipEnv(make()))
    action, _ = loaded.predict(loaded.env.reset()[0])
    assert isinstance(action, OnChip)


def _acts(agent: Agent, env: TaskVectorEnv) -> NDArray[Any]:
    """The actions of 30 deterministic steps, carrying memory on as an evaluation does."""
    obs, state, actions = env.reset(seed=3)[0], None, []
    start = placed(np.ones(env.num_envs, bool), env.device)
    for _ in range(30):
        action, state = agent.predict(obs, state, start, True, task_id=env.task_id)
        obs, _, terminated, truncated, _ = env.step(action)
        start = terminated | truncated
        actions.append(host(action).copy())
    return np.stack(actions)


def test_a_vector_step_crosses_to_the_agent_once_and_is_stored_at_once(watch: Watch) -> None:
    agent = _agent(CASES["ppo"], on_device=True).learn(60)
    with watch.part() as log:
        agent.learn(120)
    # 10 vector steps, each with the observations to act on; then the rollout, and three statistics of tasks.
    assert len(log.down) == 10 + 1 + 3
    agent = _agent(CASES["sac"], on_device=True).learn(48)
    with watch.part() as log:
        agent.learn(108)
    # 10 vector steps, each with the observations to act on and the transitions to store.
    assert len(log.down) == 2 * 10


def test_what_is_kept_of_every_step_stays_on_the_device() -> None:
    agent: Any = _agent(CASES["ppo-noise-and-pauses"], on_device=True).learn(240)
    kept = (agent._obs, agent._normalizer._mean, agent._episodes.recent_success)
    assert all(array.device == CHIP for array in kept)


def test_the_normalizer_goes_with_the_rows_that_it_counts() -> None:
    rows = np.random.default_rng(0).normal(3.0, 2.0, (12, 4))
    there = OnChip(torch.from_numpy(rows.copy()))
    moved, plain = ObsNormalizer(4), ObsNormalizer(4)
    for given, normalizer in ((rows, plain), (rows, plain), (there, moved), (rows, moved)):
        normalizer.count(given)
    assert isinstance(moved(there), OnChip) and isinstance(moved(rows), np.ndarray)
    assert np.array_equal(moved(rows), plain(rows))
    assert np.array_equal(moved(there).cpu().numpy(), plain(rows))


def test_episodes_are_counted_alike() -> None:
    rng = np.random.default_rng(0)
    plain, there = EpisodeTracker(("a", "b"), 3), EpisodeTracker(("a", "b"), 3, CHIP)
    for _ in range(40):
        step = rng.normal(size=6), rng.random(6) < 0.3, rng.random(6) < 0.2
        active = rng.random(2) < 0.8
        plain.add(*step, active)
        there.add(*[OnChip(torch.from_numpy(part)) for part in (*step, active)])
    assert difference(plain, there) is None and plain.drain() == there.drain() != {}
