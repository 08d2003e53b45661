"""The encoder of MiniGrid observations, against a plain convolution and an autograd loop over tasks."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mtrl.agents.agent import EnvSpec
from mtrl.agents.aggregators import parse_aggregator
from mtrl.agents.data.spec import check_env
from mtrl.agents.errors import AgentError
from mtrl.agents.networks.grid import GridLayout, cell_codes, patch_ids, word_ids
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.parameters import Params
from mtrl.agents.optim.task_gradients import Reduction
from mtrl.envs import make_vec
from tests.helpers.networks import grid

PLAIN, WORDS = GridLayout(11, 6, 3, 4, 0, 34), GridLayout(11, 6, 3, 4, 5, 34)
TASKS, SEEDS = 3, 2


def _network(
    layout: GridLayout = WORDS, heads: int = TASKS, extra: int = 0, activation: str = "relu"
) -> Network:
    return grid(8, 2, 2, heads, activation, layout, 4, extra)  # type: ignore[arg-type]


def _obs(layout: GridLayout, *lead: int, seed: int = 0) -> Tensor:
    sizes = torch.tensor(layout.sizes())
    draw = torch.rand(*lead, layout.num_bytes, generator=torch.Generator().manual_seed(seed))
    return (draw * sizes).to(torch.uint8)


def _patches(x: Tensor) -> Tensor:
    """One-hot patches ``[S, T, b * 9, 180]`` of observations."""
    return cell_codes(WORDS, torch.float32, x.device)[
        patch_ids(x[..., :147], WORDS).long()
    ].flatten(-2)


def _reference(network: Network, params: dict[str, Tensor], x: Tensor, task: int) -> Tensor:
    """One member's output ``[b, out]`` for ``x`` ``[b, in]``, by ``F.conv2d`` and ``F.conv1d``."""
    encoder: Any = network.encoder
    layout, channels = encoder.layout, encoder.channels
    x = x.long()
    view = x[:, :147].view(-1, 7, 7, 3)
    sizes = layout.objects, layout.colors, layout.states
    planes = torch.cat(
        [F.one_hot(view[..., i], size) for i, size in enumerate(sizes)], -1
    ).float()
    kernel = params["encoder.view.weight"].view(channels, 3, 3, layout.cell).permute(0, 3, 1, 2)
    seen = F.conv2d(
        planes.permute(0, 3, 1, 2), kernel, params["encoder.view.bias"], stride=2
    ).relu()
    parts = [seen.permute(0, 2, 3, 1).flatten(1)]
    if layout.words:
        words = x[:, 148 : layout.num_bytes]
        code = F.one_hot(F.pad(words, (1, 1)), layout.vocabulary).float().transpose(1, 2)
        kernel = (
            params["encoder.words.weight"].view(channels, 3, layout.vocabulary).transpose(1, 2)
        )
        read = F.conv1d(code, kernel, params["encoder.words.bias"]).relu() * (
            words > 0
        ).unsqueeze(1)
        parts.append(read.sum(2) / (words > 0).sum(1, keepdim=True).clamp_min(1))
    hidden = torch.cat(
        [*parts, F.one_hot(x[:, 147], layout.directions), x[:, layout.num_bytes :]], 1
    )
    for layer in range(network.size.depth):
        hidden = F.linear(
            hidden, params[f"body.{layer}.weight"], params[f"body.{layer}.bias"]
        ).relu()
    head = task if network.heads.num_heads > 1 else 0
    return F.linear(hidden, params["head.weight"][head], params["head.bias"][head])


