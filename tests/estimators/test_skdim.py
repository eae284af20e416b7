"""scikit-dimension's estimators through `SkDim`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from rankselect.errors import ArgumentError, MissingExtraError, PointsError, UnknownNameError
from rankselect.estimators.half_samples import half_sample_stderr, half_samples
from rankselect.estimators.mle import MLE
from rankselect.estimators.skdim import SkDim
from rankselect.estimators.twonn import TwoNN

skdim_id = pytest.importorskip("skdim.id")

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(300, 4)) @ RNG.normal(size=(4, 10)) + 0.05 * RNG.normal(size=(300, 10))
SLOW = {"ESS": 60, "DANCo": 60, "PH": 100}  # seconds for one estimate from all points: these get fewer


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.not_under_mutants] * (name in {*SLOW, "FisherS"}))
        for name, _ in inspect.getmembers(skdim_id, inspect.isclass)
    ],
)
def test_every_estimator_answers_or_raises_our_error(name):
    points = POINTS[: SLOW.get(name, 300)]
    try:
        estimate, values = SkDim(name).resample(points, half_samples(len(points), 1, seed=0))
    except PointsError as error:
        assert repr(SkDim(name)) in str(error)  # noqa: PT017
    else:
        assert np.isfinite(values).all()
        assert 1 <= estimate.value <= 10
        assert estimate.stderr >= 0
        assert (estimate.n_points, estimate.n_duplicates) == (len(points), 0)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (SkDim("TwoNN"), TwoNN()),
        (SkDim("TwoNN", discard_fraction=0.3), TwoNN(discard_fraction=0.3)),
        (SkDim("MLE", n_neighbors=7, comb="median"), MLE(7, "median")),
    ],
    ids=repr,
)
def test_arguments_reach_the_constructor_and_fit(theirs, ours):
    assert theirs.estimate(POINTS).value == pytest.approx(ours.estimate(POINTS).value)


def test_duplicates_are_dropped_and_counted():
    repeated = np.vstack([POINTS, POINTS[:20]])
    estimate = SkDim("TwoNN").estimate(POINTS)
    assert SkDim("TwoNN").estimate(repeated) == dataclasses.replace(estimate, n_duplicates=20)


def test_points_of_any_kind_and_left_alone():
    before = POINTS.copy()
    value = SkDim("MLE").estimate(POINTS).value
    assert SkDim("MLE").estimate(torch.from_numpy(POINTS)).value == value
    assert SkDim("MLE").estimate(POINTS.tolist()).value == value
    np.testing.assert_array_equal(POINTS, before)


def test_random_numbers_are_seeded_and_put_back():
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    first = SkDim("KNN").estimate(POINTS)
    np.testing.assert_array_equal(np.random.random(3), expected)
    assert SkDim("KNN").estimate(POINTS) == first


def test_stderr_is_that_of_its_half_samples():
    estimate = SkDim("MLE").estimate(POINTS)
    again, values = SkDim("MLE").resample(POINTS, half_samples(300, 4, seed=0))
    assert again == estimate
    assert estimate.stderr == half_sample_stderr(values)
    assert 0.02 < estimate.stderr < 0.5


def test_resampling_does_not_nest(monkeypatch):
    calls = []
    original = SkDim._value
    monkeypatch.setattr(SkDim, "_value", lambda self, rows: calls.append(len(rows)) or original(self, rows))
    SkDim("lPCA").resample(POINTS, half_samples(300, 3, seed=0))
    assert calls == [300] + [150] * 6


def test_it_is_a_value():
    estimator = SkDim("lPCA", ver="FO", alphaFO=0.1)
    assert repr(estimator) == "SkDim('lPCA', alphaFO=0.1, ver='FO')"
    assert eval(repr(estimator)) == estimator
    assert hash(estimator) == hash(SkDim("lPCA", alphaFO=0.1, ver="FO"))
    assert estimator != SkDim("lPCA")
    with pytest.raises(AttributeError):
        estimator.name = "MLE"


@pytest.mark.parametrize(
    ("estimator", "points", "message"),
    [
        (
            SkDim("MLE", n_neighbors=200),
            POINTS,
            "SkDim('MLE', n_neighbors=200), got the warning: n_neighbors >= len(X)",
        ),
        (SkDim("lPCA", ver="nonsense"), POINTS, "intrinsic dimension from SkDim('lPCA', ver='nonsense'), got"),
        (SkDim("TwoNN", discard_fraction=0.99), POINTS, "got ValueError: Fewer than 2 points left"),
        (SkDim("TwoNN"), np.eye(30), "intrinsic dimension from SkDim('TwoNN'), got an intrinsic dimension of 0"),
        (SkDim("TwoNN"), np.ones((5, 3)), "got 5 points, and all points are equal."),
        (SkDim("TwoNN"), np.full((5, 3), np.nan), "expected points with finite values"),
    ],
)
def test_points_without_an_answer(estimator, points, message):
    with pytest.raises(PointsError, match=re.escape(message)):
        estimator.estimate(points)


def test_harmless_warnings_are_kept_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SkDim("TLE").estimate(POINTS)


@pytest.mark.parametrize(
    "splits",
    [
        np.ones((2, 300), dtype=bool),
        half_samples(300, 2, seed=0)[:3],
        half_samples(300, 1, seed=0)[:1],
        half_samples(300, 1, seed=0)[:0],
    ],
)
def test_splits_that_are_not_pairs_of_halves(splits):
    with pytest.raises(ArgumentError, match="expected splits in pairs of disjoint halves"):
        SkDim("lPCA").resample(POINTS, splits)


def test_unknown_estimator():
    with pytest.raises(UnknownNameError, match="expected the name of a scikit-dimension estimator, got 'LPCA'"):
        SkDim("LPCA")


def test_what_the_module_has_besides_estimators_is_none():
    with pytest.raises(UnknownNameError, match="expected the name of a scikit-dimension estimator, got '__name__'"):
        SkDim("__name__")


@pytest.mark.parametrize("name", ["X", "y", "precomputed_knn_arrays"])
@pytest.mark.parametrize("estimator", ["MLE", "TwoNN", "ESS"])
def test_the_points_are_no_argument(estimator, name):
    with pytest.raises(
        ArgumentError, match=rf"that scikit-dimension's {estimator} takes, got {name}\. Known: "
    ) as caught:
        SkDim(estimator, **{name: 1})
    known = re.split("[ ,.]+", str(caught.value).partition("Known: ")[2])
    assert not {"self", "X", "y", "precomputed_knn_arrays"} & set(known)


def test_unknown_argument():
    with pytest.raises(ArgumentError, match=r"that scikit-dimension's lPCA takes, got version. Known: .*, ver"):
        SkDim("lPCA", version="FO")


def test_argument_that_cannot_be_hashed():
    with pytest.raises(ArgumentError, match=re.escape("a hashable ps for scikit-dimension's KNN, got [3, 4]")):
        SkDim("KNN", ps=[3, 4])


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "skdim.id", None)
    with pytest.raises(MissingExtraError, match=re.escape('Run: pip install "rankselect[skdim]"')):
        SkDim("lPCA")


@pytest.mark.not_under_mutants
def test_importing_scikit_dimension_does_not_silence_other_warnings():
    code = """
import warnings
from rankselect.estimators.skdim import SkDim
before = list(warnings.filters)
SkDim("lPCA")
print(warnings.filters == before)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["True"]
