"""The lessons of MTSAC and MTPPO: the arguments of one update, learned for one seed or stacked for several."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from mtrl.agents import ppo, sac
from mtrl.agents.curricula.coupling import Pull
from mtrl.agents.members import Networks
from mtrl.agents.replay import Batch
from mtrl.agents.rollout import Rollout
from mtrl.agents.turns import Lesson

Metrics = dict[str, Tensor]
Fields = TypeVar("Fields", bound=tuple[Any, ...])


@dataclass(frozen=True)
class SACLesson(Lesson):
    """Arguments of ``sac_update``; the outcome is its metrics.

    Attributes:
        shared: whether all tasks share the networks of ``state``, so that its first axis is that of seeds.
    """

    state: sac.SACState
    batch: Batch
    noise: sac.SACNoise
    settings: sac.SACSettings
    progress: sac.Progress
    pull: Pull | None
    shared: bool

    @property
    def key(self) -> Hashable | None:
        return (self.progress.step,) if self.shared and self.pull is None else None

    def alone(self) -> Metrics:
        return sac.sac_update(self.state, self.batch, self.noise, self.settings, self.progress, self.pull)

    @classmethod
    def stacked(cls, lessons: Sequence[Self], state: Networks) -> list[Metrics]:
        batch, noise = (_join([getattr(lesson, name) for lesson in lessons]) for name in ("batch", "noise"))
        progress = _progress([lesson.progress for lesson in lessons])
        metrics = sac.sac_update(state, batch, noise, lessons[0].settings, progress)
        return _split(metrics, len(lessons))


@dataclass(frozen=True)
class PPOLesson(Lesson):
    """Arguments of ``ppo_update``; the outcome is what it returns.

    Attributes:
        shuffle: the generator that the draws in ``epochs`` come from.
        shared: as in ``SACLesson``.
    """

    state: ppo.PPOState
    rollout: Rollout
    epochs: Iterable[Iterable[ppo.Draw]]
    shuffle: torch.Generator
    learning_rate: float
    settings: ppo.PPOSettings
    progress: ppo.Progress
    pull: Pull | None
    shared: bool

    @property
    def key(self) -> Hashable | None:
        # Steps so far differ between seeds that met the KL limit; averaging does not look at them.
        averages = self.settings.actor_tasks.is_mean and self.settings.critic_tasks.is_mean
        step = None if averages else self.progress.step
        return (self.learning_rate, step) if self.shared and self.pull is None else None

    def alone(self) -> tuple[Metrics, int]:
        return ppo.ppo_update(
            self.state, self.rollout, self.epochs, self.learning_rate, self.settings, self.progress, self.pull
        )

    @classmethod
    def stacked(cls, lessons: Sequence[Self], state: Networks) -> list[tuple[Metrics, int]]:
        rollout = _join([lesson.rollout for lesson in lessons])
        progress = _progress([lesson.progress for lesson in lessons])
        before: list[list[Tensor]] = []
        first = lessons[0]
        epochs = _joint_epochs(lessons, before)
        metrics, steps = ppo.ppo_update(state, rollout, epochs, first.learning_rate, first.settings, progress)
        visits = [int(count) for count in metrics["epochs"].tolist()]
        for lesson, count, *states in zip(lessons, visits, *before):
            if count < len(states):  # draws after the KL limit was met are as if never made
                lesson.shuffle.set_state(states[count])
        per_epoch = steps // max(visits)
        return [(own, count * per_epoch) for own, count in zip(_split(metrics, len(lessons)), visits)]


def _joint_epochs(lessons: Sequence[PPOLesson], before: list[list[Tensor]]) -> Iterator[Iterator[ppo.Draw]]:
    """The epochs of all lessons as one; ``before`` receives the state of every generator at the start of each."""
    for epochs in zip(*(lesson.epochs for lesson in lessons), strict=True):
        before.append([lesson.shuffle.get_state() for lesson in lessons])
        yield (_join(draws) for draws in zip(*epochs, strict=True))


def _join(parts: Sequence[Fields]) -> Fields:
    """Named tuples of tensors ``[1, ...]`` as one of ``[S, ...]``; fields that are None stay so."""
    joined: Any = [None if fields[0] is None else torch.cat(fields) for fields in zip(*parts, strict=True)]
    return type(parts[0])(*joined)


def _progress(parts: Sequence[Any]) -> Any:
    """The progress of several seeds as one; where only some have loss weights, those of the others are 1."""
    weights: list[Tensor | None] = [part.weights for part in parts]
    some = next((weight for weight in weights if weight is not None), None)
    if some is not None:
        weights = [torch.ones_like(some) if weight is None else weight for weight in weights]
    success = None if parts[0].success is None else torch.cat([part.success for part in parts])
    joined = None if some is None else torch.cat([weight for weight in weights if weight is not None])
    return type(parts[0])(success, parts[0].step, joined)


def _split(metrics: Metrics, seeds: int) -> list[Metrics]:
    return [{name: value[seed : seed + 1] for name, value in metrics.items()} for seed in range(seeds)]
