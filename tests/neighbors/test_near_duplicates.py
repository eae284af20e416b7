"""Near-copies: what is found, what is left alone, and what becomes of an estimate."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rankselect as rs
from rankselect.neighbors.near_duplicates import find_near_duplicates, without_near_duplicates
from rankselect.neighbors.nearest import nearest_neighbors

TWO_ON_A_LINE = [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]


def cloud(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) @ np.eye(d, 2 * d)


def with_copies(points, share, noise, seed=1):
    n = round(share * len(points))
    rng = np.random.default_rng(seed)
    return np.vstack([points, points[:n] + noise * rng.normal(size=points[:n].shape)])


@pytest.mark.parametrize("d", [4, 8, 16])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("noise", [1e-6, 1e-2])
def test_the_estimate_stays_where_it_was_without_the_copies(d, share, noise):
    points = cloud(400, d)
    clean = rs.TwoNN().estimate(points)
    with pytest.warns(
        rs.RankSelectWarning, match=r"points are near-copies of others, for example row \d+ of row \d+: they were"
    ):
        found = rs.TwoNN().estimate(with_copies(points, share, noise))
    assert found.value == pytest.approx(clean.value, rel=0.15)
    assert abs(found.n_near_duplicates - share * 400) <= 0.02 * 400
    with pytest.warns(rs.RankSelectWarning, match="they are kept, and lower the estimate"):
        kept = rs.TwoNN().estimate(with_copies(points, share, noise), near_duplicates="keep")
    assert kept.value < 0.7 * clean.value
    assert kept.n_points == 400 + share * 400


@pytest.mark.parametrize("estimator", ["twonn", "mle", "gride:range_max=8", "skdim:lPCA", "skdim:TwoNN"])
def test_every_estimator_leaves_them_out(estimator):
    points = cloud(200, 6)
    by = rs.estimator(estimator)
    half = np.random.default_rng(0).random(220) < 0.5
    splits = np.vstack([half, ~half])
    with pytest.warns(rs.RankSelectWarning, match="20 of 220 points are near-copies"):
        estimate = by.estimate(with_copies(points, 0.1, 1e-6))
    assert estimate.value == pytest.approx(by.estimate(points).value, rel=1e-3)
    assert by.resample(with_copies(points, 0.1, 1e-6), splits)[0].near_duplicates == estimate.near_duplicates
    assert estimate.near_duplicates == tuple((row, 200 + row) for row in range(20))


CLOUDS = {
    "line": lambda rng, n: rng.uniform(size=(n, 1)),
    "plane": lambda rng, n: rng.normal(size=(n, 2)),
    "ball of 5": lambda rng, n: rng.normal(size=(n, 5)),
    "ball of 16": lambda rng, n: rng.normal(size=(n, 16)),
    "heavy tails": lambda rng, n: rng.standard_t(3, size=(n, 8)),
    "skewed": lambda rng, n: np.exp(rng.normal(size=(n, 6))),
    "two densities": lambda rng, n: np.vstack(
        [rng.normal(size=(n // 2, 8)) / 10, rng.normal(size=(n - n // 2, 8)) + 5]
    ),
    "a plane with noise": lambda rng, n: rng.normal(size=(n, 2)) @ np.eye(2, 30) + 0.02 * rng.normal(size=(n, 30)),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_without_copies_are_hardly_ever_touched(name):
    left_out = []
    for seed in range(20):
        points = CLOUDS[name](np.random.default_rng(seed), 150)
        left_out.append(len(without_near_duplicates(points, 2).pairs))
    assert np.mean(np.array(left_out) > 0) <= 0.1
    assert np.mean(left_out) <= 0.01 * 150 * 0.1


@given(st.integers(5, 60), st.integers(1, 6), st.integers(0, 999))
@settings(max_examples=40)
def test_pairs_are_disjoint_and_what_is_left_is_the_rest(n, d, seed):
    rng = np.random.default_rng(seed)
    points = with_copies(rng.normal(size=(n, d)), rng.random(), 10.0 ** rng.integers(-8, 0))
    found = without_near_duplicates(points, 2)
    rows = [row for pair in found.pairs for row in pair]
    copies = [copy for _, copy in found.pairs]
    assert len(set(copies)) == len(copies)
    assert set(found.rows) == set(range(len(points))) - set(copies)
    assert all(kept < copy for kept, copy in found.pairs)
    assert found.neighbors.n_points == len(found.rows)
    assert set(rows) <= set(range(len(points)))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_rows_are_those_of_the_input_even_if_some_are_equal(as_tensor):
    points = cloud(100, 5)
    points = np.vstack([points[:3], with_copies(points, 0.04, 1e-5)])
    found = without_near_duplicates(torch.from_numpy(points) if as_tensor else points, 2)
    assert found.pairs == ((0, 103), (1, 104), (2, 105), (6, 106))
    assert found.n_duplicates == 3
    assert len(found.rows) == len(points) - 4


def test_lattices_and_few_points_have_none():
    assert len(find_near_duplicates(nearest_neighbors(TWO_ON_A_LINE, 4))) == 0
    assert len(find_near_duplicates(nearest_neighbors(TWO_ON_A_LINE, 3))) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rs.TwoNN().estimate([[0.0, 0], [1, 0], [0, 3], [9, 9]]).n_near_duplicates == 0


def test_three_copies_of_a_point_leave_one_by_one():
    points = cloud(200, 6)
    copies = [points[:10] + shift for shift in (1e-4, -2e-4, 3e-4)]
    found = without_near_duplicates(np.vstack([points, *copies]), 2)
    assert len(found.pairs) == 30
    assert found.neighbors.n_points == 200


def test_another_word_is_refused():
    with pytest.raises(rs.errors.ArgumentError, match="near_duplicates 'drop' or 'keep', got 'no'"):
        rs.TwoNN().estimate(cloud(20, 2), near_duplicates="no")


@pytest.mark.parametrize("n", [4, 9])
def test_points_at_one_distance_have_no_dimension(n):
    points = np.eye(n) + 1e-13 * np.random.default_rng(0).normal(size=(n, n))
    with pytest.raises(
        rs.errors.PointsError, match=f"dimension of at most {n}, the number of coordinates, got .*same distance"
    ):
        rs.TwoNN().estimate(points)
