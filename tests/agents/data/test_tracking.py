"""What the log is made of: means of metrics, and images."""

from __future__ import annotations

import numpy as np
import torch

from mtrl.agents.data.tracking import Meter


def test_matrices_are_images_not_scalars() -> None:
    meter = Meter(["a", "b"])
    for cosine in (-1.0, 0.0):
        meter.add(
            {
                "cosines": torch.tensor([[[1.0, cosine], [cosine, 1.0]]]),
                "loss": torch.tensor([2.0]),
            }
        )
    assert meter.drain() == {"train/loss": 2.0}
    np.testing.assert_allclose(meter.images["train/cosines"], [[1, 0.25], [0.25, 1]])
