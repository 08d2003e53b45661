"""A learned code of unit length for each task, concatenated to what the plain MLP reads.

With ``trained_by=critic`` it is what BRC (Nauman et al. 2025) conditions on: one code for actor and critics, trained by
the critic's loss alone. Codes are normalized in the forward pass, so gradients are those of the direction; code that
rescales the table in place leaves Adam's moments behind.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mtrl.agents.networks.bodies.body import Body, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.linear import of_members
from mtrl.agents.networks.parameters import Parameter
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
        code = normalize(p["code"], dim=-1).unsqueeze(2)
        every = of_members(x, len(code))
        # A view: the code is written out only where it joins the rows.
        rows = code.expand(-1, -1, x.shape[2], -1)
        return hidden_layers(p, torch.cat([every, rows], -1), self._wider(step.size))

    def _wider(self, size: Size) -> Size:
        return replace(size, inputs=size.inputs + self.code)


def normal(size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws standard normal numbers: every direction is as likely."""
    return torch.randn(size, generator=generator, device=generator.device)
