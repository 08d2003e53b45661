"""Contextual attention over encoders (CARE, Sodhani et al. 2021): a task's code mixes encoders of the observation.

Encoders and task code are the same in actor and critics, and trained by the critic's loss alone; on MiniGrid so is the
network's encoder. The paper's agent is SAC, whose critics value actions, so their loss asks for all that an action
depends on. PPO's critic values states, and features that are made for it may leave out what tells actions apart: there
``trained_by`` is both unless it is set.

Three readings: the code's frozen input is the words of a task's name, as a unit vector with a number for each word of
the suite, where the paper takes a sentence through a language model; ``metadata=none`` learns it instead. Targets
follow all of a critic at one rate. The heads are those of the agent's settings, where the paper has one head.

Public code detaches the code's gradient by a setting whose key is mistyped, so it never does; another has encoders of
its own for actor and critic, which is another method.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self

import torch
from torch import Tensor

from mtrl.agents.errors import AgentError
from mtrl.agents.networks.bodies.body import Body, Look, Step
from mtrl.agents.networks.layers import (
    Named,
    Size,
    affine,
    affine_parameters,
    as_members,
    hidden_layers,
    hidden_parameters,
    named,
    part_of,
    several,
)
from mtrl.agents.networks.linear import linear, of_members, over_rows, task_rows
from mtrl.agents.networks.mixture import mix
from mtrl.agents.networks.parameters import Parameter, he_uniform, table
from mtrl.agents.networks.shown import SIMILARITY, Matrices, Shown, similarity
from mtrl.agents.settings import Count, settings

METADATA_UNITS = 100
"""Units of the layer that reads metadata."""


@settings
class CARE(Body):
    """The plain MLP on ``[Σ_e a_te E_e(s); c_t]``, in a critic also of the action, with ``a_t = softmax(MLP(c_t))``.

    No gradient passes from ``a_t`` to the task's code ``c_t``.
    """

    encoders: Count = 6
    """Encoders that are mixed; 6 on MT10 and 10 on MT50 in the paper."""
    units: Count = 50
    """Units of the layers of encoders, task code and attention."""
    metadata: Literal["words", "none"] = "words"
    """What the code is made of: the words of the task's name, or numbers that are learned for each task."""
    trained_by: Literal["critic", "both"] | None = None
    """Whose losses train encoders and code: the critic's, or those of actor and critic. None is the critic's in MTSAC,
    as in the paper, and both in MTPPO, whose critic does not value actions."""

    @property
    def encoder_tied(self) -> Literal["critic", "both"]:
        return self.trained_by or "critic"

    def for_state_values(self) -> Self:
        # What tells states apart by their value need not tell which action to take.
        return self if self.trained_by else replace(self, trained_by="both")

    def parameters(self, size: Size) -> dict[str, Parameter]:
        units = self.units
        if self.metadata == "words":
            words = word_vectors(size.task_names)
            inputs = len(words[0])
            found = {"metadata": Parameter((inputs,), table(words), "fixed", exact=True)}
            found |= affine_parameters("code.0", METADATA_UNITS, inputs, exact=True)
            found |= affine_parameters("code.1", units, METADATA_UNITS, exact=True)
        else:
            found = {"metadata": Parameter((units,), he_uniform(1), "owned", exact=True)}
        for layer in ("code.2", "code.3", "attention.0"):
            found |= affine_parameters(layer, units, units, exact=True)
        found |= affine_parameters("attention.1", self.encoders, units, exact=True)
        encoder = named("encoder", hidden_parameters(self._encoder(size)))
        encoder |= affine_parameters("encoder.last", units, units)
        found |= several(self.encoders, encoder)
        tied = {}
        for name, parameter in found.items():
            is_fixed = parameter.kind == "fixed"
            tied[name] = parameter if is_fixed else replace(parameter, tied=self.encoder_tied)
        return tied | named("trunk", hidden_parameters(self._trunk(size)))

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        size = step.size
        code, attention = self.attention(p)
        # Encoders are the actor's too, which has no action to read.
        observed, action = x.split([size.inputs - size.actions, size.actions], -1)
        encoders = as_members(part_of(p, "encoder"))
        hidden = hidden_layers(encoders, observed, self._encoder(size))
        outputs = linear(hidden, encoders["last.weight"], encoders["last.bias"])
        by_encoder = outputs.float().unflatten(0, (-1, self.encoders))
        batch = x.shape[2]
        mixed = mix(by_encoder, over_rows(attention, batch))
        action = of_members(action, len(mixed))
        inputs = torch.cat([mixed, over_rows(code, batch), action], -1)
        return hidden_layers(part_of(p, "trunk"), inputs, self._trunk(size))

    def attention(self, p: Named) -> tuple[Tensor, Tensor]:
        """The tasks' codes ``[K, T, parts, units]`` and their weights of the encoders ``[K, T, parts, encoders]``."""
        code = task_rows(p["metadata"], p["code.2.weight"])
        if self.metadata == "words":
            code = affine(p, "code.0", code).relu()
            code = affine(p, "code.1", code)
        code = affine(p, "code.2", code.relu())
        code = affine(p, "code.3", code.relu())
        # Attention reads the code but must not shape it: the paper stops this gradient.
        hidden = affine(p, "attention.0", code.detach()).relu()
        return code, affine(p, "attention.1", hidden).softmax(-1)

    @property
    def shown(self) -> Mapping[str, Shown]:
        return {
            "attention": Shown(
                rows="tasks",
                columns="encoders",
            ),
            "similarity": SIMILARITY,
        }

    def shows(self, look: Look) -> Matrices:
        p = look.p
        code, attention = self.attention(p)
        return {
            "attention": [attention[:, :, 0]],
            "similarity": [similarity(code[:, :, 0])],
        }

    def _encoder(self, size: Size) -> Size:
        """The hidden layers of an encoder."""
        observed = size.inputs - size.actions
        # Actor and critic may differ in activation, but not in what they have in common.
        return replace(size, inputs=observed, width=self.units, depth=2, activation="relu")

    def _trunk(self, size: Size) -> Size:
        return replace(size, inputs=2 * self.units + size.actions)


def word_vectors(names: Sequence[str]) -> list[list[float]]:
    """Unit vectors ``[T, W]`` of the words in names such as ``drawer-open-v3`` and ``DoorKey-6x6``.

    Raises:
        AgentError: no names.
    """
    if not names:
        raise AgentError(
            "network: care with metadata='words' needs networks that know their tasks; use metadata=none, or "
            "heads other than separate"
        )
    lowered = []
    for name in names:
        without_version = re.sub(r"-v\d+$", "", name)
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]?\d+(?:x\d+)?", without_version)
        lowered.append({word.lower() for word in words})
    # Sorted, so that the same suite gives the same vectors in every process.
    vocabulary = sorted(set.union(*lowered))
    vectors = []
    for known in lowered:
        length = max(len(known), 1) ** 0.5
        vectors.append([float(word in known) / length for word in vocabulary])
    return vectors
