"""The settings of MTSAC."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from mtrl.agents.aggregators.registry import AGGREGATORS, AggregatorChoice
from mtrl.agents.curricula.registry import CurriculumChoice
from mtrl.agents.data.registry import RewardScaleChoice
from mtrl.agents.networks.registry import NETWORKS, NetworkChoice
from mtrl.agents.sac.registry import ValueChoice
from mtrl.agents.settings import (
    AgentConfig,
    Choice,
    Count,
    Heads,
    Natural,
    NonNegative,
    Number,
    Positive,
    Share,
    settings,
)

if TYPE_CHECKING:
    from mtrl.agents.aggregators.base import Aggregator
    from mtrl.agents.networks.bodies.body import Body


@settings
class MTSACConfig(AgentConfig):
    """Settings of MTSAC. Raises AgentError for values outside their range."""

    heads: Heads = "multi-head"
    """One linear head per task on a shared trunk; one head with the task appended to the input as a one-hot code; or
    separate, an agent of its own for every task, all trained as one batched update."""
    width: Count = 400
    """Units per hidden layer, in actor and critics."""
    depth: Count = 3
    """Hidden layers."""
    network: NetworkChoice = Choice("mlp")
    """What stands between encoder and heads: an architecture, with parameters after a colon, as in moore:experts=4."""
    actor_network: NetworkChoice | None = None
    """Overrides `network` for the actor."""
    critic_network: NetworkChoice | None = None
    """Overrides `network` for the critics."""
    channels: Count = 32
    """Features of the convolution over a MiniGrid view, and of the one over its mission."""
    learning_rate: Positive = 3e-4
    """Adam step size of actor, critics and temperatures."""
    adam_eps: Positive = 1e-5
    """Adam epsilon."""
    weight_decay: NonNegative = 0.0
    """Weight decay of actor and critics (AdamW): their share that each step takes, times the step size."""
    max_grad_norm: Positive | None = 1.0
    """Gradient norm clip of actor and critics (both twins as one); null for none. The temperatures are not clipped."""
    clip_apart: bool = False
    """Whether max_grad_norm bounds the gradients of what all tasks share and of what each owns, such as its head, by a
    norm of their own. A gradient method sets the length of the shared part, which under one norm slows heads too."""
    gamma: Share = 0.99
    """Discount per env step."""
    tau: Share = 0.005
    """Share of the critic mixed into the target critic at each update."""
    max_reward: Positive | None = None
    """Largest size of a reward: the critics' targets are kept within max_reward / (1 - gamma). Null for no bound; there
    is none either where rewards are scaled or values are categorical."""
    value: ValueChoice = Choice("scalar")
    """What the critics give: a number, or a distribution over atoms, as in categorical:atoms=101,low=-10,high=10."""
    target_twins: Literal["min", "mean"] = "min"
    """How the two target critics count in the critics' targets."""
    actor_twins: Literal["min", "mean", "first"] = "min"
    """How the two critics count in the actor's loss."""
    reward_scale: RewardScaleChoice = Choice("none")
    """Factor of each task's rewards in batches: none, return:bound=10 by its largest return, or balance at resets."""
    resets: Natural = 0
    """How often all networks and temperatures start afresh, at equal shares of training; the replay buffer is kept."""
    reset_updates: Natural = 0
    """Updates right after each reset, before the next env step."""
    initial_alpha: Positive = 1.0
    """Initial entropy temperature of every task."""
    target_entropy: Number | Literal["half"] | None = None
    """Entropy target of every task in nats; None is minus the number of action dimensions (-4 on Meta-World), half is
    half of that. For discrete actions it is a share of the entropy of acting at random, in [0, 1]; None is 0.3, half is
    0.15."""
    shared_alpha: bool = False
    """Whether all tasks have one temperature, by the mean of their entropies; else each has its own."""
    batch_per_task: Count = 128
    """Transitions per task in a batch."""
    buffer_per_task: Count = 100_000
    """Transitions per task that the replay buffer holds."""
    learning_starts: Count = 4_000
    """Env steps per task taken with random actions before the first update."""
    utd_ratio: Positive = 1.0
    """Updates per vector step; below 1 some vector steps have none."""
    temperature_weights: bool = False
    """Whether each task's losses of actor and critics are multiplied by T softmax(-log alpha), as Soft Modularization
    does."""
    aggregator: AggregatorChoice = Choice("mean")
    """How task gradients become one: a method, with parameters after a colon, such as cagrad:c=0.9,every=4."""
    actor_aggregator: AggregatorChoice | None = None
    """Overrides `aggregator` for the actor."""
    critic_aggregator: AggregatorChoice | None = None
    """Overrides `aggregator` for the critics."""
    curriculum: CurriculumChoice = Choice("uniform")
    """Which tasks train when, with what share: a curriculum, with parameters after a colon, as in mrcl:window=5."""
    gradient_diagnostics: bool = False
    """Whether to log how task gradients relate in each update: cosines (an image), conflicts, conditioning, gains."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Format of the trunks' matrix products; auto is bf16 where the hardware multiplies it natively."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Imports torch, which settings do without until they are complete.
        from mtrl.agents.sac.build import (
            check,
        )

        check(self)

    def brief(self, envs_per_task: int) -> Self:
        """As most of a run goes: with updates from the start."""
        return replace(self, learning_starts=1)

    @property
    def networks(self) -> tuple[Body, Body]:
        """The architectures of actor and critic."""
        actor = NETWORKS.make(self.actor_network or self.network)
        critic = NETWORKS.make(self.critic_network or self.network)
        return actor, critic

    @property
    def aggregators(self) -> tuple[Aggregator, Aggregator]:
        """The gradient methods of actor and critic."""
        actor = AGGREGATORS.make(self.actor_aggregator or self.aggregator)
        critic = AGGREGATORS.make(self.critic_aggregator or self.aggregator)
        return actor, critic
