"""The device that is measured, and the machine around it."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from mtrl.agents.optim.precision import trunk_dtype
from scripts.gpu.report import Section


def find_device(name: str) -> torch.device:
    """``auto`` is a GPU if there is one. Exits with a sentence where the device is not there."""
    found = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if found else "cpu")
    if name == "cuda" and not found:
        raise SystemExit("device: 'cuda' is not there; PyTorch finds no GPU on this machine")
    return torch.device(name)


def answers(device: torch.device) -> bool:
    """Whether the device still computes."""
    try:
        return torch.ones(2, device=device).sum().item() == 2
    except RuntimeError:
        return False


def machine(section: Section, device: torch.device) -> None:
    """What the figures were measured on."""
    section.note("device", str(device))
    section.note("cpu", f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    section.note("torch", torch.__version__)
    section.note("torch_threads", torch.get_num_threads())
    section.note("precision", str(trunk_dtype("auto", device)).removeprefix("torch."))
    if device.type == "cuda":
        about: Any = torch.cuda.get_device_properties(device)
        section.note("gpu", about.name)
        section.note("gpu_memory_gib", about.total_memory / 2**30)
        section.note("cuda", torch.version.cuda)
