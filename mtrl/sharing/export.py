"""A policy as one program that PyTorch or ONNX Runtime runs without this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtrl.agents import MTPPO, MTSAC, Agent
from mtrl.agents.data.normalize import CLIP
from mtrl.agents.on_policy import OnPolicyAgent
from mtrl.errors import ConfigError, WorkbenchError
from mtrl.training.run_folder import writing

FORMATS = (".onnx", ".pt2")


class DeterministicPolicy(nn.Module):
    """``forward(obs [n, D] float32, task_id [n] int64)`` gives the actions of ``predict(deterministic=True)``.

    Observations are normalized inside. Continuous actions ``[n, A]`` are those of the environment's bounds, discrete
    ones are int64 ``[n]``.

    Raises:
        ConfigError: an agent with memory, with separate networks, with grid observations, or that is not ours.
    """

    log_std: Tensor | None
    mean: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        _check(agent)
        assert isinstance(agent, MTPPO | MTSAC)
        self._network, self._policy = agent.actor, agent.policy
        self._one_hot = agent.config.heads == "one-hot"
        self._num_tasks, self._discrete = agent.spec.num_tasks, agent.spec.discrete
        params = agent.state["actor"]["params"].detach().cpu().float()
        self._views = self._network.views(params, torch.float32)
        self.register_buffer("log_std", _log_std(agent))
        mean, scale, self._clip = _normalizer(agent)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("low", torch.tensor(agent.spec.action_low))
        self.register_buffer("high", torch.tensor(agent.spec.action_high))

    def forward(self, obs: Tensor, task_id: Tensor) -> Tensor:
        x = obs
        if self._clip:
            # In float64, as the agent does: a feature that hardly varies has a large scale.
            x = ((obs.double() - self.mean) * self.scale).clamp(-CLIP, CLIP).float()
        if self._one_hot:
            x = torch.cat([x, nn.functional.one_hot(task_id, self._num_tasks).to(x.dtype)], 1)
        # Networks are called task-major, so each row goes through all tasks' networks and gets its own's outputs.
        every = self._network.forward(self._views, x.expand(1, self._num_tasks, -1, -1))[0]
        output = every[task_id, torch.arange(x.shape[0], device=x.device)]
        log_std = None if self.log_std is None else self.log_std[task_id]
        action = self._policy.of_rows(task_id).mode(output, log_std)
        if self._discrete:
            return action
        return self.low + (action.clamp(-1, 1) + 1) * 0.5 * (self.high - self.low)


def _check(agent: Agent) -> None:
    if not isinstance(agent, MTPPO | MTSAC):
        raise ConfigError(f"RUN: {agent.name} cannot be exported; mtppo and mtsac can")
    if agent.spec.layout is not None:
        raise ConfigError("RUN: agents with grid observations cannot be exported")
    if agent.config.heads == "separate":
        raise ConfigError("RUN: agents with separate networks cannot be exported")
    if getattr(agent, "sequence", 0):
        raise ConfigError("RUN: agents with memory cannot be exported")


def _log_std(agent: Any) -> Tensor | None:
    if "log_std" not in agent.state:
        return None
    found: Tensor = agent.state["log_std"]["params"].detach().cpu().flatten(0, 1)
    return found


def _normalizer(agent: Any) -> tuple[Tensor, Tensor, bool]:
    """Mean and scale ``[D]`` float64 of observations, and whether they are used."""
    size = agent.spec.obs_dim
    if not isinstance(agent, OnPolicyAgent) or not agent.config.normalize_obs:
        return torch.zeros(size).double(), torch.ones(size).double(), False
    state = agent.state_dict(experience=False)["normalizer"]
    variance = state["sum_sq"] / max(state["count"], 1.0)
    scale = 1 / torch.sqrt(variance + 1e-8) if state["count"] else torch.ones(size).double()
    return state["mean"].double(), scale, True


def export(agent: Agent, file: Path) -> Path:
    """Write the deterministic policy for batches of any size, with the tasks' names in the file. Returns it.

    Args:
        file: ending in ``.pt2`` for ``torch.export.load``, or ``.onnx`` for ONNX Runtime.

    Raises:
        ConfigError: another ending, or an agent that cannot be exported.
        WorkbenchError: a package for ONNX is missing, or the file cannot be written.
    """
    if file.suffix not in FORMATS:
        raise ConfigError(f"FILE: {file} does not end in {' or '.join(FORMATS)}")
    policy = DeterministicPolicy(agent).eval()
    example = torch.zeros(3, agent.spec.obs_dim), torch.zeros(3, dtype=torch.int64)
    rows = torch.export.Dim("rows", min=1)
    with torch.no_grad():
        program = torch.export.export(policy, example, dynamic_shapes=({0: rows}, {0: rows}))
    tasks = json.dumps(list(agent.spec.task_names))
    with writing(file):
        if file.suffix == ".onnx":
            _write_onnx(program, file, tasks)
        else:
            torch.export.save(program, file, extra_files={"tasks.json": tasks})
    return file


def _write_onnx(program: Any, file: Path, tasks: str) -> None:
    try:
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError:
        raise WorkbenchError(
            "ONNX needs the packages onnx and onnxscript; install them with: pip install onnx onnxscript"
        ) from None
    names = {"input_names": ["obs", "task_id"], "output_names": ["action"]}
    made = torch.onnx.export(program, dynamo=True, verbose=False, **names)  # type: ignore[arg-type]
    assert made is not None
    made.model.metadata_props["tasks"] = tasks
    made.save(str(file))
