"""
Write your own gradient method
==============================

A gradient method turns the tasks' gradients into one. It is a frozen dataclass with an ``info`` and one function from
the Gramian ``[..., m, m]`` of the ``m`` task gradients to weights ``[..., m]``.
"""

from dataclasses import dataclass

import torch

from mtrl import MTPPO, make_vec
from mtrl.agents.aggregators.base import Aggregator, AggregatorInfo, Inputs, Solution, given
from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.settings import Entry


# %%
# This one divides each gradient by a power of its norm. ``power=1`` gives every task the same say, ``power=0`` is plain
# averaging. Everything before the last axes is a batch of independent problems, so the code never loops over seeds.
@dataclass(frozen=True)
class NormPower(Aggregator):
    """``w_i ∝ ‖g_i‖^-power``, scaled so that the weights sum to 1."""

    power: float = 1.0
    """Power of the norm that a gradient is divided by."""

    info = AggregatorInfo("norm-power", frozenset({"gramian"}), "our own")

    def _solve(self, inputs: Inputs, state: dict[str, torch.Tensor], eps: float) -> Solution:
        norms = given(inputs.gramian).diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        scaled = norms.clamp_min(eps) ** -self.power
        weights = scaled / scaled.sum(-1, keepdim=True)
        residual = torch.zeros_like(weights[..., 0])
        return Solution(weights, residual, residual == 0, state)


# %%
# Two gradients of lengths 1 and 3 at a right angle: the shorter one gets three times the weight.
gramian = torch.tensor([[1.0, 0.0], [0.0, 9.0]])
result, _ = NormPower().weights(Inputs(gramian=gramian), {})
print(result.weights)

# %%
# A name in the registry makes it a setting of every agent: ``norm-power:power=0.5``. In a checkout this is
# one line in ``agents/aggregators/registry.py``, and the command line and the contract tests know the name too.
AGGREGATORS.entries["norm-power"] = Entry(
    f"{__name__}:NormPower", "Divides by a power of the norm."
)
env = make_vec("mg3", envs_per_task=2, seed=0)
agent = MTPPO(
    env, device="cpu", width=16, rollout_per_task=40, minibatches=2, aggregator="norm-power"
)
agent.learn(240)
for name, value in agent.metrics().items():
    if name.startswith("train/critic_task_weight"):
        print(f"{name}: {value:.3f}")
