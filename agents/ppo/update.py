"""The PPO update (Schulman et al. 2017), per task, as a pure function over stacked seeds.

``ppo_update`` depends on nothing but its arguments: parameters and optimizer state, a rollout, and the draws that say
which samples each step sees. Every tensor has a leading axis ``S`` of seeds, and seeds never mix, so training one seed
or ten is the same call. Minibatches hold equally many samples of every task. The device is waited for once an epoch, to
learn which seeds have reached the KL limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from mtrl.agents.curricula.coupling import Pull
from mtrl.agents.data.priorities import Sampling, Uniform
from mtrl.agents.data.rollout import Rollout
from mtrl.agents.data.weighting import Equal, SampleWeighting
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.networks.ties import Ties
from mtrl.agents.optim.adam import AdamSettings, adam_state, adam_step
from mtrl.agents.optim.step import masked_tasks, masked_weights, masks_tasks, step_network
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.agents.optim.weighted import Weight, times, weighted_mean
from mtrl.agents.policies import Gaussian, RatioPolicy
from mtrl.agents.ppo.minibatches import Draw, Passes, by_priority
from mtrl.agents.ppo.popart import popart_state
from mtrl.agents.ppo.samples import Samples, prepare, recall, take_samples

PPOState = dict[str, dict[str, Tensor]]
EQUAL = Equal()
UNIFORM = Uniform()


@dataclass(frozen=True)
class PPOSettings:
    """All of the update that is not state or data.

    Attributes:
        policy: the family of action distributions; where it is Gaussian, ``state`` holds its ``log_std``.
        std_rate: step size of standard deviations in multiples of the networks'.
        sequence: steps through which gradients of networks with memory flow; 0 without memory.
        share: of training done, from 0 to 1, for bodies that depend on it.
        ties: parameters that actor and critic have in common; None without.
        sample_weighting: what samples count in the actor's loss.
        sampling: how samples are drawn.
    """

    actor: Network
    critic: Network
    actor_tasks: Reduction
    critic_tasks: Reduction
    num_tasks: int
    one_hot: bool
    policy: RatioPolicy
    gamma: float
    gae_lambda: float
    clip: float
    entropy_coef: float
    max_grad_norm: float
    clip_apart: bool
    kl_stop: float | None
    normalize_advantages: bool
    advantage_floor: float
    popart_step: float | None
    adam: AdamSettings
    std_rate: float
    dtype: torch.dtype
    sequence: int = 0
    share: float = 0.0
    ties: Ties | None = None
    sample_weighting: SampleWeighting = EQUAL
    sampling: Sampling = UNIFORM


class Progress(NamedTuple):
    """What reductions look at besides gradients: recent success rates ``[S, T]``, the steps so far, and factors of the
    tasks' losses ``[S, T]``, or ``[S, C, T]`` for minibatches in turn."""

    success: Tensor | None = None
    step: int | None = 0
    weights: Tensor | None = None

    def after(self, count: int) -> Progress:
        """The progress after ``count`` minibatches of an update, with the factors of the next one."""
        weights = self.weights
        if weights is not None and weights.dim() == 3:
            weights = weights[:, count % weights.shape[1]]
        step = None if self.step is None else self.step + count
        return Progress(self.success, step, weights)


class Pass(NamedTuple):
    """What one pass over a rollout reads besides state and settings.

    Attributes:
        draws: of each minibatch.
        weights: factors of the tasks' losses ``[S, T]`` in each minibatch, or None.
        judged: parts of the tasks in the divergence, ``[S, T]`` with sum 1.
        learning_rate: a number, or a float32 tensor of one where the pass is recorded.
        priority: of samples or sequences ``[S, T, n]``, where they are drawn by it.
    """

    samples: Samples
    draws: dict[str, Draw]
    weights: dict[str, Tensor | None]
    success: Tensor | None
    judged: Tensor
    learning_rate: float | Tensor
    priority: Tensor | None = None


