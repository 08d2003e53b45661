"""The published values for J = [[−4, 1, 1], [6, 1, 1]], at default parameters, from float32 input."""

import pytest
import torch

from mtrl.agents.aggregators import Inputs, combine, gramian, make_aggregator, parse_aggregator

ROWS = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])

GOLDEN = {
    "mgda": (0.0, 1.0, 1.0),
    "pcgrad:reduction=sum": (0.5848, 3.8012, 3.8012),
    "pcgrad": (0.2924, 1.9006, 1.9006),
    "cagrad": (0.1835, 1.2041, 1.2041),
    "imtl-g": (0.0767, 1.0, 1.0),
    "nash-mtl": (0.0542, 0.7061, 0.7061),
    "fairgrad": (0.0766, 0.9985, 0.9985),
    "aligned-mtl": (0.2133, 0.9673, 0.9673),
    "upgrad": (0.2929, 1.9004, 1.9004),
    "dualproj": (0.5563, 1.1109, 1.1109),
    "config": (0.1588, 2.0706, 2.0706),
    "mean": (1.0, 1.0, 1.0),
    "sum": (2.0, 2.0, 2.0),
}


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_published_value(name: str, dtype: torch.dtype) -> None:
    aggregator = parse_aggregator(name)
    rows = ROWS.to(dtype)
    noise = torch.rand(2, 2) if name.startswith("pcgrad") else None
    out, state = aggregator.weights(
        Inputs(gramian=gramian(rows), noise=noise), aggregator.init(2)
    )
    torch.testing.assert_close(
        combine(rows, out.weights), torch.tensor(GOLDEN[name], dtype=dtype), atol=1e-4, rtol=0
    )
    assert out.converged
    assert out.weights.dtype == dtype
    assert state == {}


# Unit gradients of products 0, 0.7 and 0.7, with norms 1, 1 and 0.1: C⁻¹1 = (15, 15, −20).
NEGATIVE = torch.tensor([[1.0, 0.0, 0.07], [0.0, 1.0, 0.07], [0.07, 0.07, 0.01]]).double()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # (15, 15, −200) over their sum, which is negative.
        ("imtl-g", (-3 / 34, -3 / 34, 20 / 17)),
        # u = (15, 15, −200) has G u = (1, 1, 0.1) and uᵀG u = 10, so the length of u is scaled by 2.1 / 10.
        ("config", (3.15, 3.15, -42.0)),
        ("config:rescale=simplex", (3 / 46, 3 / 46, -40 / 46)),
    ],
)
def test_equal_projections_can_ask_for_negative_weights(
    name: str, expected: tuple[float, ...]
) -> None:
    out, _ = parse_aggregator(name).weights(Inputs(gramian=NEGATIVE), {})
    torch.testing.assert_close(out.weights, torch.tensor(expected).double(), rtol=1e-6, atol=0)
    assert out.converged


def test_a_gramian_that_rounding_left_asymmetric_is_made_symmetric() -> None:
    """Products of −1 and 0 stand for −½: each of two unit gradients takes half of the other, and w = ½ (1 + ½)."""
    uneven = torch.tensor([[1.0, -1.0], [0.0, 1.0]], dtype=torch.float64)
    out, _ = make_aggregator("pcgrad").weights(
        Inputs(gramian=uneven, noise=torch.zeros(2, 2)), {}
    )
    assert out.weights.tolist() == [0.75, 0.75]


def test_pcgrad_average_is_half_the_sum() -> None:
    noise = torch.rand(2, 2)
    pair = [
        make_aggregator("pcgrad", reduction=r)
        .weights(Inputs(gramian=gramian(ROWS), noise=noise), {})[0]
        .weights
        for r in ("sum", "mean")
    ]
    torch.testing.assert_close(pair[0], 2 * pair[1])
    default, _ = make_aggregator("pcgrad").weights(
        Inputs(gramian=gramian(ROWS), noise=noise), {}
    )
    torch.testing.assert_close(default.weights, pair[1])


def test_cagrad_stays_where_every_direction_of_a_large_ball_harms_a_task() -> None:
    """Numbers 2 and −1, of mean ½: with c = 2, ``½ g_w + |g_w|`` is least at 0, which lies in the hull."""
    opposed = torch.tensor([[4.0, -2.0], [-2.0, 1.0]], dtype=torch.float64)
    out, _ = make_aggregator("cagrad", c=2.0).weights(Inputs(gramian=opposed), {})
    assert out.weights.tolist() == [0, 0]
    assert out.converged


@pytest.mark.parametrize(("policy", "factor"), [("1/(1+c)", 1 / 1.5), ("1/(1+c²)", 1 / 1.25)])
def test_cagrad_rescaling(policy: str, factor: float) -> None:
    out, _ = make_aggregator("cagrad", rescale=policy).weights(
        Inputs(gramian=gramian(ROWS)), {}
    )
    expected = torch.tensor(GOLDEN["cagrad"]) * factor
    torch.testing.assert_close(combine(ROWS, out.weights), expected, atol=1e-4, rtol=0)
