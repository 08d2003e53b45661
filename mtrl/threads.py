"""How long PyTorch's threads spin while they wait for each other. This must be set before PyTorch is imported.

PyTorch divides its work on a CPU among libgomp's threads. A waiting thread keeps its core busy for some milliseconds
before it sleeps. If another process uses one of these cores, threads spin while the thread they wait for is not
running. Seconds of 500 updates of mtsac on mt10 with two threads on two cores, quiet and beside one busy process:

    GOMP_SPINCOUNT            quiet   busy
    libgomp's own              19.7   97
    20,000                     22.2   64.1
    5,000                      24.7   40.4
    1,000                      25.5   31.7
    OMP_WAIT_POLICY=passive    26.0   32.9
    (one thread                28.5)

``scripts/benchmark_threads.py`` measures it. The commands choose 1,000. On a quiet machine that costs less time than
libgomp's own setting costs beside any other process. A program around ``mtrl.trainer.train`` has to choose itself, by a
call of ``spin_briefly`` before it imports torch.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SPIN_COUNT = 1_000


def spin_briefly(environment: MutableMapping[str, str] | None = None) -> None:
    """Let threads that wait go to sleep soon, unless GOMP_SPINCOUNT or OMP_WAIT_POLICY say otherwise.

    Libgomp reads its variables once, when it is loaded: in this process call this before torch is imported.

    Args:
        environment: of a process yet to be started; by default that of this process and its children.
    """
    variables = os.environ if environment is None else environment
    if "OMP_WAIT_POLICY" not in variables:
        variables.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
