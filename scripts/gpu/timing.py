"""Rates of calls on a device, which returns from a call before the work is done."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import torch


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(call: Callable[[], Any], device: torch.device, seconds: float) -> dict[str, float]:
    """Calls a second over about ``seconds``, after two calls to warm up (one where it alone takes that long)."""
    first = once(call, device)
    if first < seconds:
        once(call, device)
    calls = 0
    begun = time.perf_counter()
    while calls == 0 or time.perf_counter() - begun < seconds:
        # Looking at the clock after every call would wait for the device each time.
        for _ in range(10 if first < seconds / 20 else 1):
            call()
            calls += 1
        wait(device)
    taken = time.perf_counter() - begun
    return {"per_second": calls / taken, "calls": calls, "first_seconds": first}


def once(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - begun


def memory(device: torch.device) -> dict[str, float]:
    """Peak memory since the last call, in GiB: the device's, and the process's since its start."""
    found = {"process_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if device.type == "cuda":
        found["device_peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        torch.cuda.reset_peak_memory_stats(device)
    return found
