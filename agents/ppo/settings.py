"""The settings of MTPPO."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from mtrl.agents.aggregators.registry import AGGREGATORS, AggregatorChoice
from mtrl.agents.curricula.registry import CurriculumChoice
from mtrl.agents.data.registry import SampleWeightingChoice, SamplingChoice
from mtrl.agents.errors import AgentError
from mtrl.agents.networks.registry import NETWORKS, NetworkChoice
from mtrl.agents.settings import (
    CONTINUOUS,
    AgentConfig,
    Choice,
    Count,
    Heads,
    NonNegative,
    Positive,
    Share,
    ShareBelowOne,
    settings,
)

if TYPE_CHECKING:
    from mtrl.agents.aggregators.base import Aggregator
    from mtrl.agents.networks.bodies.body import Body

Activation = Literal["relu", "tanh", "layer_norm"]


@settings
class MTPPOConfig(AgentConfig):
    """Settings of MTPPO. Raises AgentError for values outside their range.

    The defaults are a recipe tuned for wall-clock time on few CPU cores: tanh actor, LayerNorm critic with a value
    scale per task (PopArt), advantages normalized per task, normalized observations.
    ``configs/methods/mtppo-reference.yaml`` has the settings that the field reports.
    """

    heads: Heads = "multi-head"
    """One linear head per task on a shared trunk, or the task appended to the input as a one-hot code; the critic has a
    head per task in either case, since each has its own value scale. Or separate: an agent of its own for every task,
    trained as one batched update; only the running scale of observations is common to them."""
    width: Count = 400
    """Units per hidden layer, in actor and critic."""
    depth: Count = 2
    """Hidden layers."""
    network: NetworkChoice = Choice("mlp")
    """What stands between encoder and heads: an architecture, with parameters after a colon, as in moore:experts=4."""
    actor_network: NetworkChoice | None = None
    """Overrides `network` for the actor."""
    critic_network: NetworkChoice | None = None
    """Overrides `network` for the critic."""
    channels: Count = 32
    """Features of the convolution over a MiniGrid view, and of the one over its mission."""
    memory: Literal["none", "gru"] = "none"
    """Recurrent memory of actor and critic, each of `width` units, on MiniGrid."""
    sequence: Count = 25
    """Steps through which gradients flow in memory; must divide the steps of an environment in a rollout."""
    actor_activation: Activation = "tanh"
    """Nonlinearity of the actor; layer_norm is LayerNorm, then ReLU."""
    critic_activation: Activation = "layer_norm"
    """Nonlinearity of the critic."""
    deterministic_action: Annotated[Literal["mode", "mean"], CONTINUOUS] = "mode"
    """What deterministic prediction takes of continuous actions: the Gaussian's mode, clipped to the bounds, or the
    mean of the clipped Gaussian, which is what training acts with on average."""
    initial_std: Annotated[Positive, CONTINUOUS] = 1.0
    """Initial standard deviation of continuous actions, on the scale where the bounds are -1 and 1."""
    noise_correlation: Annotated[ShareBelowOne, CONTINUOUS] = 0.4
    """Correlation of successive exploration noise of continuous actions, in [0, 1): an environment's noise is an AR(1)
    process, so that actions push in one direction for a while; 0 is independent noise. Follows the schedule."""
    noise_until: Annotated[Share, CONTINUOUS] | None = None
    """Share of a linear schedule after which noise is independent, the correlation being constant before; none lets it
    fall with the schedule."""
    noise_by_failure: Annotated[bool, CONTINUOUS] = False
    """Whether the correlation also shrinks with each task's recent success rate, to 0 at 1."""
    learning_rate: Positive = 5e-4
    """Adam step size of actor and critic. Follows the schedule."""
    std_learning_rate: Annotated[Positive, CONTINUOUS] = 5e-4
    """Adam step size of the logarithms of standard deviations. Follows the schedule."""
    schedule: Literal["linear", "constant"] = "linear"
    """Linear lets step sizes and noise correlation fall to 0 over the env steps asked of learn."""
    adam_eps: Positive = 1e-5
    """Adam epsilon."""
    weight_decay: NonNegative = 0.0
    """Weight decay of actor and critics (AdamW): their share that each step takes, times the step size."""
    max_grad_norm: Positive = 1.0
    """Gradient norm clip of actor and critic."""
    clip_apart: bool = False
    """Whether max_grad_norm bounds the gradients of what all tasks share and of what each owns, such as its head, by a
    norm of their own. A gradient method sets the length of the shared part, which under one norm slows heads too."""
    gamma: Share = 0.99
    """Discount per env step."""
    gae_lambda: Share = 0.97
    """Decay of the advantage estimates (GAE)."""
    clip: Positive = 0.2
    """Range of the probability ratio around 1."""
    entropy_coef: NonNegative = 5e-3
    """Weight of the entropy bonus."""
    rollout_per_task: Count = 4_000
    """Env steps per task between updates; a multiple of the environments per task."""
    epochs: Count = 10
    """Passes over a rollout."""
    minibatches: Count = 20
    """Minibatches, so optimizer steps, per pass."""
    kl_stop: Positive | None = 0.03
    """Passes end after one whose mean divergence from the old policy exceeds this; none never stops early."""
    normalize_advantages: bool = True
    """Whether to scale each task's advantages of a rollout to mean 0 and standard deviation 1."""
    advantage_floor: NonNegative = 0.0
    """Least standard deviation, in units of reward, that advantages are divided by; 0 is none. Without rewards they are
    errors of the critic alone, which scaled up to 1 teach a policy to stop exploring."""
    popart_step: Share | None = 0.3
    """Share of a rollout in the running value scale of its task; 0 is the mean over all rollouts, none is no scale."""
    normalize_obs: bool = True
    """Whether to scale observations by their running mean and standard deviation; categories (MiniGrid) never are."""
    aggregator: AggregatorChoice = Choice("mean")
    """How task gradients become one: a method, with parameters after a colon, such as cagrad:c=0.9,every=4."""
    actor_aggregator: AggregatorChoice | None = None
    """Overrides `aggregator` for the actor."""
    critic_aggregator: AggregatorChoice | None = None
    """Overrides `aggregator` for the critic."""
    curriculum: CurriculumChoice = Choice("uniform")
    """Which tasks train when, with what share: a curriculum, with parameters after a colon, as in mrcl:window=5."""
    replay: SamplingChoice = Choice("uniform")
    """How minibatches are drawn from a task's rollout: uniform, each sample once a pass, or prioritised:a=0.6 by the
    size of advantages."""
    sample_weighting: SampleWeightingChoice = Choice("none")
    """What a sample counts in the actor's loss: none, or rmtl:lam=1, by which samples of low value count more."""
    gradient_diagnostics: bool = False
    """Whether to log how task gradients relate in each update: cosines (an image), conflicts, conditioning, gains."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Format of the trunks' matrix products in updates; auto is bf16 where the hardware multiplies it natively."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Imports torch, which settings do without until they are complete.
        from mtrl.agents.ppo.build import (
            check,
        )

        check(self)
        if self.noise_until is not None and self.schedule == "constant":
            raise AgentError(
                f"noise_until: {self.noise_until} never comes on a constant schedule; use schedule=linear"
            )
        if self.memory != "none" and self.heads == "separate":
            raise AgentError(
                f"memory: {self.memory!r} is not offered with heads=separate; use multi-head or one-hot"
            )
        most, what = self.rollout_per_task, "samples"
        if self.memory != "none":
            most, what = most // self.sequence, "sequences"
        if self.minibatches > most:
            raise AgentError(
                f"minibatches: {self.minibatches} is too large; a rollout has {most} {what} per task"
            )

    def brief(self, envs_per_task: int) -> Self:
        """Rollouts of about one minibatch, with as many passes."""
        length = 1 if self.memory == "none" else self.sequence
        steps = (
            max(self.rollout_per_task // envs_per_task // self.minibatches // length, 1)
            * length
        )
        return replace(self, rollout_per_task=steps * envs_per_task, minibatches=1)

    @property
    def networks(self) -> tuple[Body, Body]:
        """The architectures of actor and critic."""
        actor = NETWORKS.make(self.actor_network or self.network)
        critic = NETWORKS.make(self.critic_network or self.network)
        return actor.for_state_values(), critic.for_state_values()

    @property
    def aggregators(self) -> tuple[Aggregator, Aggregator]:
        """The gradient methods of actor and critic."""
        actor = AGGREGATORS.make(self.actor_aggregator or self.aggregator)
        critic = AGGREGATORS.make(self.critic_aggregator or self.aggregator)
        return actor, critic
