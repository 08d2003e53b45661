"""Random streams of an agent's own for code that draws from the global generators, as Stable-Baselines3 does."""

from __future__ import annotations

import random
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch


class Streams:
    """While entered, the global generators of PyTorch and NumPy continue these streams; outside nothing has changed.

    So an agent's draws depend on nothing else in the process, and can be saved and restored.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._inner = self._read()
        self._outer = self._inner

    def __enter__(self) -> Self:
        self._outer = self._read()
        self._write(self._inner)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inner = self._read()
        self._write(self._outer)

    def _read(self) -> tuple[Any, ...]:
        cuda = None if self._cuda is None else torch.cuda.get_rng_state(self._cuda)
        numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 the generator that SB3 draws from
        return torch.get_rng_state(), cuda, numpy_state, random.getstate()

    def _write(self, state: tuple[Any, ...]) -> None:
        torch_state, cuda, numpy_state, python_state = state
        torch.set_rng_state(torch_state)
        if self._cuda is not None and cuda is not None:
            torch.cuda.set_rng_state(cuda, self._cuda)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)

    def state_dict(self) -> dict[str, Any]:
        """Where the streams stand; Python's own generator is left out, since SB3's SAC and PPO never draw from it."""
        torch_state, cuda, numpy_state, _ = self._inner
        state = {
            "torch": torch_state,
            "numpy_key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "numpy_pos": int(numpy_state["state"]["pos"]),
            "numpy_has_gauss": int(numpy_state["has_gauss"]),
            "numpy_gauss": float(numpy_state["gauss"]),
        }
        return state if cuda is None else state | {"cuda": cuda}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict()``."""
        numpy_state = {
            "bit_generator": "MT19937",
            "state": {
                "key": state["numpy_key"].numpy().astype(np.uint32),
                "pos": state["numpy_pos"],
            },
            "has_gauss": state["numpy_has_gauss"],
            "gauss": state["numpy_gauss"],
        }
        cuda = state["cuda"].cpu() if "cuda" in state else self._inner[1]
        self._inner = (state["torch"].cpu(), cuda, numpy_state, self._inner[3])
