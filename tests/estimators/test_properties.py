"""What must hold for every estimator of ours and any points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankselect.estimators.gride import Gride
from rankselect.estimators.half_samples import half_samples
from rankselect.estimators.mle import MLE
from rankselect.estimators.twonn import TwoNN

ESTIMATORS = [
    TwoNN(),
    TwoNN(discard_fraction=0.0),
    TwoNN(method="ml"),
    MLE(),
    MLE(n_neighbors=5, aggregate="mean"),
    MLE(n_neighbors=2, aggregate="median"),
    Gride(range_max=16),
    Gride(range_max=2),
]
seeds = st.integers(0, 2**32)
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
few = settings(max_examples=15)


def cloud(seed):
    rng = np.random.default_rng(seed)
    n, latent, d = rng.integers(60, 120), rng.integers(1, 8), rng.integers(8, 30)
    return np.tanh(rng.normal(size=(n, latent)) @ rng.normal(size=(latent, d))), rng


def assert_same(estimator, points, changed):
    before, after = estimator.estimate(points), estimator.estimate(changed)
    assert after.value == pytest.approx(before.value, rel=1e-6)
    assert after.stderr == pytest.approx(before.stderr, rel=1e-6)


@each_estimator
@given(seed=seeds)
@few
def test_isometries_change_nothing(estimator, seed):
    points, rng = cloud(seed)
    rotation = np.linalg.qr(rng.normal(size=(points.shape[1],) * 2))[0]
    assert_same(estimator, points, points @ rotation + 10 * rng.normal(size=points.shape[1]))


@each_estimator
@given(seed=seeds, factor=st.floats(1e-12, 1e12))
@few
def test_scaling_changes_nothing(estimator, seed, factor):
    points, _ = cloud(seed)
    assert_same(estimator, points, factor * points)


@each_estimator
@given(seed=seeds)
@few
def test_order_changes_nothing(estimator, seed):
    points, rng = cloud(seed)
    assert_same(estimator, points, points[rng.permutation(len(points))])


@each_estimator
@given(seed=seeds, columns=st.integers(1, 40))
@few
def test_zero_columns_change_nothing(estimator, seed, columns):
    points, _ = cloud(seed)
    assert_same(estimator, points, np.pad(points, ((0, 0), (0, columns))))


@each_estimator
@given(seed=seeds, repeats=st.integers(1, 10))
@few
def test_duplicates_change_nothing_but_are_counted(estimator, seed, repeats):
    points, rng = cloud(seed)
    repeated = np.vstack([points, points[rng.integers(len(points), size=repeats)]])
    assert_same(estimator, points, repeated)
    estimate = estimator.estimate(repeated)
    assert estimate.n_points == len(points) - estimate.n_near_duplicates
    assert estimate.n_duplicates == repeats


@each_estimator
@given(seed=seeds, duplicates=st.booleans(), as_tensor=st.booleans())
@few
def test_resampling_is_estimating_each_subset(estimator, seed, duplicates, as_tensor):
    points, rng = cloud(seed)
    if duplicates:
        points[:5] = points[5:10]
    splits = half_samples(len(points), 3, seed % 1000)
    splits = np.vstack([splits, rng.random(len(points)) < 0.8])
    given_points = torch.from_numpy(points) if as_tensor else points
    estimate, values = estimator.resample(given_points, splits)
    assert estimate == estimator.estimate(points)
    left_out = [copy for _, copy in estimate.near_duplicates]
    splits[:, left_out] = False
    expected = [estimator.estimate(points[split], near_duplicates="keep").value for split in splits]
    np.testing.assert_allclose(values, expected, rtol=1e-9)


@pytest.mark.parametrize("estimator", [TwoNN(), TwoNN(method="ml"), MLE(), Gride()], ids=repr)
@pytest.mark.parametrize("dimension", [2, 5])
def test_uniform_points_have_the_dimension_of_their_space(estimator, dimension):
    """On a torus, which has no edges; its curvature makes 20 neighbours in 5 dimensions see a little more."""
    angles = np.random.default_rng(dimension).uniform(0, 2 * np.pi, size=(3000, dimension))
    points = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    estimate = estimator.estimate(points)
    assert estimate.value == pytest.approx(dimension, rel=0.1)


@each_estimator
def test_repr_makes_an_equal_estimator(estimator):
    copy = eval(repr(estimator))
    assert copy == estimator
    assert hash(copy) == hash(estimator)
