"""The base class of metrics: checks, averages, and intervals from resampled answers."""

from __future__ import annotations

import pickle
import re
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.data.medical_qa import medical_qa
from rankselect.errors import ArgumentError, MetricError
from rankselect.metrics import bootstrap
from rankselect.metrics._base import Metric, MetricResult
from rankselect.metrics.bootstrap import bootstrap_interval
from rankselect.metrics.harmonic import HarmonicMean
from rankselect.metrics.metric_input import checked_input
from rankselect.training.generation import GeneratedAnswer

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@dataclass(frozen=True)
class Given(Metric):
    """Returns the scores that it was created with."""

    scores: Any
    name = "given"

    def values(self, answers):
        return self.scores


@dataclass(frozen=True)
class Median(Given):
    name = "median"

    def aggregate(self, values):
        return np.median(values, axis=-1)


class Asks(Metric):
    name = "asks"
    requires = ("questions",)

    def values(self, answers):
        pairs = zip(answers.questions, answers.references, strict=True)
        return [float(question in reference) for question, reference in pairs]


class Losses(Metric):
    name = "losses"
    needs_texts = False
    requires = ("losses",)

    def values(self, answers):
        return answers.losses


def evaluate(scores, metric=Given, **arguments):
    texts = ["text"] * np.shape(scores)[-1]
    return metric(scores).evaluate(texts, texts, **arguments)


def mean(values):
    return values.mean(axis=-1)


@given(SCORES)
def test_the_interval_contains_the_mean_and_stays_within_the_scores(scores):
    result = evaluate(scores, n_resamples=500)
    rounding = 1e-12 * max(1.0, *map(abs, scores))
    assert result.mean == pytest.approx(sum(scores) / len(scores), abs=1e-6)
    assert result.low - rounding <= result.mean <= result.high + rounding
    assert min(scores) - rounding <= result.low <= result.high <= max(scores) + rounding


@given(st.floats(-1e6, 1e6), st.integers(1, 300))
def test_equal_scores_have_an_interval_of_width_0(score, n):
    result = evaluate([score] * n, n_resamples=50)
    assert result.low == result.mean == result.high


@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_answers_does_not_matter(scores, random):
    shuffled = random.sample(scores, len(scores))
    result = evaluate(shuffled, n_resamples=1)
    assert sorted(result.values) == sorted(scores)
    assert result.mean == pytest.approx(evaluate(scores, n_resamples=1).mean, abs=1e-6)


@given(SCORES, st.integers(0, 5))
def test_the_seed_decides_the_interval(scores, seed):
    one, other = (evaluate(scores, n_resamples=20, seed=seed) for _ in range(2))
    assert (one.low, one.high) == (other.low, other.high)


def test_another_seed_another_interval():
    scores = np.random.default_rng(0).normal(size=50)
    assert evaluate(scores, seed=0).low != evaluate(scores, seed=1).low


def test_the_interval_has_the_width_of_the_standard_error():
    scores = np.random.default_rng(0).normal(size=400)
    result = evaluate(scores, n_resamples=4000)
    half_width = 1.96 * scores.std() / np.sqrt(400)
    assert result.low == pytest.approx(scores.mean() - half_width, abs=0.08 * half_width)
    assert result.high == pytest.approx(scores.mean() + half_width, abs=0.08 * half_width)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        low, high = bootstrap_interval(mean, rng.beta(2, 5, size=60), confidence=0.9, n_resamples=400, seed=seed)
        covered += low <= 2 / 7 <= high
    assert 0.85 <= covered / 300 <= 0.94


def test_more_confidence_is_a_wider_interval():
    scores = np.random.default_rng(0).normal(size=50)
    widths = [evaluate(scores, confidence=c) for c in (0.5, 0.9, 0.99)]
    assert [r.high - r.low for r in widths] == sorted(r.high - r.low for r in widths)
    assert str(widths[2]).startswith("given ")
    assert "(99% interval" in str(widths[2])


