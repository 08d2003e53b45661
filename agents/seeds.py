"""Several seeds of one agent: each with its own environments and random streams, and one update for all of them.

On a GPU the states of all seeds are stacked along the axis of seeds of the pure update, which is then one call; every
agent's own state becomes views of the stack. On a CPU the products of stacked matrices round differently from single
ones, and members go through the layers one by one anyway, so there every seed updates by itself: as fast, and bit for
bit what the seed learns alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtrl.agents.agent import Agent
from mtrl.agents.errors import AgentError, DivergedError
from mtrl.agents.members import Networks
from mtrl.agents.ppo.agent import MTPPO
from mtrl.agents.ppo.update import Draw, PPOInputs
from mtrl.agents.sac.agent import MTSAC
from mtrl.agents.sac.update import SACInputs
from mtrl.agents.state import per_seed, stack, unstack
from mtrl.envs.errors import SuiteError

Failure = DivergedError | SuiteError
Metrics = dict[str, Tensor]


class Seeds:
    """Agents that differ in their seeds and advance in lockstep.

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
        # On a CPU one call for all seeds is no faster and rounds differently from a seed alone.
        self._stack = first.device.type == "cuda" if stack is None else stack
        self._stacked: Stack | None = None

    def advance(self, which: Sequence[int] | None = None) -> dict[int, Failure]:
        """One ``advance`` of every agent, or of those in ``which``.

        Returns:
            Which agents could not go on, and why; the others have advanced all the same.
        """
        members = list(range(len(self.agents))) if which is None else list(which)
        failures: dict[int, Failure] = {}
        kind = type(self.agents[0])
        if self._stack and len(members) > 1 and issubclass(kind, MTSAC):
            self._step_together(members, failures)
        elif self._stack and len(members) > 1 and issubclass(kind, MTPPO):
            rollouts = _each(members, lambda member: self._ppo(member).collect(), failures)
            self._learn(rollouts, self._update_ppo, failures)
        else:
            _each(members, lambda member: self.agents[member].advance(), failures)
        return failures

    def _sac(self, member: int) -> MTSAC:
        agent = self.agents[member]
        assert isinstance(agent, MTSAC)
        return agent

    def _ppo(self, member: int) -> MTPPO:
        agent = self.agents[member]
        assert isinstance(agent, MTPPO)
        return agent

    def _step_together(self, members: list[int], failures: dict[int, Failure]) -> None:
        """One vector step of every agent, and the updates that are due, in lockstep."""
        started = _each(members, lambda member: self._sac(member).start_step(), failures)
        waiting = list(started)
        while waiting:
            batches = _each(waiting, lambda member: self._sac(member).next_batch(), failures)
            due = {member: batch for member, batch in batches.items() if batch is not None}
            self._learn(due, self._update_sac, failures)
            waiting = [member for member in due if member not in failures]
        going_on = [member for member in started if member not in failures]
        _each(going_on, lambda member: self._sac(member).finish_step(), failures)

    def _learn(
        self,
        data: Mapping[int, Any],
        update_together: Callable[[list[int], list[Any]], None],
        failures: dict[int, Failure],
    ) -> None:
        """Let every agent learn from its data: as one call those whose updates can be, the others alone."""
        groups: dict[object, list[int]] = {}
        for member in data:
            agent = self.agents[member]
            assert isinstance(agent, MTSAC | MTPPO)
            key = agent.stack_key()
            groups.setdefault(("alone", member) if key is None else key, []).append(member)
        for group in groups.values():
            if len(group) > 1:
                update_together(group, [data[member] for member in group])
            else:
                _each(group, lambda member: self._alone(member, data[member]), failures)

    def _alone(self, member: int, data: Any) -> None:
        agent = self.agents[member]
        assert isinstance(agent, MTSAC | MTPPO)
        agent.update(data)

    def _update_sac(self, members: list[int], batches: list[Any]) -> None:
        agents = [self._sac(member) for member in members]
        inputs = [
            agent.update_inputs(batch) for agent, batch in zip(agents, batches, strict=True)
        ]
        # Random numbers are drawn by every agent before the call, so its streams move as they would alone.
        stacked = self._stack_of(members)
        joint = SACInputs(
            stack([one.batch for one in inputs]),
            stack([one.noise for one in inputs]),
            inputs[0].settings,
            _progress([one.progress for one in inputs]),
            None,
        )
        result = agents[0].run_update(stacked.state, joint)
        stacked.hand_back()
        each = per_seed(result, len(agents))
        for agent, batch, own in zip(agents, batches, each, strict=True):
            agent.finish_update(batch, own)

    def _update_ppo(self, members: list[int], rollouts: list[Any]) -> None:
        agents = [self._ppo(member) for member in members]
        inputs = [
            agent.update_inputs(rollout)
            for agent, rollout in zip(agents, rollouts, strict=True)
        ]
        stacked = self._stack_of(members)
        joint = PPOInputs(
            stack([one.rollout for one in inputs]),
            JointEpochs([one.epochs for one in inputs]),
            inputs[0].learning_rate,
            inputs[0].settings,
            _progress([one.progress for one in inputs]),
            None,
        )
        metrics, _ = agents[0].run_update(stacked.state, joint)
        stacked.hand_back()
        # Seeds meet the KL limit at different times, and each accounts for its own passes only.
        passes = [int(count) for count in metrics["epochs"].tolist()]
        for agent, own, count in zip(
            agents, per_seed(metrics, len(agents)), passes, strict=True
        ):
            agent.finish_update(own, count * agent.config.minibatches)

    def _stack_of(self, members: list[int]) -> Stack:
        states: list[Networks] = []
        for member in members:
            agent = self.agents[member]
            assert isinstance(agent, MTSAC | MTPPO)
            states.append(agent.state)
        # A stack is copied once: from then on every agent's own state is a view of it.
        if self._stacked is None or not self._stacked.holds(states):
            self._stacked = Stack(states)
        return self._stacked


