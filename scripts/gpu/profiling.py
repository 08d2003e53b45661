"""Where the time of an update goes, by operation."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from scripts.gpu.agents import sac_call
from scripts.gpu.report import Section
from scripts.gpu.timing import wait

TOP, UPDATES = 15, 5


def profiles(section: Section, device: torch.device) -> None:
    """The plain update and one with CAGrad."""
    for method in ("mean", "cagrad"):
        section.attempt(method, partial(_profile, device, method))


def _profile(device: torch.device, method: str) -> dict[str, Any]:
    call = sac_call(device, 1, 1_280, critic_aggregator=method)
    call()
    wait(device)
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        for _ in range(UPDATES):
            call()
        wait(device)
    events = found.key_averages()
    on_gpu = device.type == "cuda"

    def spent(event: Any) -> float:
        return float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)

    whole = sum(spent(event) for event in events)
    longest = sorted(events, key=spent, reverse=True)[:TOP]
    return {
        "milliseconds_per_update": whole / UPDATES / 1e3,
        "host_milliseconds_per_update": sum(e.self_cpu_time_total for e in events)
        / UPDATES
        / 1e3,
        "operations_per_update": sum(event.count for event in events) / UPDATES,
        "share": {event.key[:80]: round(spent(event) / whole, 4) for event in longest},
    }
