"""
Write your own network
======================

A network is an encoder, a body and heads; you write the body. It is a frozen dataclass with two functions:
``parameters`` declares what is trained, and ``features`` computes the input of the heads.
"""

from torch import Tensor

from mtrl import MTPPO, make_vec
from mtrl.agents.networks.bodies.body import Body, Step
from mtrl.agents.networks.layers import Named, Size, hidden_layers, hidden_parameters
from mtrl.agents.networks.linear import scale_rows
from mtrl.agents.networks.parameters import Parameter
from mtrl.agents.networks.registry import NETWORKS
from mtrl.agents.settings import Entry, Positive, settings


# %%
# In this one, every task learns which of the shared features it reads. The hidden layers are shared: the gradients of
# all tasks reach them, so gradient methods act on them. The gate is owned: each task has one and trains it alone.
#
# A declared shape has no axes of tasks and members. ``features`` gets owned parameters as ``[K, T, ...]``, shared ones
# as ``[K, 1, ...]``, and rows ``x`` as ``[S, T, b, in]``, so the code never loops over tasks.
@settings
class Gated(Body):
    """Features ``sharpness · σ(g_t) ⊙ h``."""

    sharpness: Positive = 2.0
    """Largest factor of a feature; at 2 all gates start at 1."""

    def parameters(self, size: Size) -> dict[str, Parameter]:
        gate = Parameter((size.width,), init=0.0, kind="owned", exact=True)
        return hidden_parameters(size) | {"gate": gate}

    def features(self, p: Named, x: Tensor, step: Step) -> Tensor:
        shared = hidden_layers(p, x, step.size)
        return scale_rows(shared, self.sharpness * p["gate"].sigmoid())


# %%
# A name in the registry makes it a choice of every agent, with its settings. In a checkout this is one line in
# ``agents/networks/registry.py``, and the command line and the contract tests know the name too.
NETWORKS.entries["gated"] = Entry(f"{__name__}:Gated", "A gate for each task.")
env = make_vec("mg3", envs_per_task=2, seed=0)
small = {"device": "cpu", "width": 16, "rollout_per_task": 40, "minibatches": 2}
agent = MTPPO(env, network="gated:sharpness=3", aggregator="cagrad", **small)
agent.learn(480)
print(f"{agent.num_parameters:,} parameters")
for name, value in agent.metrics().items():
    if name.startswith("train/actor_task_weight"):
        print(f"{name}: {value:.3f}")