def test_scores_of_one_answer_are_resampled_together():
    scores = np.random.default_rng(0).normal(size=40)
    both = np.stack([scores, 1 - scores])
    low, high = bootstrap_interval(lambda v: mean(v).sum(axis=-1), both, confidence=0.95, n_resamples=200, seed=0)
    assert (low, high) == (pytest.approx(1), pytest.approx(1))


def test_a_custom_average():
    result = evaluate([0.0, 1.0, 100.0], Median)
    assert (result.mean, result.low, result.high) == (1.0, 0.0, 100.0)
    assert result.scored_by == Median([0.0, 1.0, 100.0])


def test_resampling_in_chunks_changes_nothing(monkeypatch):
    scores = np.random.default_rng(0).normal(size=30)
    whole = evaluate(scores)
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_A_TIME", 1000)
    pieces = evaluate(scores)
    assert (whole.low, whole.high) == (pieces.low, pieces.high)


def test_memory_does_not_grow_with_resamples():
    scores = np.zeros(200_000)
    tracemalloc.start()
    bootstrap_interval(mean, scores, confidence=0.95, n_resamples=100, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20  # all resamples at once would take 320 MB


def test_results_are_read_only_and_keep_the_metrics_own_array():
    own = np.array([1.0, 2.0])
    result = evaluate(own)
    own[0] = 5.0
    assert result.values.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        result.values[0] = 3.0


def test_results_can_be_pickled():
    from rankselect.metrics.squad import TokenF1

    result = TokenF1().evaluate(["a rare fever"], ["fever"])
    copy = pickle.loads(pickle.dumps(result))
    assert isinstance(copy, MetricResult)
    assert (str(copy), copy.scored_by) == (str(result), TokenF1())


@given(st.lists(st.text(max_size=5), min_size=1, max_size=5))
def test_any_iterable_of_texts_is_accepted(texts):
    lists, generators = (
        Given([1.0] * len(texts)).evaluate(*pair, n_resamples=1)
        for pair in ((texts, tuple(texts)), (iter(texts), np.array(texts, dtype=object)))
    )
    assert lists.mean == generators.mean == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), ()), "expected at least one prediction, got none. Generate answers first."),
        ((["a"], ["b", "c"]), "expected 1 references, one for each prediction, got 2. Give both in the same order."),
        (("a", ["b"]), "expected a sequence of texts as predictions, got one string. Put it into a list."),
        ((["a"], "b"), "expected a sequence of texts as references, got one string."),
        ((None, ["b"]), "expected predictions for the metric given, got none. Pass predictions=, one for each answer."),
        ((["a"],), "expected references for the metric given, got none."),
        ((7, ["b"]), "expected a sequence of texts as predictions, got int. Give a list of texts."),
        (
            (["a", None], ["b", "c"]),
            "expected text in predictions, got NoneType at index 1. Leave it out or give text.",
        ),
        ((["a"], [3]), "expected text in references, got int at index 0."),
    ],
)
def test_answers_that_cannot_be_scored(arguments, message):
    with pytest.raises(MetricError, match=re.escape(message)):
        Given([1.0]).evaluate(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"questions": ["a", "b"]}, "expected 1 questions, one for each prediction, got 2."),
        ({"questions": []}, "expected 1 questions, one for each prediction, got 0."),
        ({"losses": []}, "expected 1 losses, one for each prediction, got 0."),
        ({"losses": [float("inf")]}, "expected finite losses, got inf at index 0. Check the model on that answer."),
        ({"losses": [None]}, "expected losses that are numbers, got something else."),
        ({"losses": 0.5}, "expected losses that are numbers, got something else."),
    ],
)
def test_questions_and_losses_must_match_the_answers(arguments, message):
    with pytest.raises(MetricError, match=re.escape(message)):
        Given([1.0]).evaluate(["a"], ["b"], **arguments)


def test_generated_answers_are_predictions():
    written = [GeneratedAnswer("b", seconds=0.1, n_tokens=1, stopped_by="end"), "c"]
    assert checked_input(written, ["x", "y"]).predictions == ("b", "c")
    assert Asks().evaluate(written, ["x b", "y c"], questions=["b", "c"]).mean == 1