@pytest.mark.parametrize(
    ("layout", "heads", "extra"), [(PLAIN, TASKS, 0), (WORDS, TASKS, 0), (WORDS, 1, TASKS)]
)
@pytest.mark.parametrize("twins", [1, 2])
def test_forward_is_a_convolution_over_one_hot_codes(
    layout: GridLayout, heads: int, extra: int, twins: int
) -> None:
    network = _network(layout, heads, extra)
    flat = network.init(SEEDS * twins, torch.Generator().manual_seed(1))
    x = _obs(layout, SEEDS, TASKS, 6)
    x[:, 1, :, 148 : layout.num_bytes] = 0  # a task whose missions say nothing
    x = torch.cat(
        [
            x,
            torch.eye(TASKS, dtype=torch.uint8)[None, :, None].expand(SEEDS, -1, 6, -1)[
                ..., :extra
            ],
        ],
        -1,
    )
    out = network.forward(network.views(flat, torch.float32), x)
    for member in range(SEEDS * twins):
        named = network.views(flat, torch.float32).named
        params = {k: v[member] if "head" in k else v[member, 0] for k, v in named.items()}
        for task in range(TASKS):
            expected = _reference(network, params, x[member // twins, task], task)
            torch.testing.assert_close(out[member, task], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, TASKS])
@pytest.mark.parametrize("activation", ["relu", "tanh", "layer_norm"])
@pytest.mark.parametrize("layout", [PLAIN, WORDS])
def test_task_gradients_equal_separate_backward_passes(
    layout: GridLayout, activation: str, heads: int
) -> None:
    network = _network(layout, heads, activation=activation)
    flat = network.init(SEEDS, torch.Generator().manual_seed(3))
    x = _obs(layout, SEEDS, TASKS, 6)

    def losses(params: Params) -> Tensor:
        return network.forward(params, x).square().mean((-2, -1))

    reduction = Reduction(network, parse_aggregator("upgrad"), TASKS)
    leaves = reduction.leaves(flat, torch.float32)
    grads = torch.autograd.grad(
        losses(leaves).sum(), [leaves.named[name] for name in network.layout.shared]
    )
    joint = torch.cat([grad.flatten(2) for grad in grads], -1)
    for task in range(TASKS):
        leaf = flat.clone().requires_grad_()
        alone = torch.autograd.grad(
            losses(network.views(leaf, torch.float32))[:, task].sum(), leaf
        )[0]
        torch.testing.assert_close(
            joint[:, task], alone[:, : joint.shape[-1]], rtol=1e-4, atol=1e-6
        )


def test_bfloat16_is_close() -> None:
    network = _network()
    flat, x = network.init(1, torch.Generator().manual_seed(1)), _obs(WORDS, 1, TASKS, 64)
    exact, rounded = (
        network.forward(network.views(flat, d), x) for d in (torch.float32, torch.bfloat16)
    )
    assert 0 < (exact - rounded).abs().max() < 0.05 * exact.abs().max()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_codes_hold_one_entry_for_every_byte_they_see(seed: int) -> None:
    x = _obs(WORDS, 1, 2, 3, seed=seed)
    patches = _patches(x)
    assert patches.shape == (1, 2, 27, 180)
    assert (patches.sum(-1) == 27).all() and set(patches.unique().tolist()) == {0.0, 1.0}
    words = torch.nn.functional.pad(x[..., 148:], (1, 1)).int()
    assert torch.equal(
        word_ids(x[..., 148:]),
        torch.stack([words[..., i : i + 5] for i in range(3)], -1).flatten(2, 3),
    )


def test_spec_carries_the_layout_and_survives_json() -> None:
    spec = EnvSpec.of(make_vec("mg10"))
    assert spec.layout == GridLayout(11, 6, 3, 4, 5, 34)
    assert spec.layout.sizes() == tuple(
        make_vec("mg10").single_observation_space.high.astype(int) + 1
    )  # type: ignore[attr-defined]
    assert spec.builds_on[1] == ("Empty-16x16",)
    assert EnvSpec.of_json(json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


def test_bytes_that_no_layout_explains_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_vec("mg3")
    wide = dataclasses.replace(env.obs_layout, mission_words=4)  # type: ignore[attr-defined]
    monkeypatch.setattr(env, "obs_layout", wide)
    with pytest.raises(
        AgentError, match=r"mg3 observes \(148,\), but .* 4 mission words have 152 bytes"
    ):
        check_env(env)
    monkeypatch.setattr(env, "obs_layout", None)
    with pytest.raises(AgentError, match="mg3 observes bytes without an obs_layout"):
        check_env(env)


def test_parameters_are_lookups_of_fixed_scale() -> None:
    network = _network()
    views = network.views(network.init(1, torch.Generator().manual_seed(0)), torch.float32)
    x = _obs(WORDS, 1, 1, 512)
    out = torch.cat([_patches(x)[0, 0] @ views.of("encoder")["view.weight"][0, 0].T])
    assert np.isclose(out.square().mean().sqrt().item(), np.sqrt(2), rtol=0.5)
