"""Standard errors against the spread over simulated samples."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rankselect.errors import ArgumentError
from rankselect.estimators.gride import Gride
from rankselect.estimators.half_samples import half_sample_stderr, half_samples
from rankselect.estimators.mle import MLE
from rankselect.estimators.twonn import TwoNN


def neighbor_distances(rng, n, k, dimension):
    """Distances to k neighbours as the model has them: volumes of balls are points of a Poisson process."""
    return np.cumsum(rng.exponential(size=(n, k)), axis=1) ** (1 / dimension)


@pytest.mark.parametrize(
    "estimator",
    [
        TwoNN(),
        TwoNN(discard_fraction=0.0),
        TwoNN(discard_fraction=0.5),
        TwoNN(method="ml"),
        MLE(n_neighbors=10),
        MLE(n_neighbors=10, aggregate="mean"),
        MLE(n_neighbors=10, aggregate="median"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dimension", [3.0, 20.0])
def test_spread_over_samples_of_the_model(estimator, dimension):
    rng = np.random.default_rng(0)
    results = np.array(
        [
            estimator.from_distances(neighbor_distances(rng, 500, estimator.neighbors_needed, dimension))
            for _ in range(600)
        ]
    )
    spread = results[:, 0].std(ddof=1)
    assert results[:, 1].mean() == pytest.approx(spread, rel=0.1)
    if estimator in (TwoNN(), TwoNN(method="ml"), MLE(n_neighbors=10)):
        assert results[:, 0].mean() == pytest.approx(dimension, rel=0.02)


def test_spread_of_gride_at_every_scale():
    rng = np.random.default_rng(0)
    scalings = [Gride(16)._scaling(neighbor_distances(rng, 300, 16, 6.0)) for _ in range(400)]
    values = np.array([scaling.values for scaling in scalings])
    np.testing.assert_allclose(values.mean(axis=0), 6.0, rtol=0.01)
    stderr = np.array([scaling.stderr for scaling in scalings]).mean(axis=0)
    np.testing.assert_allclose(stderr, values.std(axis=0, ddof=1), rtol=0.1)


@pytest.mark.parametrize("estimator", [TwoNN(), MLE(n_neighbors=10)], ids=repr)
def test_half_samples_give_the_spread_over_real_samples(estimator):
    rng = np.random.default_rng(0)
    values, stderr = [], []
    for seed in range(80):
        estimate, halves = estimator.resample(rng.normal(size=(300, 6)), half_samples(300, 10, seed))
        values.append(estimate.value)
        stderr.append(half_sample_stderr(halves))
    assert np.sqrt(np.mean(np.square(stderr))) == pytest.approx(np.std(values), rel=0.2)


def test_half_sample_stderr_of_a_mean():
    """For a mean the answer is known: the standard error of the mean."""
    points = np.random.default_rng(0).normal(size=200)
    values = np.array([points[half].mean() for half in half_samples(200, 2000, seed=1)])
    assert float(half_sample_stderr(values)) == pytest.approx(points.std(ddof=1) / np.sqrt(200), rel=0.05)


def test_half_sample_stderr_of_several_layers_is_that_of_each():
    # Of the first, differences -1 and 1: half of the root of their mean square. The second is constant.
    found = half_sample_stderr(np.array([[4.0, 5.0, 6.0, 5.0], [3.0, 3.0, 3.0, 3.0]]))
    assert found.tolist() == [0.5, 0.0]


@pytest.mark.parametrize("n", [2, 9, 10])
def test_half_samples_are_random_disjoint_halves(n):
    halves = half_samples(n, 200, seed=0)
    assert halves.shape == (400, n)
    assert (halves.sum(axis=1) == n // 2).all()
    assert not (halves[::2] & halves[1::2]).any()
    np.testing.assert_allclose(halves.mean(axis=0), (n // 2) / n, atol=0.1)
    np.testing.assert_array_equal(halves, half_samples(n, 200, seed=0))
    if n > 2:
        assert not np.array_equal(halves, half_samples(n, 200, seed=1))


@pytest.mark.parametrize(
    ("n", "n_splits", "message"),
    [(1, 5, "expected at least 2 rows to halve, got 1."), (4, 0, "expected n_splits of at least 1, got 0.")],
)
def test_half_samples_of_nothing(n, n_splits, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        half_samples(n, n_splits, seed=0)