def test_rows_are_not_predictions_although_they_have_a_text():
    rows = medical_qa()[:1]
    with pytest.raises(MetricError, match="expected text in predictions, got MedicalQuestion at index 0"):
        checked_input(rows, ["a"])
    with pytest.raises(MetricError, match="expected text in references, got GeneratedAnswer at index 0"):
        checked_input(["a"], [GeneratedAnswer("b", seconds=0.1, n_tokens=1, stopped_by="end")])


def test_a_metric_that_needs_no_texts():
    assert Losses().evaluate(losses=[1, 2]).mean == 1.5
    assert Losses().evaluate(["a", "b"], ["c", "d"], losses=[1, 2]).mean == 1.5
    for arguments, message in (
        ({}, "expected losses for the metric losses, got none. Pass losses=, one for each answer."),
        ({"losses": []}, "expected at least one loss, got none."),
        ({"losses": [1, 2], "references": ["a"]}, "expected 1 losses, one for each reference, got 2."),
    ):
        with pytest.raises(MetricError, match=re.escape(message)):
            Losses().evaluate(**arguments)
    both = HarmonicMean((Losses(), Losses()))
    assert both.evaluate(losses=[0.5, 1.0]).mean == 0.75
    with pytest.raises(MetricError, match="expected predictions for the metric harmonic-mean"):
        HarmonicMean((Losses(), Given([1.0]))).evaluate(losses=[0.5])


def test_what_a_metric_requires():
    assert Asks().evaluate(["a"], ["bc"], questions=["b"]).mean == 1
    message = "expected questions for the metric asks, got none. Pass questions=, one for each answer."
    with pytest.raises(MetricError, match=re.escape(message)):
        Asks().evaluate(["a"], ["b"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"confidence": 95}, "expected a confidence between 0 and 1, got 95. For example 0.95."),
        ({"confidence": 0.0}, "expected a confidence between 0 and 1, got 0.0."),
        ({"confidence": float("nan")}, "expected a confidence between 0 and 1, got nan."),
        ({"n_resamples": 0}, "expected an integer n_resamples of at least 1, got 0. For example 2000."),
        ({"n_resamples": 20.0}, "expected an integer n_resamples of at least 1, got 20.0."),
        ({"seed": -1}, "expected an integer seed of at least 0, got -1. For example 0."),
        ({"seed": None}, "expected an integer seed of at least 0, got None."),
    ],
)
def test_settings_of_the_interval(arguments, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        Given([1.0]).evaluate(["a"], ["b"], **arguments)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], "expected 2 scores from the metric given, got shape (1,). This is an error in the metric"),
        (3.0, "expected 2 scores from the metric given, got shape ()."),
        ([[1.0], [2.0]], "expected 2 scores from the metric given, got shape (2, 1)."),
        ([[1.0], [2.0, 3.0]], "expected 2 scores from the metric given, got setting an array element"),
        (["good", "bad"], "expected 2 scores from the metric given, got could not convert string to float"),
        ([1.0, np.nan], "expected finite scores from the metric given, got 1 that are not, first for the answer at"),
        ([1.0, np.inf], "first for the answer at index 1. This is an error in the metric: check its values()."),
        ([[1.0, 2.0], [3.0, 4.0]], "expected finite averages of shape () from scores of shape (2, 2), got shape (2,)"),
    ],
)
def test_metrics_that_return_invalid_scores(scores, message):
    with pytest.raises(MetricError, match=re.escape(message)):
        Given(scores).evaluate(["a", "b"], ["a", "b"])


@dataclass(frozen=True)
class Flattening(Given):
    def aggregate(self, values):
        return np.asarray(values.mean())


@dataclass(frozen=True)
class Overflowing(Given):
    def aggregate(self, values):
        return np.asarray(values.mean(axis=-1) * np.inf)


def test_invalid_averages():
    with pytest.raises(MetricError, match=re.escape("averages of shape (20,) from scores of shape (20, 2), got shape")):
        evaluate([1.0, 2.0], Flattening, n_resamples=20)
    with pytest.raises(MetricError, match="with 1 that are not finite. This is an error in the metric"):
        evaluate([1.0, 2.0], Overflowing)
    with pytest.raises(TypeError, match="abstract"):
        Metric()