class PassResult(NamedTuple):
    """What one pass comes to.

    Attributes:
        totals: metrics summed over the minibatches that have them.
        counts: their number, by metric.
        kl: sum of the divergences ``[S]``.
    """

    totals: dict[str, Tensor]
    counts: dict[str, int]
    kl: Tensor


RecordedPass = Callable[[PPOState, Pass], PassResult]


class PPOInputs(NamedTuple):
    """The arguments of ``ppo_update`` after the state."""

    rollout: Rollout
    epochs: Passes
    learning_rate: float
    settings: PPOSettings
    progress: Progress
    pull: Pull | None


def init_ppo(
    settings: PPOSettings, seeds: list[int], initial_std: float, device: torch.device
) -> PPOState:
    """Fresh state for each seed: ``actor`` ``[S, Pa]``, ``critic`` ``[S, Pc]``, ``log_std`` ``[S, T, A]``, ``popart``.

    The heads start a hundred times smaller than usual, so that all first actions are alike and all first values near 0.
    Usual values reach 1.4, above any MiniGrid return: ending an episode would look bad, and agents would learn not to.
    """
    actors, critics = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        actors.append(settings.actor.init(1, generator, head_scale=0.01)[0])
        critics.append(settings.critic.init(1, generator, head_scale=0.01)[0])
    actor = torch.stack(actors).to(device)
    critic = torch.stack(critics).to(device)
    state = {
        "actor": adam_state(actor, per_member=True),
        "critic": adam_state(critic, per_member=True),
        "popart": popart_state(len(seeds), settings.num_tasks, device),
    }
    weighting = settings.sample_weighting.init(len(seeds), settings.num_tasks, device)
    if weighting:
        state["sample_weighting"] = weighting
    if settings.ties is not None:
        state["tied"] = settings.ties.init(state, per_member=True)
    # Ties change the critic's initial values, by which a mask is drawn.
    state["actor_tasks"] = settings.actor_tasks.init(len(seeds), device, actor)
    state["critic_tasks"] = settings.critic_tasks.init(len(seeds), device, critic)
    if isinstance(settings.policy, Gaussian):
        shape = (len(seeds), settings.num_tasks, settings.actor.out_dim)
        state["log_std"] = adam_state(
            torch.full(shape, initial_std, device=device).log(), per_member=True
        )
    return state


