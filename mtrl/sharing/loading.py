"""The configuration and the agent of a run's folder or a shared folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtrl.agents import Agent
from mtrl.errors import ConfigError
from mtrl.settings.algorithms import agent_class
from mtrl.settings.config import TrainConfig, make_config
from mtrl.settings.presets import read_yaml


def load_trained(
    folder: Path, changes: dict[str, Any] | None = None
) -> tuple[TrainConfig, Agent]:
    """The configuration with ``changes``, and the newest agent, ready to predict.

    Raises:
        ConfigError: the folder is neither a run nor shared, or a change is not allowed.
        AgentError: it has no whole agent.
    """
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"RUN: {folder} is not a run folder (no config.yaml)")
    config = make_config(read_yaml(folder / "config.yaml") | (changes or {}))
    return config, agent_class(config.algorithm).load(folder, device=config.device)
