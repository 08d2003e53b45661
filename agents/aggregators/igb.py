"""IGB v2: a small soft actor-critic on the device chooses the weights that make the slowest task improve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mtrl.agents.aggregators.base import (
    Aggregator,
    AggregatorInfo,
    Inputs,
    Solution,
    State,
    check,
    check_types,
    exact,
    expand,
    given,
)
from mtrl.agents.aggregators.epochs import EPOCH_STATE, epoch_mean

# Parameters updated by Adam, each with its two moments.
NETS = ("actor", "critic", "log_alpha")


@dataclass(frozen=True)
class IGBv2(Aggregator):
    """``w = m · softmax(u)``, u drawn by a policy that sees ``L / L_base`` and is paid ``min_i ΔL_i / L_base,i``.

    Weights are 1 in the first epoch (which sets L_base), then random, and the policy's after ``start`` epochs. The
    policy learns one step per update on everything since L_base is known. Entropy is that of u.
    """

    period: int = 1000
    """Updates in an epoch."""
    start: int = 5
    """Epochs before the policy decides."""
    hidden: int = 64
    """Width of its two hidden layers."""
    capacity: int = 1024
    """Transitions remembered."""
    batch: int = 64
    """Transitions per learning step."""
    lr: float = 3e-4
    """Step size (Adam)."""
    gamma: float = 0.99
    """Discount."""
    seed: int = 0
    """Of the initial networks, which have a generator of their own."""

    info = AggregatorInfo(
        "igb-v2", frozenset({"losses", "noise"}), "Dai et al. 2023 (arXiv 2307.15429)", True
    )

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("period", "start", "hidden", "capacity", "batch"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        check(self.lr > 0, "lr", self.lr, "above 0")
        check(0 <= self.gamma < 1, "gamma", self.gamma, "in [0, 1)")

    def init(
        self,
        num_tasks: int,
        *,
        num_params: int | None = None,
        batch_shape: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> State:
        """Networks, optimiser, memory and counters; every batch item starts from the same networks."""
        state = super().init(num_tasks)
        generator = torch.Generator().manual_seed(self.seed)
        m, h = num_tasks, self.hidden
        state["actor"] = _init_mlp([m, h, h, 2 * m], generator)
        state["critic"] = torch.stack([_init_mlp([2 * m, h, h, 1], generator) for _ in range(2)])
        state["target"] = state["critic"].clone()
        state["log_alpha"] = torch.tensor([math.log(0.2)], dtype=torch.float64)
        for name in NETS:
            state[f"{name}.first"] = state[f"{name}.second"] = torch.zeros_like(state[name])
        rows = {"base": (m,), "obs": (m,), "action": (m,), "memory": (self.capacity, 3 * m + 1)}
        state |= {name: torch.zeros(shape, dtype=torch.float64) for name, shape in rows.items()}
        counts = dict.fromkeys(
            (*EPOCH_STATE, "stored", "learned", "primed"), torch.zeros((), dtype=torch.float64)
        )
        state |= counts | {"total": torch.zeros(m, dtype=torch.float64)}
        return {k: v.expand((*batch_shape, *v.shape)).clone().to(device) for k, v in state.items()}

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        """The action's m numbers, the batch's indices, two draws of actions for the batch."""
        return (num_tasks + self.batch + 2 * self.batch * num_tasks,)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses = given(inputs.losses).clamp(min=0)
        m = losses.shape[-1]
        draw, pick, batch_noise = given(inputs.noise).split([m, self.batch, 2 * self.batch * m], -1)
        normal = torch.special.ndtri(batch_noise.clamp(1e-12, 1 - 1e-12)).unflatten(
            -1, (2, self.batch, m)
        )
        mean, ended, epochs = epoch_mean(losses, state, self.period)
        known = (state["epochs"] > 0).unsqueeze(-1)
        base = torch.where(ended & ~known, mean, state["base"]).clamp(min=1e-8)
        obs = torch.where(known, (losses / base).clamp(max=1e3), 1.0)
        memory, stored = self._remember(state, obs)
        learned = self._learn(state, memory, stored, pick, normal)
        new = {
            key: torch.where(expand(stored > 0, value), value, state[key])
            for key, value in learned.items()
        }
        u = torch.special.ndtri(draw.clamp(1e-12, 1 - 1e-12))
        policy, _ = _sample(new["actor"], obs.unsqueeze(-2), u.unsqueeze(-2), self._sizes(m)[0])
        decides = (state["epochs"] >= self.start).unsqueeze(-1)
        weights = torch.where(decides, policy.squeeze(-2), m * u.softmax(-1))
        weights = torch.where(known, weights, 1.0)
        new |= {"base": base, "obs": obs, "action": weights, "memory": memory, "stored": stored}
        return exact(weights, epochs | new | {"primed": known.squeeze(-1).double()})

    def _sizes(self, m: int) -> tuple[list[int], list[int]]:
        return [m, self.hidden, self.hidden, 2 * m], [2 * m, self.hidden, self.hidden, 1]

    def _remember(self, state: State, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Ring memory of (obs, action, reward, next obs), written once the previous observation is in L_base units."""
        reward = (state["obs"] - obs).amin(-1, keepdim=True)
        row = torch.cat([state["obs"], state["action"], reward, obs], -1)
        slot = torch.arange(self.capacity, device=obs.device) == (
            state["stored"] % self.capacity
        ).unsqueeze(-1)
        write = slot & (state["primed"] > 0).unsqueeze(-1)
        memory = torch.where(write.unsqueeze(-1), row.unsqueeze(-2), state["memory"])
        return memory, state["stored"] + state["primed"]

    def _learn(
        self, state: State, memory: Tensor, stored: Tensor, pick: Tensor, normal: Tensor
    ) -> State:
        """One step of twin-critic SAC; the losses of different batch items share no parameter, so their sum is fine."""
        m = normal.shape[-1]
        actor_sizes, critic_sizes = self._sizes(m)
        size = stored.clamp(min=1, max=self.capacity).unsqueeze(-1)
        index = (pick * size).long().clamp(max=self.capacity - 1).unsqueeze(-1)
        rows = memory.gather(-2, index.expand(*index.shape[:-1], memory.shape[-1]))
        obs, action, reward, after = rows.split([m, m, 1, m], -1)
        ahead, ahead_log = _sample(state["actor"], after, normal[..., 0, :, :], actor_sizes)
        alpha = state["log_alpha"].exp().unsqueeze(-1)
        future = _twin(state["target"], after, ahead, critic_sizes).amin(-3)
        goal = reward + self.gamma * (future - alpha * ahead_log)
        with torch.enable_grad():
            critic = state["critic"].detach().clone().requires_grad_()
            error = _twin(critic, obs, action, critic_sizes) - goal.unsqueeze(-3)
            (critic_grad,) = torch.autograd.grad((error**2).mean((-1, -2)).sum(), critic)
            actor = state["actor"].detach().clone().requires_grad_()
            chosen, log_prob = _sample(actor, obs, normal[..., 1, :, :], actor_sizes)
            value = _twin(state["critic"], obs, chosen, critic_sizes).amin(-3)
            (actor_grad,) = torch.autograd.grad(
                (alpha * log_prob - value).mean((-1, -2)).sum(), actor
            )
        alpha_grad = -(log_prob.detach().mean((-1, -2)) - m).unsqueeze(-1)
        grads = dict(zip(NETS, (actor_grad, critic_grad, alpha_grad), strict=True))
        count = state["learned"] + 1
        new = {"learned": count}
        for name, grad in grads.items():
            new |= self._adam(state, name, grad, count)
        new["target"] = torch.lerp(state["target"], new["critic"], 0.005)
        return new

    def _adam(self, state: State, name: str, grad: Tensor, count: Tensor) -> State:
        n = expand(count, grad)
        first = torch.lerp(state[f"{name}.first"], grad, 0.1)
        second = torch.lerp(state[f"{name}.second"], grad**2, 0.001)
        move = first / (1 - 0.9**n) / ((second / (1 - 0.999**n)).sqrt() + 1e-8)
        return {
            name: state[name] - self.lr * move,
            f"{name}.first": first,
            f"{name}.second": second,
        }


