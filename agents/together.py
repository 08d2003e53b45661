"""Several seeds of one agent in lockstep: each with its own environments and random streams, one update for all.

On a GPU the states of all seeds are stacked along the axis of seeds of the pure update, which is then one call; every
agent's own state becomes views of the stack. On a CPU the products of stacked matrices round differently from single
ones, and members go through the layers one by one anyway (``trunk``), so there every seed is a call of its own:
as fast, and bit for bit what the seed learns alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrl.agents.base import Agent
from mtrl.agents.errors import AgentError, DivergedError
from mtrl.agents.members import Networks
from mtrl.agents.turns import Lesson, resume
from mtrl.envs import SuiteError

Failure = DivergedError | SuiteError


class Together:
    """Agents of one class with equal settings, tasks and device, that advance in lockstep.

    Args:
        agents: one for every seed.
        stack: whether updates of several seeds are one call; None: on a GPU.

    Raises:
        AgentError: the agents differ in more than the seed.
    """

    def __init__(self, agents: Sequence[Agent], stack: bool | None = None) -> None:
        first = agents[0]
        for agent in agents[1:]:
            for name in ("name", "config", "spec", "device"):
                own, other = getattr(first, name), getattr(agent, name)
                if own != other:
                    raise AgentError(
                        f"agents: {name} is {own!r} in one and {other!r} in another; only seeds may differ"
                    )
        self.agents = list(agents)
        self._stack = first.device.type == "cuda" if stack is None else stack
        self._stacked: Stack | None = None

    def advance(self, which: Sequence[int] | None = None) -> dict[int, Failure]:
        """One ``advance`` of every agent, or of those in ``which``.

        Returns:
            Which agents could not go on, and why; the others have advanced all the same.
        """
        members = range(len(self.agents)) if which is None else which
        turns = {member: self.agents[member].turn() for member in members}
        answers: dict[int, object] = dict.fromkeys(turns)
        failures: dict[int, Failure] = {}
        while answers:
            lessons: dict[int, Lesson] = {}
            for member, answer in answers.items():
                try:
                    lesson = resume(turns[member], answer)
                except (DivergedError, SuiteError) as error:
                    failures[member] = error
                    continue
                if lesson is not None:
                    lessons[member] = lesson
            answers = self._learn(lessons)
        return failures

    def _learn(self, lessons: dict[int, Lesson]) -> dict[int, object]:
        """The outcome of every lesson."""
        groups: dict[object, list[int]] = {}
        for member, lesson in lessons.items():
            key = lesson.key if self._stack else None
            groups.setdefault(("alone", member) if key is None else key, []).append(member)
        outcomes: dict[int, object] = {}
        for group in groups.values():
            if len(group) == 1:
                outcomes[group[0]] = lessons[group[0]].alone()
                continue
            outcomes |= zip(group, self._learn_stacked([lessons[member] for member in group]))
        return outcomes

    def _learn_stacked(self, lessons: list[Lesson]) -> list[object]:
        states = [lesson.state for lesson in lessons]
        if self._stacked is None or not self._stacked.holds(states):
            self._stacked = Stack(states)
        outcomes = type(lessons[0]).stacked(lessons, self._stacked.state)
        self._stacked.hand_back()
        return outcomes


class Stack:
    """Equal states as one along the axis of seeds; they become views of it.

    Attributes:
        state: tensors ``[S, ...]`` of tensors ``[1, ...]``, and ``[S]`` of scalars.
    """

    def __init__(self, states: Sequence[Networks]) -> None:
        self._states = list(states)
        self.state = {
            net: {name: _joined([state[net][name] for state in states]) for name in tensors}
            for net, tensors in states[0].items()
        }
        self._scalars = {
            (net, name) for net, tensors in states[0].items() for name, value in tensors.items() if not value.dim()
        }
        self._handed: dict[str, dict[str, Tensor]] = {}
        self.hand_back()

    def holds(self, states: Sequence[Networks]) -> bool:
        """Whether exactly these states are views of this stack."""
        return len(states) == len(self._states) and all(a is b for a, b in zip(states, self._states))

    def hand_back(self) -> None:
        """Let every state see what an update replaced; what it changed in place is seen already."""
        for net, tensors in self.state.items():
            if self._handed.get(net) is tensors:
                continue
            for seed, state in enumerate(self._states):
                state[net] = {
                    name: value[seed] if (net, name) in self._scalars else value[seed : seed + 1]
                    for name, value in tensors.items()
                }
        self._handed = dict(self.state)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors)) if tensors[0].dim() else torch.stack(list(tensors))