class JointEpochs:
    """The minibatches of several seeds, pass by pass, as those of one."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return min(len(part) for part in self._parts)

    def __getitem__(self, index: int) -> list[Draw]:
        each = [part[index] for part in self._parts]
        return [stack(draws) for draws in zip(*each, strict=True)]


class Stack:
    """Equal states as one along the axis of seeds; they become views of it.

    Attributes:
        state: tensors ``[S, ...]`` of tensors ``[1, ...]``, and ``[S]`` of scalars.
    """

    def __init__(self, states: Sequence[Networks]) -> None:
        self._states = list(states)
        self.state = stack(self._states)
        self._handed: Networks = {}
        self.hand_back()

    def holds(self, states: Sequence[Networks]) -> bool:
        """Whether exactly these states are views of this stack."""
        return len(states) == len(self._states) and all(
            a is b for a, b in zip(states, self._states)
        )

    def hand_back(self) -> None:
        """Let every state see what an update replaced; what it changed in place is seen already."""
        for net, tensors in self.state.items():
            if self._handed.get(net) is tensors:
                continue
            own = unstack(tensors, [state[net] for state in self._states])
            for state, views in zip(self._states, own, strict=True):
                state[net] = views
        self._handed = dict(self.state)


def _each(
    members: Sequence[int], action: Callable[[int], Any], failures: dict[int, Failure]
) -> dict[int, Any]:
    """What ``action`` returns for each of ``members``; one that fails is noted and left out."""
    results = {}
    for member in members:
        try:
            results[member] = action(member)
        except (DivergedError, SuiteError) as error:
            failures[member] = error
    return results


def _progress(parts: Sequence[Any]) -> Any:
    """The progress of several seeds as one; where only some have loss weights, those of the others are 1."""
    given = next((part.weights for part in parts if part.weights is not None), None)
    alike = []
    for part in parts:
        # Updates so far differ only between seeds whose aggregators do not look at them (``stack_key``).
        part = part._replace(step=parts[0].step)
        if given is not None and part.weights is None:
            part = part._replace(weights=torch.ones_like(given))
        alike.append(part)
    return stack(alike)
