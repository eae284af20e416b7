"""Parts of the estimators against hand computations, and what a profile relies on besides the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rankselect.errors import ArgumentError, PointsError, UnknownNameError
from rankselect.estimators._base import Estimator, IDEstimate, estimator
from rankselect.estimators.gride import Gride, _maximum_likelihood, _plateau
from rankselect.estimators.half_samples import half_samples
from rankselect.estimators.mle import MLE, _stderr_of_median
from rankselect.estimators.skdim import SkDim
from rankselect.estimators.twonn import TwoNN, _relative_error_of_fit
from rankselect.neighbors import near_duplicates

POINTS = np.random.default_rng(0).normal(size=(100, 4))


@pytest.mark.parametrize("n1", [1, 2, 8])
def test_a_tie_counts_in_gride_as_a_ratio_of_hardly_more_than_one(n1):
    """Ratios so close to one that their sum is below one, four of which are exactly one."""
    log_mu = np.array([0.02, 0.11, 0.05, 0.07, 0.01, 0.09])
    ties = _maximum_likelihood(np.concatenate([log_mu, np.zeros(4)]), n1)
    nearly = _maximum_likelihood(np.concatenate([log_mu, np.full(4, 1e-9)]), n1)
    assert 0 < ties[1] < ties[0] < 1000
    assert ties == pytest.approx(nearly, rel=1e-6)


LOGS = np.array([0.2, 0.5, 0.9])
THREE = np.stack([np.ones(3), np.exp(LOGS)], axis=1)
"""Distances of three points to two neighbours, whose log ratios are LOGS."""


def test_the_fit_of_three_points_uses_two_and_one_is_too_few():
    y = np.log([3 / 2, 3])
    value, _ = TwoNN(discard_fraction=0).from_distances(THREE)
    assert value == pytest.approx((0.2 * y[0] + 0.5 * y[1]) / (0.04 + 0.25))
    with pytest.raises(PointsError, match="got 1 of 2 after discarding 0 of them"):
        TwoNN(discard_fraction=0).from_distances(THREE[:2])


def test_the_errors_of_averages_over_three_points():
    mean, local = LOGS.mean(), 1 / LOGS
    spread = np.sqrt(((LOGS - mean) ** 2).sum() / 2)
    assert MLE(2).from_distances(THREE) == pytest.approx((1 / mean, spread / mean**2 / np.sqrt(3)))
    spread = np.sqrt(((local - local.mean()) ** 2).sum() / 2)
    assert MLE(2, "mean").from_distances(THREE) == pytest.approx((local.mean(), spread / np.sqrt(3)))


@pytest.mark.parametrize(
    ("ids", "place"),
    [
        ([5.0], 0),
        ([5.0, 5.0], 0),
        ([9.0, 5.0, 5.0], 1),
        ([9.0, 5.0, 5.0, 5.0], 2),
        ([5.0, 5.0, 5.0, 9.0], 1),
        ([20.0, 12.0, 5.0, 4.0, 3.9, 3.0], 3),
    ],
)
def test_the_plateau_is_the_middle_of_the_three_closest_scales(ids, place):
    assert _plateau(np.array(ids)) == place


def test_the_error_of_a_median_is_half_the_interval_between_its_ranks():
    # Of 9 values the median has rank 4; half of sqrt(9) to either side, ranks 2.5 and 5.5.
    assert _stderr_of_median(np.arange(9.0)[::-1] ** 2) == pytest.approx(((25 + 36) / 2 - (4 + 9) / 2) / 2)


@pytest.mark.parametrize(("n", "n_used"), [(3, 2), (8, 5), (40, 36)])
def test_the_error_of_the_fit_is_that_of_its_gradient(n, n_used):
    """Every exponential is moved by a little in turn."""
    y = -np.log1p(-np.arange(1, n_used + 1) / n)

    def relative(z):
        expected = np.cumsum(z / (n - np.arange(n_used)))
        return expected @ y / (expected @ expected)

    step = 1e-6 * np.eye(n_used)
    gradient = [(relative(1 + each) - relative(1 - each)) / 2e-6 for each in step]
    found = _relative_error_of_fit(n, y)
    assert found == pytest.approx(np.linalg.norm(gradient) / relative(np.ones(n_used)), rel=1e-6)


@dataclass(frozen=True)
class Whole(Estimator):
    """An estimator of a third party whose values are whole numbers, of tensors the negative ones."""

    def estimate(self, points):
        sign = 1 if isinstance(points, np.ndarray) else -1
        return IDEstimate(sign * len(points), 0.0, len(points), 0)


def test_resampled_values_are_floats_and_tensors_stay_tensors():
    splits = half_samples(100, 1, seed=0)
    _, values = Whole().resample(POINTS, splits)
    assert (values.dtype, values.tolist()) == (np.float64, [50, 50])
    estimate, values = Whole().resample(torch.from_numpy(POINTS), splits)
    assert (estimate.value, values.tolist()) == (-100, [-50, -50])


def test_halves_are_found_among_neighbours_that_were_searched_once(monkeypatch):
    """A search for each half would take a profile most of its time."""
    searches = []
    search = near_duplicates.nearest_neighbors

    def counted(*arguments, **options):
        searches.append(options)
        return search(*arguments, **options)

    monkeypatch.setattr(near_duplicates, "nearest_neighbors", counted)
    TwoNN().resample(POINTS, half_samples(100, 20, seed=0))
    assert searches == [{"extra": 2 + math.ceil(6 * math.sqrt(2)) + 12, "block_size": 10485}]


@pytest.mark.parametrize(("n", "block"), [(8192, 128), (8191, 128), (4096, 256), (5000, 209)])
def test_the_search_of_many_points_takes_little_memory(monkeypatch, n, block):
    class Searched(Exception):  # noqa: N818
        pass

    def stop(*_, block_size, **__):
        raise Searched(block_size)

    monkeypatch.setattr(near_duplicates, "nearest_neighbors", stop)
    with pytest.raises(Searched, match=f"^{block}$"):
        TwoNN().resample(POINTS, np.zeros((2, n), dtype=bool))


def test_an_estimator_is_known_by_its_name_with_arguments():
    assert estimator("twonn:method=ml") == TwoNN(method="ml")
    assert estimator("gride:range_max=8") == Gride(8)
    given = Gride(4)
    assert estimator(given) is given
    with pytest.raises(UnknownNameError, match="expected the name of an? .*estimator, got 'towards'"):
        estimator("towards")
    with pytest.raises(ArgumentError, match="expected an estimator, or the name of one, got 8"):
        estimator(8)


def test_scikit_dimension_gets_four_points_at_least():
    with pytest.raises(PointsError, match="at least 4 distinct points, got 3 points"):
        SkDim("lPCA").estimate(POINTS[:3])
    assert SkDim("lPCA").estimate(POINTS[:4]).n_points == 4
