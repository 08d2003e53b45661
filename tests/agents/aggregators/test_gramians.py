"""Per-task gradients from one backward pass, against autograd and finite differences."""

import pytest
import torch
from torch import Tensor

from mtrl.agents.aggregators import combine, gramian, linear_gramian, linear_task_gradients
from tests.agents.aggregators.cases import batch_of, jacobian


def test_gramian_accumulates_in_float32() -> None:
    rows = torch.full((2, 4096), 1.0 + 1 / 128, dtype=torch.bfloat16)
    out = gramian(rows)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.full((2, 2), 4096 * (1 + 1 / 128) ** 2))
    assert gramian(rows.double()).dtype == torch.float64
    assert gramian(batch_of(0, 6, 3, 5).reshape(2, 3, 3, 5)).shape == (2, 3, 3, 3)


def test_combine() -> None:
    rows = jacobian(0, 3, 5)
    torch.testing.assert_close(combine(rows, torch.tensor([1.0, 0.0, -2.0])), rows[0] - 2 * rows[2])
    assert combine(rows.bfloat16(), torch.ones(3)).dtype == torch.float32


def layer(m: int, b: int, width: int, height: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, output gradients of one backward pass, and the layer's parameters (a tanh regression)."""
    generator = torch.Generator().manual_seed(m * b)
    x = torch.randn(m, b, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(height, width, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(height, generator=generator, dtype=torch.float64).requires_grad_()
    y = x @ weight.T + bias
    (delta,) = torch.autograd.grad(losses(y).sum(), y)
    return x, delta, weight, bias


def losses(y: Tensor) -> Tensor:
    """One loss per task, of its own rows only."""
    return (y.tanh() ** 2).mean((-1, -2)) * torch.arange(1, len(y) + 1)


@pytest.mark.parametrize(
    ("m", "b", "width", "height"), [(4, 7, 5, 3), (3, 2, 40, 30), (2, 1, 1, 1)]
)
def test_linear_layer_against_one_backward_per_task(
    m: int, b: int, width: int, height: int
) -> None:
    x, delta, weight, bias = layer(m, b, width, height)
    grad_weight, grad_bias = linear_task_gradients(x, delta)
    rows = []
    for i in range(m):
        one_w, one_b = torch.autograd.grad(losses(x @ weight.T + bias)[i], (weight, bias))
        torch.testing.assert_close(grad_weight[i], one_w)
        torch.testing.assert_close(grad_bias[i], one_b)
        rows.append(torch.cat([one_w.flatten(), one_b]))
    jac = torch.stack(rows)
    torch.testing.assert_close(linear_gramian(x, delta), gramian(jac))
    torch.testing.assert_close(
        linear_gramian(x, delta, bias=False), gramian(jac[:, : width * height])
    )


def test_both_forms_of_the_gramian_are_used_and_agree() -> None:
    """A layer wide against its batch pairs the rows, a narrow one forms the gradients; both over leading dimensions."""
    for width in (2, 400):
        x = batch_of(0, 6, 8, width).reshape(2, 3, 8, width)
        delta = batch_of(9, 6, 8, 30).reshape(2, 3, 8, 30)
        weight, bias = linear_task_gradients(x, delta)
        full = torch.cat([weight.flatten(-2), bias], -1)
        torch.testing.assert_close(linear_gramian(x, delta), gramian(full))


def test_linear_layer_against_finite_differences() -> None:
    x, delta, weight, bias = layer(3, 5, 4, 2)
    grad_weight, grad_bias = linear_task_gradients(x, delta)
    h = 1e-6
    with torch.no_grad():
        for o in range(2):
            for i in range(4):
                shift = torch.zeros_like(weight)
                shift[o, i] = h
                up, down = (losses(x @ (weight + s * shift).T + bias) for s in (1, -1))
                torch.testing.assert_close(
                    grad_weight[:, o, i], (up - down) / (2 * h), rtol=1e-6, atol=1e-8
                )
            shift = torch.zeros_like(bias)
            shift[o] = h
            up, down = (losses(x @ weight.T + bias + s * shift) for s in (1, -1))
            torch.testing.assert_close(grad_bias[:, o], (up - down) / (2 * h), rtol=1e-6, atol=1e-8)


def test_low_precision_layers_are_accumulated_in_float32() -> None:
    x, delta, _, _ = layer(3, 64, 8, 6)
    grad_weight, grad_bias = linear_task_gradients(x.bfloat16(), delta.bfloat16())
    assert grad_weight.dtype == grad_bias.dtype == torch.float32
    exact, _ = linear_task_gradients(x, delta)
    assert (grad_weight - exact).norm() < 1e-2 * exact.norm()
