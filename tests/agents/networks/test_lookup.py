"""The looked-up layer against the product that it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtrl.agents.networks.lookup import LookupReLU

SEEDS, TASKS, ROWS, COUNT, CODES, SIZE, OUT = 2, 3, 5, 4, 7, 6, 8


def _draws(members: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(members)
    ids = torch.randint(
        CODES, (SEEDS, TASKS, ROWS, COUNT), generator=generator, dtype=torch.int32
    )
    codes = torch.randint(2, (CODES, SIZE), generator=generator).float()
    weight = torch.randn(members, 1, OUT, COUNT * SIZE, generator=generator)
    bias = torch.randn(members, 1, OUT, generator=generator)
    return ids, codes, weight, bias, torch.randn(members, TASKS, ROWS, OUT, generator=generator)


def _product(ids: Tensor, codes: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same by a product of written-out codes, for a weight and bias with a task axis."""
    inputs = codes[ids.long()].flatten(-2).repeat_interleave(weight.shape[0] // SEEDS, 0)
    return (torch.einsum("ktri,ktoi->ktro", inputs, weight) + bias.unsqueeze(2)).relu()


@pytest.mark.parametrize("twins", [1, 2])
@pytest.mark.parametrize("per_task", [False, True])
def test_equals_a_product_and_its_gradients(twins: int, per_task: bool) -> None:
    ids, codes, weight, bias, slope = _draws(SEEDS * twins)
    wide = [p.expand(-1, TASKS, *p.shape[2:]).clone().requires_grad_() for p in (weight, bias)]
    expected = _product(ids, codes, *wide)
    wanted = torch.autograd.grad(expected, wide, slope)
    leaves = [p.detach().clone().requires_grad_() for p in (weight, bias)]
    if per_task:
        leaves = [p.detach().expand(-1, TASKS, *p.shape[2:]).requires_grad_() for p in leaves]
    out = LookupReLU.apply(ids, codes, *leaves)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for own, grad in zip(torch.autograd.grad(out, leaves, slope), wanted):
        torch.testing.assert_close(
            own, grad if per_task else grad.sum(1, keepdim=True), rtol=1e-4, atol=1e-4
        )


def test_bfloat16_weights_are_summed_in_float32() -> None:
    ids, codes, weight, bias, _ = _draws(SEEDS)
    low = [p.bfloat16() for p in (weight, bias)]
    out = LookupReLU.apply(ids, codes.bfloat16(), *low)
    assert out.dtype == torch.float32
    wide = [p.float().expand(-1, TASKS, *p.shape[2:]) for p in low]
    torch.testing.assert_close(out, _product(ids, codes, *wide), rtol=1e-5, atol=1e-5)
