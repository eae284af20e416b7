"""Harmonic means: of each answer's scores, and of averages."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.errors import ArgumentError, MetricError
from rankselect.metrics._base import Metric
from rankselect.metrics.harmonic import HarmonicMean, HarmonicMeanOfMeans, harmonic_mean
from rankselect.metrics.perplexity import Perplexity
from rankselect.metrics.squad import ExactMatch, TokenF1

# QuestEval, F1 and their harmonic mean.
SCORES = [
    (0.3593, 0.1446, 0.2062),
    (0.4868, 0.1379, 0.2149),
    (0.3669, 0.0918, 0.1469),
    (0.4563, 0.1348, 0.2081),
    (0.4285, 0.1189, 0.1861),
    (0.4375, 0.1170, 0.1846),
]
SHARES = st.floats(0, 1)


@dataclass(frozen=True)
class Given(Metric):
    scores: Any
    name = "given"

    def values(self, answers):
        return self.scores


@dataclass(frozen=True)
class Asking(Given):
    name = "asking"
    requires = ("questions",)


def evaluate(kind, *columns, **arguments):
    texts = ["text"] * len(columns[0])
    return kind(tuple(Given(column) for column in columns)).evaluate(texts, texts, **arguments)


@pytest.mark.parametrize(("questeval", "f1", "true"), SCORES)
def test_harmonic_means_to_four_digits(questeval, f1, true):
    assert round(float(harmonic_mean(questeval, f1)), 4) == true


@given(st.lists(SHARES, min_size=1, max_size=5))
def test_it_agrees_with_the_standard_library(scores):
    assert float(harmonic_mean(*scores)) == pytest.approx(statistics.harmonic_mean(scores), rel=1e-12)


def test_scores_so_small_that_their_reciprocal_overflows():
    assert float(harmonic_mean(5e-324, 1.0)) == 1e-323
    assert float(harmonic_mean(1e-320, 1e-320)) == 1e-320
    assert harmonic_mean(0.0, 0.0) == 0


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((), "expected at least one score, got none."),
        ((0.5, -0.1), "expected finite scores of at least 0, got (0.5, -0.1). Others have no harmonic mean."),
        ((0.5, float("nan")), "expected finite scores of at least 0, got (0.5, nan)."),
    ],
)
def test_scores_without_a_harmonic_mean(scores, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        harmonic_mean(*scores)


def test_the_two_harmonic_means_differ():
    columns = [1.0, 0.5, 0.0], [0.5, 0.5, 1.0]
    each = evaluate(HarmonicMean, *columns)
    np.testing.assert_allclose(each.values, [2 / 3, 0.5, 0.0])
    assert each.mean == pytest.approx((2 / 3 + 0.5) / 3)
    means = evaluate(HarmonicMeanOfMeans, *columns)
    np.testing.assert_array_equal(means.values, columns)
    assert means.mean == pytest.approx(float(harmonic_mean(0.5, 2 / 3)))
    assert each.metric == "harmonic-mean(given, given)"
    assert means.metric == "harmonic-mean-of-means(given, given)"


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=20))
def test_the_mean_of_answers_is_never_above_that_of_means(pairs):
    columns = [list(column) for column in zip(*pairs, strict=True)]
    each, means = (evaluate(kind, *columns, n_resamples=10) for kind in (HarmonicMean, HarmonicMeanOfMeans))
    assert each.mean <= means.mean + 1e-12
    assert means.mean <= max(np.mean(columns, axis=1)) + 1e-12


def test_means_are_resampled_jointly():
    """Two scores that add up to 1 are anticorrelated: resampled separately, both averages could be high at once."""
    scores = np.random.default_rng(0).uniform(size=50)
    result = evaluate(HarmonicMeanOfMeans, scores, 1 - scores)
    assert result.low <= result.mean <= result.high <= 0.5


def test_each_part_averages_its_own_scores():
    @dataclass(frozen=True)
    class Median(Given):
        def aggregate(self, values):
            return np.median(values, axis=-1)

    texts = ["text"] * 3
    result = HarmonicMeanOfMeans((Median([0.0, 0.5, 0.6]), Given([1.0, 0.5, 0.0]))).evaluate(texts, texts)
    assert result.mean == pytest.approx(0.5)


def test_it_requires_what_its_parts_require():
    both = HarmonicMean([TokenF1(), Asking([0.5]), Asking([0.7])])
    assert both.requires == ("questions",)
    assert both == HarmonicMean((TokenF1(), Asking([0.5]), Asking([0.7])))
    with pytest.raises(
        MetricError, match=re.escape("questions for the metric harmonic-mean(token-f1, asking, asking)")
    ):
        both.evaluate(["a"], ["b"])


def test_metrics_by_name_are_those_metrics():
    assert HarmonicMean(("token-f1", ExactMatch())) == HarmonicMean((TokenF1(), ExactMatch()))


@pytest.mark.parametrize("kind", [HarmonicMean, HarmonicMeanOfMeans])
def test_metrics_that_cannot_take_part(kind):
    for metrics, message in (
        ((), "expected at least two metrics, got ()."),
        (TokenF1(), "expected at least two metrics, got (TokenF1(),). For example (TokenF1(), ExactMatch())."),
        ((TokenF1(), ExactMatch), "expected a metric, or the name of one, got the class ExactMatch."),
        ((TokenF1(), Perplexity()), "expected metrics for which higher is better, got perplexity. Leave it out"),
    ):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            kind(metrics)


@pytest.mark.parametrize("kind", [HarmonicMean, HarmonicMeanOfMeans])
def test_scores_that_cannot_take_part(kind):
    for scores, message in (
        ([0.5, 1.5], "expected scores between 0 and 1, got 1.5 from given for the answer at index 1. Leave this"),
        ([-0.5, 0.5], "expected scores between 0 and 1, got -0.5 from given for the answer at index 0."),
        ([[0.5, 0.5]], "expected one score for each answer, got scores of shape (1, 2) from given. Leave it out"),
        ([0.5, np.nan], "expected finite scores from the metric given, got 1 that are not"),
    ):
        with pytest.raises(MetricError, match=re.escape(message)):
            evaluate(kind, [0.5, 0.5], scores)
