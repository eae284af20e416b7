"""Half samples: the spread they show is the spread that other samples would show."""

from __future__ import annotations

import numpy as np
import pytest

from rankselect import MLE, TwoNN
from rankselect.calibration.estimates import order_agreement
from rankselect.estimators.half_samples import half_sample_stderr, half_samples


@pytest.mark.parametrize("estimator", [TwoNN(), TwoNN(method="ml"), MLE(10)])
def test_the_standard_error_is_that_of_fresh_samples(estimator):
    """Over fresh clouds the estimates spread as the half samples of one cloud say, within the noise of 60 clouds."""
    rng = np.random.default_rng(3)
    values, errors = [], []
    for _ in range(60):
        points = rng.standard_normal((240, 6))
        estimate, replicates = estimator.resample(points, half_samples(240, 25, seed=0))
        values.append(estimate.value)
        errors.append(half_sample_stderr(replicates))
    assert 0.75 < np.mean(errors) / np.std(values, ddof=1) < 1.35


def test_the_order_is_settled_where_layers_differ_by_more_than_their_error():
    rng = np.random.default_rng(0)
    settled = [level + 0.1 * rng.standard_normal(40) for level in range(8)]
    chance = [0.1 * rng.standard_normal(40) for _ in range(8)]
    assert order_agreement(settled) > 0.95
    assert abs(order_agreement(chance)) < 0.3


def test_the_order_of_equal_layers_is_not_settled_and_that_of_one_layer_is():
    assert order_agreement([np.ones(4), np.ones(4)]) == 0.0
    assert order_agreement([np.arange(4.0)]) == 1.0
