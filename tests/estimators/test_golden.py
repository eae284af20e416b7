"""Agreement with scikit-dimension 0.5.0 and DADApy 0.3.4, from their recorded answers on five clouds of points."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rankselect.estimators.gride import Gride
from rankselect.estimators.mle import MLE
from rankselect.estimators.twonn import TwoNN

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = {case["name"]: case for case in json.loads((GOLDEN / "estimators.json").read_text())["cases"]}
POINTS = np.load(GOLDEN / "estimators.npz")

ESTIMATORS = {
    "twonn_skdim_discard0.1": TwoNN(),
    "twonn_dadapy_base": TwoNN(),
    "twonn_dadapy_ml": TwoNN(method="ml"),
    "mle_skdim_k20_mle": MLE(),
    "mle_skdim_k20_mean": MLE(aggregate="mean"),
    "mle_skdim_k20_median": MLE(aggregate="median"),
}


def points_of(case):
    return POINTS[f"{case['name']}_{case['n']}_{case['seed']}"]


@pytest.mark.parametrize("recorded", ESTIMATORS)
@pytest.mark.parametrize("name", CASES)
def test_value(name, recorded):
    estimate = ESTIMATORS[recorded].estimate(points_of(CASES[name]))
    assert estimate.value == pytest.approx(CASES[name][recorded], rel=1e-8)
    assert (estimate.n_points, estimate.n_duplicates) == (CASES[name]["n"], 0)


@pytest.mark.parametrize("name", CASES)
def test_gride_scaling(name):
    scaling, recorded = Gride().scaling(points_of(CASES[name])), CASES[name]["gride_dadapy"]
    np.testing.assert_allclose(scaling.values, recorded["ids"], rtol=1e-7)
    np.testing.assert_allclose(scaling.stderr, recorded["stderr"], rtol=1e-7)
    np.testing.assert_allclose(scaling.scales, recorded["scales"], rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_in_float32(name):
    points = points_of(CASES[name])
    for estimator in ESTIMATORS.values():
        value = estimator.estimate(points.astype(np.float32)).value
        assert value == pytest.approx(estimator.estimate(points).value, rel=1e-4)