def _init_mlp(sizes: list[int], generator: torch.Generator) -> Tensor:
    """Flat parameters: weights uniform on ±1/√in, biases zero."""
    parts = []
    for i, j in pairwise(sizes):
        uniform = torch.rand(i * j, generator=generator, dtype=torch.float64)
        parts += [(2 * uniform - 1) / i**0.5, torch.zeros(j, dtype=torch.float64)]
    return torch.cat(parts)


def _mlp(theta: Tensor, x: Tensor, sizes: list[int]) -> Tensor:
    """ReLU network with flat parameters ``[..., n]`` on ``[..., b, in]``."""
    start = 0
    for k, (i, j) in enumerate(pairwise(sizes)):
        weight = theta[..., start : start + i * j].unflatten(-1, (i, j))
        x = x @ weight + theta[..., start + i * j : start + i * j + j].unsqueeze(-2)
        start += i * j + j
        x = x.relu() if k < len(sizes) - 2 else x
    return x


def _sample(theta: Tensor, obs: Tensor, normal: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Weights ``m · softmax(u)`` and the log density of u, ``[..., b, 1]``."""
    mean, log_std = _mlp(theta, obs, sizes).chunk(2, -1)
    log_std = log_std.clamp(-10, 2)
    log_prob = (-0.5 * normal**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1, keepdim=True)
    return normal.shape[-1] * (mean + log_std.exp() * normal).softmax(-1), log_prob


def _twin(theta: Tensor, obs: Tensor, action: Tensor, sizes: list[int]) -> Tensor:
    """Both critics, ``[..., 2, b, 1]``, from parameters ``[..., 2, n]``."""
    return _mlp(theta, torch.cat([obs, action], -1).unsqueeze(-3), sizes)
