"""Perplexity: the geometric mean from losses, and invalid losses."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.errors import MetricError
from rankselect.metrics.perplexity import Perplexity

LOSSES = st.lists(st.floats(0, 700), min_size=1, max_size=20)


def evaluate(losses, **arguments):
    return Perplexity().evaluate(losses=losses, **arguments)


def test_a_uniform_guess_has_the_perplexity_of_the_vocabulary():
    result = evaluate([math.log(512)] * 4)
    np.testing.assert_allclose(result.values, 512)
    assert result.mean == pytest.approx(512)
    assert result.low == result.high == result.mean
    assert not result.higher_is_better


@given(LOSSES)
def test_the_average_is_the_exponential_of_the_mean_loss(losses):
    result = evaluate(losses, n_resamples=10)
    np.testing.assert_allclose(np.log(result.values), losses, atol=1e-12)
    assert math.log(result.mean) == pytest.approx(sum(losses) / len(losses), abs=1e-9)
    assert min(result.values) * (1 - 1e-9) <= result.low <= result.high <= max(result.values) * (1 + 1e-9)


def test_the_average_is_not_the_mean_of_the_perplexities():
    assert evaluate([0.0, math.log(100)]).mean == pytest.approx(10)


def test_texts_are_allowed_and_change_nothing():
    losses = [0.5, 1.5]
    one = Perplexity().evaluate(["", ""], ["a", "b"], losses=losses)
    np.testing.assert_array_equal(one.values, evaluate(losses).values)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (
            [1.0, 800.0],
            "expected losses of at most 709 nats per token, got 800 at index 1. Check the model, and that the loss",
        ),
        ([-2.5], "expected losses of at least 0, got -2.5 at index 0. A loss is the negative log-probability"),
        ([float("nan")], "expected finite losses, got nan at index 0."),
        ([float("inf")], "expected finite losses, got inf at index 0."),
    ],
)
def test_losses_that_have_no_perplexity(losses, message):
    with pytest.raises(MetricError, match=re.escape(message)):
        evaluate(losses)


def test_the_greatest_allowed_loss_has_a_perplexity():
    assert math.isfinite(evaluate([709.0, 709.0]).mean)


def test_a_rounding_error_below_zero_is_not_an_error():
    assert evaluate([-1e-9]).mean == pytest.approx(1)


def test_without_losses():
    message = "expected losses for the metric perplexity, got none. Pass losses=, one for each answer."
    with pytest.raises(MetricError, match=re.escape(message)):
        Perplexity().evaluate(["a"], ["b"])
