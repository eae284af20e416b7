"""Two models on the same questions: the difference, its interval, and when a difference is shown."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.errors import ArgumentError, MetricError
from rankselect.metrics._base import Metric
from rankselect.metrics.harmonic import HarmonicMeanOfMeans
from rankselect.metrics.paired import PairedDifference, paired_difference
from rankselect.metrics.perplexity import Perplexity
from rankselect.metrics.squad import ExactMatch, TokenF1

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20)


class Loss(Metric):
    """Returns the losses as scores."""

    name = "loss"
    higher_is_better = False
    requires = ("losses",)

    def values(self, answers):
        return answers.losses


LOSS = Loss()


def scored(scores, metric=LOSS):
    texts = ["text"] * len(scores)
    return metric.evaluate(texts, texts, losses=scores, n_resamples=1)


@given(PAIRS)
def test_it_is_the_mean_of_differences_and_changes_sign_with_the_order(pairs):
    a, b = (scored(column) for column in zip(*pairs, strict=True))
    one, other = paired_difference(a, b, n_resamples=200), paired_difference(b, a, n_resamples=200)
    assert one.mean == pytest.approx(np.mean(a.values - b.values), abs=1e-12)
    assert (other.mean, other.low, other.high) == pytest.approx((-one.mean, -one.high, -one.low), abs=1e-9)
    assert one.low - 1e-12 <= one.mean <= one.high + 1e-12
    assert one.n == len(pairs)


def test_a_constant_difference_is_shown_at_any_spread_of_scores():
    scores = np.random.default_rng(0).uniform(size=50)
    a, b = scored(scores + 0.01), scored(scores)
    difference = paired_difference(a, b)
    assert (difference.low, difference.high) == (pytest.approx(0.01), pytest.approx(0.01))
    assert str(difference) == "loss +0.0100 (95% interval +0.0100 to +0.0100, 50 questions): the second is better"


def test_random_variation_shows_no_difference():
    rng = np.random.default_rng(0)
    base = rng.uniform(size=100)
    a, b = (scored(base + rng.normal(size=100) / 10 + 1) for _ in range(2))
    difference = paired_difference(a, b)
    assert difference.low < 0 < difference.high
    assert not difference.shown
    assert str(difference).endswith("no difference shown")


@pytest.mark.parametrize(("n", "shown"), [(1, False), (5, False), (6, True), (50, True)])
def test_a_few_questions_show_nothing(n, shown):
    difference = paired_difference(scored([1.0] * n), scored([0.5] * n))
    assert difference.low == difference.high == 0.5
    assert difference.shown is shown


def test_at_most_one_in_twenty_is_a_false_positive():
    rng = np.random.default_rng(0)
    alarms = 0
    for seed in range(300):
        a, b = (scored(rng.uniform(size=40)) for _ in range(2))
        alarms += paired_difference(a, b, n_resamples=400, seed=seed).shown
    assert 0 < alarms / 300 < 0.09


def test_which_is_better():
    up = PairedDifference(0.2, 0.1, 0.3, 20, 0.9, "f1", higher_is_better=True)
    down = PairedDifference(-0.2, -0.3, -0.1, 20, 0.9, "perplexity", higher_is_better=False)
    assert str(up).endswith("90% interval +0.1000 to +0.3000, 20 questions): the first is better")
    assert str(down).endswith("the first is better")


def test_averages_are_computed_by_the_metric():
    a, b = (scored(losses, Perplexity()) for losses in ([0.0, math.log(16)], [math.log(2)] * 2))
    assert paired_difference(a, b).mean == pytest.approx(4 - 2)
    texts = ["the heart", "a rare fever"] * 4, ["heart", "fever"] * 4
    both = HarmonicMeanOfMeans((TokenF1(), ExactMatch())).evaluate(*texts)
    difference = paired_difference(both, both)
    assert (difference.mean, difference.low, difference.high, difference.n) == (0, 0, 0, 8)


@dataclass(frozen=True)
class Weighted(Metric):
    weight: Any
    name = "weighted"

    def values(self, answers):
        return [self.weight] * len(answers.predictions)


def test_two_metrics_cannot_be_compared():
    with pytest.raises(
        MetricError, match=re.escape("expected two results of the same metric, got TokenF1() and ExactMatch()")
    ):
        paired_difference(TokenF1().evaluate(["a"], ["b"]), ExactMatch().evaluate(["a"], ["b"]))
    with pytest.raises(MetricError, match=re.escape("got Weighted(weight=1) and Weighted(weight=2). Score both with")):
        paired_difference(Weighted(1).evaluate(["a"], ["b"]), Weighted(2).evaluate(["a"], ["b"]))


def test_different_numbers_of_answers_cannot_be_compared():
    message = "expected the same number of answers from both models, got 2 and 3. Score both on the same questions."
    with pytest.raises(MetricError, match=re.escape(message)):
        paired_difference(scored([1.0, 2.0]), scored([1.0, 2.0, 3.0]))


def test_settings_of_the_interval():
    result = scored([1.0])
    for arguments in ({"confidence": 95}, {"n_resamples": 0}, {"seed": -1}):
        with pytest.raises(ArgumentError, match=f"got {next(iter(arguments.values()))}"):
            paired_difference(result, result, **arguments)
