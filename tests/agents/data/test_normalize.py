"""Running observation normalization against numpy."""

from __future__ import annotations

import numpy as np

from mtrl.agents.data.normalize import ObsNormalizer
from mtrl.agents.state import restore, to_dict


def test_statistics_are_those_of_all_rows_and_survive_a_restart() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(5, 3, (n, 4)) for n in (1, 7, 30)]
    normalizer = ObsNormalizer(4)
    for batch in batches:
        normalizer.count(batch)
    rows = np.concatenate(batches)
    expected = (rows - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose(normalizer(rows), expected, rtol=1e-5, atol=1e-5)
    other = ObsNormalizer(4)
    restore(other, to_dict(normalizer))
    assert np.array_equal(other(rows), normalizer(rows))
    other.count(batches[0])
    normalizer.count(batches[0])
    assert np.array_equal(other(rows), normalizer(rows))


def test_constant_features_become_zero_and_surprises_are_clipped() -> None:
    normalizer = ObsNormalizer(2)
    normalizer.count(np.array([[3.0, 0.0], [3.0, 1.0]]))
    assert normalizer(np.array([[3.0, 0.5]])).tolist() == [[0.0, 0.0]]
    assert normalizer(np.array([[4.0, 100.0]])).tolist() == [[10.0, 10.0]]


def test_disabled_it_only_converts() -> None:
    normalizer = ObsNormalizer(2, enabled=False)
    normalizer.count(np.ones((3, 2)))
    out = normalizer(np.array([[3.0, 0.5]]))
    assert out.dtype == np.float32 and out.tolist() == [[3.0, 0.5]]
