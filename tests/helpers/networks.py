"""Small networks to test with, and batches for them."""

from __future__ import annotations

from mtrl.agents.networks.bodies.body import Body
from mtrl.agents.networks.bodies.mlp import MLP
from mtrl.agents.networks.encoder import Encoder, Identity
from mtrl.agents.networks.grid import MINIGRID, GridEncoder, GridLayout
from mtrl.agents.networks.heads import Heads
from mtrl.agents.networks.layers import Activation, Size
from mtrl.agents.networks.memory import GRU
from mtrl.agents.networks.network import Network

PLAIN = MLP()


def network(
    encoder: Encoder,
    width: int,
    depth: int,
    out_dim: int,
    num_heads: int,
    activation: Activation = "relu",
    body: Body = PLAIN,
    memory: bool = False,
    num_tasks: int | None = None,
) -> Network:
    """A network of ``num_tasks``, by default as many as it has heads."""
    tasks = num_tasks or num_heads
    inputs = body.num_inputs(encoder.num_features, tasks)
    size = Size(inputs, width, depth, activation, tasks)
    features = body.num_features(size)
    recurrent = GRU(features, width) if memory else None
    heads = Heads(width if memory else features, out_dim, num_heads)
    return Network(encoder, body, size, heads, recurrent)


def mlp(
    in_dim: int,
    width: int,
    depth: int,
    out_dim: int,
    num_heads: int,
    activation: Activation = "relu",
) -> Network:
    """A plain network on numbers."""
    return network(Identity(in_dim), width, depth, out_dim, num_heads, activation)


def grid(
    width: int,
    depth: int,
    out_dim: int,
    num_heads: int,
    activation: Activation = "relu",
    layout: GridLayout = MINIGRID,
    channels: int = 4,
    extra: int = 0,
    memory: bool = False,
) -> Network:
    """A plain network on MiniGrid observations and ``extra`` columns."""
    encoder = GridEncoder(layout.num_bytes + extra, layout, channels)
    return network(encoder, width, depth, out_dim, num_heads, activation, memory=memory)
