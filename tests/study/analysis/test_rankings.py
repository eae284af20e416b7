"""Arms in order, and what is said of them in words."""

from __future__ import annotations

import numpy as np
import pytest

from rankselect.metrics.perplexity import Perplexity
from rankselect.metrics.squad import TokenF1
from rankselect.study.analysis.rankings import Place, by_judge, by_scores, by_values, harmonic_scores, study_rankings
from rankselect.study.analysis.scores import ArmScores
from rankselect.study.analysis.verdict import Verdict, verdict_or_error

F1 = TokenF1()


def arm(name, rows, metric=F1, *, trained=True):
    return ArmScores(name, metric, {seed: np.array(row) for seed, row in rows.items()}, trained)


def test_harmonic_scores_are_of_the_common_seeds_of_the_first_part():
    one = arm("a", {0: [0.2, 0.4], 1: [0.6, 0.6], 2: [1.0, 1.0]}, trained=False)
    other = arm("a", {2: [0.5, 0.5], 0: [0.6, 0.6], 7: [0.1, 0.1]})
    both = harmonic_scores((one, other))
    assert (both.arm, both.trained, list(both.by_seed)) == ("a", False, [0, 2])
    assert harmonic_scores((other, one)).trained
    assert list(harmonic_scores((other, one)).by_seed) == [2, 0]
    means = 2 * 0.3 * 0.6 / 0.9, 2 * 1.0 * 0.5 / 1.5
    assert both.mean([0]) == pytest.approx(means[0])
    assert both.mean([0, 2]) == pytest.approx(sum(means) / 2)


@pytest.mark.parametrize(("metric", "order"), [(F1, ["high", "low"]), (Perplexity(), ["low", "high"])])
def test_the_best_is_first(metric, order):
    arms = [arm("low", {0: [1.0, 1.1, 1.2]}, metric), arm("high", {0: [5.0, 5.2, 5.1]}, metric)]
    assert [each.arm for each in by_scores(arms)] == order
    assert [each.arm for each in by_scores(reversed(arms))] == order
    assert [each.place for each in by_scores(arms)] == [1, 2]
    assert all(each.low < each.value < each.high for each in by_scores(arms))


def test_the_least_cost_is_first_and_equal_ones_share_a_place():
    rows = by_values({"a": 3.0, "b": 1.0, "c": 1.0, "d": 2.0})
    assert [(each.place, each.arm) for each in rows] == [(1, "b"), (1, "c"), (3, "d"), (4, "a")]


def test_a_judges_favourite_is_first():
    ranking = [
        {"arm": "a", "probability": 0.2, "low": 0.1, "high": 0.3},
        {"arm": "b", "probability": 0.7, "low": 0.6, "high": 0.8},
    ]
    assert by_judge({"ranking": ranking}) == [
        Place(1, "b", 0.7, 0.6, 0.8),
        Place(2, "a", 0.2, 0.1, 0.3),
    ]


def test_what_was_not_measured_has_no_ranking():
    scores = {"token-f1": [arm("a", {0: [0.5, 0.7]}), arm("b", {0: [0.1, 0.2]})], "perplexity": []}
    found = study_rankings(scores, {"ranking": []}, {}, {"a": 0.0, "b": 8.0})
    assert list(found) == ["token-f1", "trainable parameters"]
    assert found["trainable parameters"] == [Place(1, "b", 8.0)]


def test_only_questeval_is_averaged_with_token_f1():
    some = [arm("a", {0: [0.5, 0.7]}), arm("b", {0: [0.1, 0.2]})]
    assert list(study_rankings({"questeval": some, "rouge-l": some, "token-f1": some[:1]}, None, {}, {})) == [
        "questeval",
        "rouge-l",
        "token-f1",
        "harmonic mean of questeval and token-f1",
    ]
    found = study_rankings({"questeval": some, "token-f1": some[:1]}, None, {}, {})
    assert [each.arm for each in found["harmonic mean of questeval and token-f1"]] == ["a"]
    assert list(study_rankings({"questeval": some, "rouge-l": some}, None, {}, {})) == ["questeval", "rouge-l"]


def test_a_verdict_prints_its_reasons_and_caveats():
    assert str(Verdict("a", "Use a.", ("It is best.", "It is cheap."), ("One seed.", "Few rows."))) == (
        "Use a.\n- It is best.\n- It is cheap.\nCaveats:\n- One seed.\n- Few rows."
    )
    assert str(Verdict("a", "Use a.", ("It is best.",))) == "Use a.\n- It is best."


def test_a_verdict_that_fails_says_how_in_one_line():
    def broken():
        raise ZeroDivisionError("nobody\n  knows")

    said = "There is no verdict: computing it failed with ZeroDivisionError: nobody knows. The other results are not affected."
    assert verdict_or_error(broken) == Verdict(None, said)
    assert verdict_or_error(lambda: Verdict("a", "Use a.")) == Verdict("a", "Use a.")
