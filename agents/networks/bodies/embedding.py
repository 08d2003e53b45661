"""A learned code of unit length for each task, concatenated to what the plain MLP reads.

With ``trained_by=critic`` it is what BRC (Nauman et al. 2025) conditions on: one code for actor and critics, trained by
the critic's loss alone. Codes are normalized in the forward pass, so gradients are those of the direction; code that
rescales the table in place leaves Adam's moments behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.linear import of_members
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.shown import SIMILARITY, Matrices, Shown, similarity
from mtrl.agents.settings import Count, settings

Trainer = Literal["critic", "both", "each"]


@settings
class Embedding(Body):
    """The plain MLP on ``[x; e_t / |e_t|]``."""

    code: Count = 32
    """Numbers in a task's code."""
    trained_by: Trainer = "critic"
    """Whose losses train one code for actor and critics: the critic's or both; each is a code for each network."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        tied = None if self.trained_by == "each" else self.trained_by
        code = Parameter((self.code,), normal, "owned", exact=True, tied=tied)
        return hidden_parameters(self._wider(size)) | {"code": code}

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        return hidden_layers(p, with_code(x, p["code"]), self._wider(step.size))

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {"similarity": SIMILARITY}

    def shows(self, look: Look) -> Matrices:
        p = look.p
        return {"similarity": [similarity(p["code"])]}

    def _wider(self, size: Size) -> Size:
        return replace(size, inputs=size.inputs + self.code)


def with_code(x: Tensor, code: Tensor) -> Tensor:
    """Rows of ``x`` ``[S, T, b, in]`` with the unit vector along ``code`` ``[K, T, n]``, ``[K, T, b, in + n]``."""
    rows = of_members(x, len(code))
    unit = normalize(code, dim=-1).unsqueeze(2)
    # A view: the code is written out only where it joins the rows.
    every = unit.expand(-1, -1, rows.shape[2], -1)
    return torch.cat([rows, every.to(rows.dtype)], -1)


def normal(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws standard normal numbers: every direction is as likely."""
    return torch.randn(size, generator=generator, device=generator.device)
