"""Meta-World's own evaluation runs our agents through the example's adapter."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from mtrl import MTPPO, get_suite
from mtrl.agents import EnvSpec

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "metaworld_evaluation.py"


def example() -> Any:
    spec = importlib.util.spec_from_file_location("metaworld_example", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_metaworlds_evaluation_runs_our_agent(tmp_path: Path) -> None:
    suite = get_suite("mt10")
    spec = EnvSpec(suite.id, suite.task_names, 39, (-1.0,) * 4, (1.0,) * 4)
    agent = MTPPO(spec, device="cpu", width=16)
    agent.save(tmp_path / "agent.safetensors")
    module = example()
    rates = module.evaluate(
        str(tmp_path / "agent.safetensors"), episodes=1, max_episode_steps=12
    )
    assert set(rates) == set(suite.task_names)
    assert all(rate in (0.0, 1.0) for rate in rates.values())
    obs = np.random.default_rng(0).normal(size=(10, 49))
    expected, _ = agent.predict(
        obs[:, :39].astype(np.float32), deterministic=True, task_id=np.arange(10)
    )
    np.testing.assert_array_equal(module.Adapter(agent).eval_action(obs), expected)


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60
