"""What third parties inherit, what they must write, and what they get when points or arguments are bad."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rankselect.errors import ArgumentError, PointsError
from rankselect.estimators._base import Estimator, IDEstimate, NeighborEstimator
from rankselect.estimators.gride import Gride
from rankselect.estimators.half_samples import half_samples
from rankselect.estimators.mle import MLE
from rankselect.estimators.twonn import TwoNN
from rankselect.neighbors.nearest import nearest_neighbors

OWN = [TwoNN(), TwoNN(method="ml"), MLE(), MLE(aggregate="mean"), MLE(aggregate="median"), Gride(range_max=16)]
POINTS = np.random.default_rng(0).normal(size=(100, 4))


@dataclass(frozen=True)
class Rows(Estimator):
    """An estimator of a third party, which remembers nothing and answers with the number of rows."""

    def estimate(self, points):
        return IDEstimate(float(len(points)), 0.0, len(points), 0)


@dataclass(frozen=True)
class FirstDistance(NeighborEstimator):
    """One with neighbours."""

    answer: float = 1.0

    @property
    def neighbors_needed(self):
        return 1

    def from_distances(self, distances):
        return self.answer * distances[:, 0].mean(), 0.0


@pytest.mark.parametrize("points", [POINTS, POINTS.tolist(), torch.from_numpy(POINTS)], ids=["numpy", "list", "torch"])
def test_any_estimator_can_be_resampled(points):
    estimate, values = Rows().resample(points, half_samples(100, 2, seed=0))
    assert estimate.value == 100
    np.testing.assert_array_equal(values, [50, 50, 50, 50])


def test_an_estimator_of_neighbours_gets_all_but_the_formula():
    repeated = np.vstack([POINTS, POINTS[:3]])
    estimate = FirstDistance().estimate(repeated)
    mean = nearest_neighbors(POINTS, 1).distances.mean()
    assert estimate == IDEstimate(mean, 0.0, 100, 3)


@pytest.mark.parametrize("answer", [np.nan, np.inf, 0.0, -1.0])
def test_answers_that_are_no_dimension_raise(answer):
    message = rf"points from which FirstDistance\(answer={answer}\) computes .* ± 0"
    with pytest.raises(PointsError, match=message):
        FirstDistance(answer).estimate(POINTS)
    with pytest.raises(PointsError, match=message):
        FirstDistance(answer).resample(POINTS, half_samples(100, 2, seed=0))


def test_abstract_classes_cannot_be_made():
    for abstract in (Estimator, NeighborEstimator):
        with pytest.raises(TypeError, match="abstract"):
            abstract()


@pytest.mark.parametrize("estimator", [*OWN, Rows()], ids=repr)
@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (np.ones((2, 99), dtype=bool), "splits that are booleans of shape (r, 100), got bool of shape (2, 99)"),
        (np.ones(100, dtype=bool), "got bool of shape (100,)"),
        (np.ones((2, 100), dtype=int), "got int64 of shape (2, 100). Draw them with half_samples."),
    ],
)
def test_bad_splits(estimator, splits, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        estimator.resample(POINTS, splits)


@pytest.mark.parametrize("estimator", OWN, ids=repr)
def test_bad_points(estimator):
    for points, message in (
        (np.ones((50, 3)), "got 50 points, and all points are equal."),
        (np.full((50, 3), np.nan), "NaN, infinite or larger than 1e+300 in 50 of 50 rows, first in row 0."),
        (POINTS[:, 0], "got shape (100,)."),
        (POINTS[:2], f"at least {estimator.neighbors_needed + 1} distinct points, got 2 points"),
    ):
        with pytest.raises(PointsError, match=re.escape(message)):
            estimator.estimate(points)


@pytest.mark.parametrize("estimator", OWN, ids=repr)
def test_subsets_that_are_too_small(estimator):
    splits = np.zeros((1, 100), dtype=bool)
    splits[0, :2] = True
    with pytest.raises(PointsError, match=re.escape("distinct points, got 2 points")):
        estimator.resample(POINTS, splits)


@pytest.mark.parametrize(
    "estimator", [TwoNN(), TwoNN(method="ml"), MLE(4), MLE(4, "mean"), MLE(4, "median"), Gride(4)], ids=repr
)
def test_points_at_equal_distances(estimator):
    message = "Points on a lattice, or with many equal distances, have no intrinsic dimension"
    with pytest.raises(PointsError, match=message):
        estimator.estimate(np.eye(30))
    with pytest.raises(PointsError, match=message):
        estimator.resample(np.eye(30), half_samples(30, 1, seed=0))


def test_scaling_of_points_at_equal_distances():
    with pytest.raises(PointsError, match=r"from which Gride\(range_max=4\) computes inf"):
        Gride(4).scaling(np.eye(30))


def test_discarding_nearly_everything():
    with pytest.raises(PointsError, match=r"at least two distance ratios to fit, got 1 of 100 after discarding 0.99"):
        TwoNN(discard_fraction=0.99).estimate(POINTS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TwoNN(discard_fraction=1.0), "expected discard_fraction in [0, 1), got 1.0."),
        (lambda: TwoNN(discard_fraction=-0.1), "got -0.1."),
        (lambda: TwoNN(discard_fraction=float("nan")), "got nan."),
        (lambda: TwoNN(method="mle"), 'expected method "fit" or "ml", got \'mle\'.'),
        (lambda: MLE(n_neighbors=1), "expected n_neighbors of at least 2, got 1."),
        (lambda: MLE(aggregate="max"), 'expected aggregate "mle", "mean" or "median", got \'max\'.'),
        (lambda: Gride(range_max=1), "expected range_max that is a power of two, at least 2, got 1."),
        (lambda: Gride(range_max=48), "got 48."),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        make()


def test_gride_finds_the_plateau_between_noise_and_curvature():
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, size=(2000, 2))
    torus = np.concatenate([np.sin(angles), np.cos(angles)], axis=1) @ rng.normal(size=(4, 30))
    points = torus + 0.05 * rng.normal(size=torus.shape)
    scaling = Gride().scaling(points)
    assert scaling.values[0] > 4  # noise
    assert Gride().estimate(points).value == pytest.approx(2, rel=0.1)


def test_gride_with_few_scales():
    assert Gride(2).estimate(POINTS).value == Gride(2).scaling(POINTS).values[0]
    assert Gride(4).estimate(POINTS).value == Gride(4).scaling(POINTS).values[0]
    assert Gride(2).estimate(POINTS).value == pytest.approx(TwoNN(method="ml").estimate(POINTS).value)
