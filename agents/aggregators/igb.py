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
from mtrl.agents.aggregators.epochs import EPOCH_STATE, TINY, epoch_mean

# Parameters updated by Adam, each with its two moments.
NETS = ("actor", "critic", "log_alpha")


@dataclass(frozen=True)
class IGBv2(Aggregator):
    """``Σ a_i log L_i`` with ``a = m · softmax(u)``: the gradient of each loss is weighted by ``a / L``.

    u is drawn by a policy that sees ``L / L_base`` and is paid ``min_i ΔL_i / L_base,i``. Each a is 1 in the first
    epoch (which sets L_base), then random, and the policy's after ``start`` epochs. The policy learns one step per
    update on everything since L_base is known. Entropy is that of u.
    """

    period: int = 100
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

    @property
    def info(self) -> AggregatorInfo:
        return AggregatorInfo(
            "igb-v2",
            frozenset({"losses", "noise"}),
            "Dai et al. 2023 (arXiv 2307.15429)",
            needs_positive_loss=True,
            shares="losses",
            sums=True,
            warmup=self.start * self.period,
        )

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("period", "start", "hidden", "capacity", "batch"):
            check(
                getattr(self, name) >= 1,
                name,
                getattr(self, name),
                "at least 1",
            )
        check(self.lr > 0, "lr", self.lr, "above 0")
        check(
            0 <= self.gamma < 1,
            "gamma",
            self.gamma,
            "in [0, 1)",
        )

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
        m = num_tasks
        actor_sizes, critic_sizes = self._sizes(m)
        # Seeded, and on the host, so that the networks are the same on every device.
        generator = torch.Generator().manual_seed(self.seed)
        state["actor"] = _init_mlp(actor_sizes, generator)
        twins = [_init_mlp(critic_sizes, generator) for _ in range(2)]
        state["critic"] = torch.stack(twins)
        state["target"] = state["critic"].clone()
        state["log_alpha"] = torch.tensor([math.log(0.2)], dtype=torch.float64)
        for name in NETS:
            zero = torch.zeros_like(state[name])
            state[f"{name}.first"] = zero
            state[f"{name}.second"] = zero
        shapes: dict[str, tuple[int, ...]] = {
            "base": (m,),
            "obs": (m,),
            "action": (m,),
            "memory": (self.capacity, 3 * m + 1),
        }
        for name in (*EPOCH_STATE, "stored", "learned", "primed"):
            shapes[name] = ()
        shapes["total"] = (m,)
        for name, shape in shapes.items():
            state[name] = torch.zeros(shape, dtype=torch.float64)
        # ``clone`` gives every batch item memory of its own, which ``expand`` does not.
        return {
            name: value.expand((*batch_shape, *value.shape)).clone().to(device)
            for name, value in state.items()
        }

    def noise_shape(self, num_tasks: int, num_params: int | None = None) -> tuple[int, ...]:
        """The action's m numbers, the batch's indices, two draws of actions for the batch."""
        return (num_tasks + self.batch + 2 * self.batch * num_tasks,)

    def _solve(self, inputs: Inputs, state: State, eps: float) -> Solution:
        losses = given(inputs.losses).clamp(min=0)
        m = losses.shape[-1]
        sizes = [m, self.batch, 2 * self.batch * m]
        draw, pick, batch_noise = given(inputs.noise).split(sizes, -1)
        normal = _normal(batch_noise).unflatten(-1, (2, self.batch, m))
        mean, ended, epochs = epoch_mean(losses, state, self.period)
        known = (state["epochs"] > 0).unsqueeze(-1)
        first = ended & ~known
        base = torch.where(first, mean, state["base"]).clamp(min=TINY)
        relative = (losses / base).clamp(max=1e3)
        obs = torch.where(known, relative, 1.0)
        memory, stored = self._remember(state, obs)

        # Learning is computed in every update, and its result dropped while nothing is stored: no branch on the device.
        learned = self._learn(state, memory, stored, pick, normal)
        new = {}
        for key, value in learned.items():
            new[key] = torch.where(expand(stored > 0, value), value, state[key])

        u = _normal(draw)
        actor_sizes, _ = self._sizes(m)
        policy, _ = _sample(
            new["actor"],
            obs.unsqueeze(-2),
            u.unsqueeze(-2),
            actor_sizes,
        )
        decides = (state["epochs"] >= self.start).unsqueeze(-1)
        random = m * u.softmax(-1)
        action = torch.where(decides, policy.squeeze(-2), random)
        action = torch.where(known, action, 1.0)
        # d log L = dL / L
        weights = action / losses.clamp(min=TINY)
        new |= {
            "base": base,
            "obs": obs,
            "action": action,
            "memory": memory,
            "stored": stored,
            "primed": known.squeeze(-1).double(),
        }
        return exact(weights, epochs | new)

    def _sizes(self, m: int) -> tuple[list[int], list[int]]:
        """Widths of the layers of the actor (mean and log deviation) and of a critic."""
        hidden = [self.hidden, self.hidden]
        actor = [m, *hidden, 2 * m]
        critic = [2 * m, *hidden, 1]
        return actor, critic

    def _remember(self, state: State, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Ring memory of (obs, action, reward, next obs), written once the previous observation is in L_base units."""
        reward = (state["obs"] - obs).amin(-1, keepdim=True)
        row = torch.cat([state["obs"], state["action"], reward, obs], -1)
        # A mask over the whole ring, since the row to write differs between batch items.
        position = (state["stored"] % self.capacity).unsqueeze(-1)
        slot = torch.arange(self.capacity, device=obs.device) == position
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
        # Rounding can take ``pick * size`` up to the size itself.
        index = (pick * size).long().clamp(max=self.capacity - 1).unsqueeze(-1)
        columns = index.expand(*index.shape[:-1], memory.shape[-1])
        rows = memory.gather(-2, columns)
        obs, action, reward, next_obs = rows.split([m, m, 1, m], -1)
        alpha = state["log_alpha"].exp().unsqueeze(-1)

        next_noise = normal[..., 0, :, :]
        next_action, next_log_prob = _sample(state["actor"], next_obs, next_noise, actor_sizes)
        # The smaller of both critics, against overestimation.
        future = _twin(state["target"], next_obs, next_action, critic_sizes).amin(-3)
        goal = reward + self.gamma * (future - alpha * next_log_prob)
        with torch.enable_grad():
            critic = state["critic"].detach().clone().requires_grad_()
            error = _twin(critic, obs, action, critic_sizes) - goal.unsqueeze(-3)
            critic_loss = (error**2).mean((-1, -2)).sum()
            (critic_grad,) = torch.autograd.grad(critic_loss, critic)

            actor = state["actor"].detach().clone().requires_grad_()
            noise = normal[..., 1, :, :]
            chosen, log_prob = _sample(actor, obs, noise, actor_sizes)
            value = _twin(state["critic"], obs, chosen, critic_sizes).amin(-3)
            actor_loss = (alpha * log_prob - value).mean((-1, -2)).sum()
            (actor_grad,) = torch.autograd.grad(actor_loss, actor)
        # The target entropy is −m.
        entropy_gap = log_prob.detach().mean((-1, -2)) - m
        alpha_grad = -entropy_gap.unsqueeze(-1)

        grads = dict(zip(NETS, (actor_grad, critic_grad, alpha_grad), strict=True))
        count = state["learned"] + 1
        new = {"learned": count}
        for name, grad in grads.items():
            new |= self._adam(state, name, grad, count)
        new["target"] = torch.lerp(state["target"], new["critic"], 0.005)
        return new

    def _adam(
        self,
        state: State,
        name: str,
        grad: Tensor,
        count: Tensor,
    ) -> State:
        n = expand(count, grad)
        first = torch.lerp(state[f"{name}.first"], grad, 0.1)
        second = torch.lerp(state[f"{name}.second"], grad**2, 0.001)
        mean = first / (1 - 0.9**n)
        root = (second / (1 - 0.999**n)).sqrt()
        move = mean / (root + 1e-8)
        return {
            name: state[name] - self.lr * move,
            f"{name}.first": first,
            f"{name}.second": second,
        }


def _init_mlp(sizes: list[int], generator: torch.Generator) -> Tensor:
    """Flat parameters: weights uniform on ±1/√in, biases zero."""
    parts = []
    for fan_in, fan_out in pairwise(sizes):
        uniform = torch.rand(fan_in * fan_out, generator=generator, dtype=torch.float64)
        weight = (2 * uniform - 1) / fan_in**0.5
        bias = torch.zeros(fan_out, dtype=torch.float64)
        parts += [weight, bias]
    return torch.cat(parts)


def _mlp(theta: Tensor, x: Tensor, sizes: list[int]) -> Tensor:
    """ReLU network with flat parameters ``[..., n]`` on ``[..., b, in]``."""
    last = len(sizes) - 2
    start = 0
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        end = start + fan_in * fan_out
        weight = theta[..., start:end].unflatten(-1, (fan_in, fan_out))
        bias = theta[..., end : end + fan_out].unsqueeze(-2)
        x = x @ weight + bias
        start = end + fan_out
        if layer < last:
            x = x.relu()
    return x


def _normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones."""
    # The ends of [0, 1] would become infinite.
    inside = uniform.clamp(1e-12, 1 - 1e-12)
    return torch.special.ndtri(inside)


def _sample(
    theta: Tensor,
    obs: Tensor,
    normal: Tensor,
    sizes: list[int],
) -> tuple[Tensor, Tensor]:
    """Weights ``m · softmax(u)`` and the log density of u, ``[..., b, 1]``."""
    m = normal.shape[-1]
    mean, log_std = _mlp(theta, obs, sizes).chunk(2, -1)
    log_std = log_std.clamp(-10, 2)
    density = -0.5 * normal**2 - log_std - 0.5 * math.log(2 * math.pi)
    log_prob = density.sum(-1, keepdim=True)
    u = mean + log_std.exp() * normal
    return m * u.softmax(-1), log_prob


def _twin(
    theta: Tensor,
    obs: Tensor,
    action: Tensor,
    sizes: list[int],
) -> Tensor:
    """Both critics, ``[..., 2, b, 1]``, from parameters ``[..., 2, n]``."""
    inputs = torch.cat([obs, action], -1)
    return _mlp(theta, inputs.unsqueeze(-3), sizes)