def ppo_update(
    state: PPOState,
    rollout: Rollout,
    epochs: Passes,
    learning_rate: float,
    settings: PPOSettings,
    progress: Progress | None = None,
    pull: Pull | None = None,
    recorded: RecordedPass | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Learn from one rollout: advantages, value statistics, then epochs of minibatch steps.

    Args:
        state: from ``init_ppo``; it is consumed, that is, updated in place.
        epochs: the minibatches of every pass.
        learning_rate: Adam's step size in this update, in place of the one in ``settings``.
        pull: a further loss on the parameters of actor and critic, from a curriculum that couples tasks.
        recorded: does what ``run_pass`` does for all seeds without a pull; None calls ``run_pass``.

    Returns:
        Metrics with a leading axis of seeds, ``[S]`` or ``[S, T]``, left on the device, and the number of steps taken
        (by the seed that took most).
    """
    samples, metrics = prepare(state, rollout, settings)
    progress = progress or Progress()
    # 1 for seeds below the KL limit. A seed past it still computes, which is cheaper than another
    # shape, but neither its parameters nor its metrics move any more.
    active = torch.ones(samples.action.shape[0], device=samples.action.device)
    everyone = list(range(len(active)))
    members = everyone
    visits = torch.zeros_like(active)
    count = 0
    means = _Means()
    judged = _judged(rollout)
    priority = _priority(samples.advantage, settings)
    for number in range(len(epochs)):
        draws = {str(index): draw for index, draw in enumerate(epochs[number])}
        weights = {
            index: progress.after(count + place).weights for place, index in enumerate(draws)
        }
        data = Pass(samples, draws, weights, progress.success, judged, learning_rate, priority)
        if recorded is not None and pull is None and members == everyone:
            made = recorded(state, data)
        else:
            made = run_pass(state, data, settings, members, progress.after(count).step, pull)
        minibatches = len(draws)
        count += minibatches
        means.add(made, active)
        visits += active
        if settings.kl_stop is not None:
            active = active * (made.kl / minibatches <= settings.kl_stop)
            moves = active.tolist()  # the one wait for the device in a pass
            members = [member for member, moving in enumerate(moves) if moving]
            if not members:
                break
    metrics |= means.values()
    metrics |= {"epochs": visits, "learning_rate": torch.full_like(visits, learning_rate)}
    return metrics, count


class _Means:
    """Means of metrics over the minibatches that have them, which under some gradient methods are not all."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, made: PassResult, active: Tensor) -> None:
        """Account for a pass, for the seeds at which ``active`` ``[S]`` is 1."""
        for name, total in made.totals.items():
            moved = total * _per_seed(active, total)
            count = active * made.counts[name]
            if name in self._sums:
                moved = self._sums[name] + moved
                count = self._counts[name] + count
            self._sums[name] = moved
            self._counts[name] = count

    def values(self) -> dict[str, Tensor]:
        found = {}
        for name, total in self._sums.items():
            counts = _per_seed(self._counts[name], total)
            found[name] = total / counts
        return found


def _judged(rollout: Rollout) -> Tensor:
    """Each task's part in the divergence ``[S, T]``: equal among the tasks whose rows are of this round.

    Those of a task that paused were collected by an older policy, and are far from the present one from the start.
    """
    judged = torch.ones(rollout.reward.shape[:2], device=rollout.reward.device)
    if rollout.fresh is not None:
        judged = rollout.fresh.to(judged.dtype)
    return judged / judged.sum(-1, keepdim=True)


def _priority(advantage: Tensor, settings: PPOSettings) -> Tensor | None:
    """Priorities of samples by their advantages ``[S, T, n]``, or of sequences by their means; None where all are as
    likely."""
    if settings.sampling.is_uniform:
        return None
    together = max(settings.sequence, 1)
    error = advantage.abs().unflatten(-1, (-1, together)).mean(-1)
    return settings.sampling.priority(error)


def run_pass(
    state: PPOState,
    data: Pass,
    settings: PPOSettings,
    members: list[int],
    step: int | None,
    pull: Pull | None,
) -> PassResult:
    """One pass over the minibatches of a rollout.

    Args:
        members: the seeds that move.
        step: minibatches before this pass; None where aggregators are to count on the device.
    """
    made: list[dict[str, Tensor]] = []
    for place, (index, draw) in enumerate(data.draws.items()):
        now = Progress(
            data.success, None if step is None else step + place, data.weights[index]
        )
        batch = _minibatch(data, draw, settings)
        made.append(
            _minibatch_step(
                state, batch, draw, members, data.learning_rate, settings, now, pull
            )
        )
    # Metrics are added up once a pass: small operations at every step would cost more than the sum.
    found: dict[str, list[Tensor]] = {}
    for step_metrics in made:
        for name, value in step_metrics.items():
            found.setdefault(name, []).append(value)
    totals = {name: reduce(torch.add, values) for name, values in found.items()}
    counts = {name: len(values) for name, values in found.items()}
    judged = [(step["approx_kl"] * data.judged).sum(-1) for step in made]
    return PassResult(totals, counts, reduce(torch.add, judged))


def _minibatch(data: Pass, draw: Draw, settings: PPOSettings) -> Samples:
    if data.priority is None:
        return take_samples(data.samples, draw.rows, settings)
    beta = settings.sampling.beta(settings.share)
    rows, weight = by_priority(draw, data.priority, beta, max(settings.sequence, 1))
    return take_samples(data.samples, rows, settings)._replace(weight=weight)


def recordable_pass(settings: PPOSettings) -> RecordedPass:
    """``run_pass`` of all seeds as a function of tensors alone; aggregators count minibatches on the device."""

    def run(state: PPOState, data: Pass) -> PassResult:
        everyone = list(range(len(data.judged)))
        return run_pass(state, data, settings, everyone, None, None)

    return run


def _per_seed(factors: Tensor, value: Tensor) -> Tensor:
    """``factors`` ``[S]`` shaped to multiply ``value`` ``[S, ...]``."""
    return factors.view(-1, *[1] * (value.dim() - 1))


def clipped_surrogate(
    log_ratio: Tensor, advantage: Tensor, clip: float, weight: Weight = None
) -> Tensor:
    """``-mean min(r A, clip(r, 1 - clip, 1 + clip) A)``, ``[S, T]`` of ``[S, T, n]`` (Schulman et al. 2017, eq. 7).

    Args:
        weight: of each sample, ``[S, T, n]``.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    gain = torch.min(ratio * advantage, clipped * advantage)
    return -weighted_mean(gain, weight)


def value_loss(value: Tensor, target: Tensor, weight: Weight = None) -> Tensor:
    """``½ mean (v - target)²``, ``[S, T]`` of ``[S, T, n]``, as is the weight of each sample."""
    return 0.5 * weighted_mean((value - target).square(), weight)


def approx_kl(log_ratio: Tensor, weight: Weight = None) -> Tensor:
    """``mean(r - 1 - log r)``, an estimate of the divergence from the old policy, ``[S, T]`` of ``[S, T, n]``.

    Args:
        weight: of each sample, brought to mean 1 here.
    """
    relative = None if weight is None else weight / weight.mean(-1, keepdim=True)
    return weighted_mean(log_ratio.exp() - 1 - log_ratio, relative)


def _minibatch_step(
    state: PPOState,
    batch: Samples,
    draw: Draw,
    members: list[int],
    learning_rate: float | Tensor,
    settings: PPOSettings,
    progress: Progress,
    pull: Pull | None,
) -> dict[str, Tensor]:
    """One step of actor and critic for the seeds in ``members``; the others only compute."""
    adam = replace(settings.adam, learning_rate=learning_rate)
    masked = _masked_tasks(state, batch, draw, settings)
    progress = progress._replace(weights=masked_weights(progress.weights, masked))
    metrics = _update_actor(state, batch, draw, members, adam, settings, progress, pull, masked)
    metrics |= _update_critic(
        state, batch, draw, members, adam, settings, progress, pull, masked
    )
    if masked is not None:
        metrics["masked"] = masked.float()
    if settings.ties is not None:
        settings.ties.step(
            state, settings.max_grad_norm, adam, members, masked, draw.critic_redraw
        )
    return metrics


@torch.no_grad()
def _masked_tasks(
    state: PPOState, batch: Samples, draw: Draw, settings: PPOSettings
) -> Tensor | None:
    """Which tasks a body leaves out of this step by their losses, bool ``[S, T]``; None where no body masks."""
    if not masks_tasks(settings):
        return None
    actor = settings.actor.views(state["actor"]["params"], settings.dtype)
    critic = settings.critic.views(state["critic"]["params"], settings.dtype)
    log_std = state["log_std"]["params"] if "log_std" in state else None
    of_actor = _actor_losses(actor, log_std, batch, settings, batch.weight)[0]
    of_critic = _critic_losses(critic, batch, draw, settings, batch.weight)
    return masked_tasks(settings, of_actor + of_critic)


def _actor_losses(
    params: Params,
    log_std: Tensor | None,
    batch: Samples,
    settings: PPOSettings,
    weight: Weight = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The actor's losses and their surrogates ``[S, T]``, entropies and log ratios ``[S, T, m]``."""
    goes_on = recall(batch.start, batch.memory, settings, 0)
    output = settings.actor.forward(params, batch.obs, goes_on, batch.noise, settings.share)
    log_prob, entropy = settings.policy.log_prob(output, batch.action, log_std)
    log_ratio = log_prob - batch.log_prob
    surrogate = clipped_surrogate(log_ratio, batch.advantage, settings.clip, weight)
    bonus = settings.entropy_coef * weighted_mean(entropy, weight)
    return surrogate - bonus, surrogate, entropy, log_ratio


def _critic_losses(
    params: Params, batch: Samples, draw: Draw, settings: PPOSettings, weight: Weight = None
) -> Tensor:
    """The critic's losses ``[S, T]``; a weight is ``[S, T, m]``."""
    goes_on = recall(batch.start, batch.memory, settings, 1)
    value = settings.critic.forward(
        params, batch.obs, goes_on, draw.critic_network, settings.share
    )
    return value_loss(value.squeeze(-1), batch.target, weight)


def _update_actor(
    state: PPOState,
    batch: Samples,
    draw: Draw,
    members: list[int],
    adam: AdamSettings,
    settings: PPOSettings,
    progress: Progress,
    pull: Pull | None,
    masked: Tensor | None,
) -> dict[str, Tensor]:
    actor = state["actor"]
    tasks = settings.actor_tasks.at(progress.step, settings.share)
    leaves = tasks.leaves(actor["params"], settings.dtype)
    log_std = (
        state["log_std"]["params"].detach().requires_grad_() if "log_std" in state else None
    )
    weight = times(batch.weight, batch.actor_weight)
    first, second = tasks.parts(batch.advantage)
    here = times(weight, first)
    there = times(weight, second)
    losses, surrogate, entropy, log_ratio = _actor_losses(
        leaves, log_std, batch, settings, here
    )
    # Every task has standard deviations of its own, so their gradient is no part of what the
    # aggregator reduces; it is taken first, while the graph is there.
    log_std_grad = None
    if log_std is not None:
        weighted = losses if progress.weights is None else losses * progress.weights
        (log_std_grad,) = torch.autograd.grad(weighted.sum(), [log_std], retain_graph=True)
        if masked is not None:
            log_std_grad = log_std_grad * ~masked.unsqueeze(-1)
    grad, state["actor_tasks"], about = tasks.gradient(
        losses,
        leaves,
        state["actor_tasks"],
        draw.actor_tasks,
        *progress,
        again=lambda at: _actor_losses(at, log_std, batch, settings, there)[0],
        extra=settings.actor.extra_of(batch.obs, batch.noise, settings.share),
        trains=actor.get("trains"),
    )
    if log_std_grad is not None:
        std_adam = replace(adam, learning_rate=adam.learning_rate * settings.std_rate)
        adam_step(state["log_std"], log_std_grad, std_adam, members)
    about |= step_network(
        state, "actor", grad, settings, adam, pull, masked, draw.actor_redraw, members
    )
    with torch.no_grad():
        metrics = {
            "actor_loss": surrogate.detach(),
            "entropy": entropy.detach().mean(-1),
            "approx_kl": approx_kl(log_ratio, batch.weight),
            "clip_fraction": (log_ratio.expm1().abs() > settings.clip).float().mean(-1),
        }
    return metrics | {f"actor_{name}": value for name, value in about.items()}


def _update_critic(
    state: PPOState,
    batch: Samples,
    draw: Draw,
    members: list[int],
    adam: AdamSettings,
    settings: PPOSettings,
    progress: Progress,
    pull: Pull | None,
    masked: Tensor | None,
) -> dict[str, Tensor]:
    critic = state["critic"]
    tasks = settings.critic_tasks.at(progress.step, settings.share)
    leaves = tasks.leaves(critic["params"], settings.dtype)
    first, second = tasks.parts(batch.target)
    here = times(batch.weight, first)
    there = times(batch.weight, second)
    losses = _critic_losses(leaves, batch, draw, settings, here)
    grad, state["critic_tasks"], about = tasks.gradient(
        losses,
        leaves,
        state["critic_tasks"],
        draw.critic_tasks,
        *progress,
        again=lambda at: _critic_losses(at, batch, draw, settings, there),
        extra=settings.critic.extra_of(batch.obs, draw.critic_network, settings.share),
        trains=critic.get("trains"),
    )
    about |= step_network(
        state, "critic", grad, settings, adam, pull, masked, draw.critic_redraw, members
    )
    metrics = {"critic_loss": losses.detach()}
    return metrics | {f"critic_{name}": value for name, value in about.items()}
