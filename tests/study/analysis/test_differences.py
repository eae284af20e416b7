"""Arms against arms: hand-computed differences, false alarms, power, and the verdict's words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rankselect.metrics.harmonic import HarmonicMeanOfMeans
from rankselect.metrics.perplexity import Perplexity
from rankselect.metrics.squad import TokenF1
from rankselect.study.analysis import verdict as verdicts
from rankselect.study.analysis.crossed import mean_squares
from rankselect.study.analysis.differences import arm_difference, default_baseline, pooled_seed_variance
from rankselect.study.analysis.rankings import harmonic_scores
from rankselect.study.analysis.scores import ArmScores
from rankselect.study.analysis.verdict import Verdict, reach_verdict
from rankselect.study.arm import Arm

F1 = TokenF1()


def arm(name, *rows, metric=F1, trained=True):
    return ArmScores(name, metric, {seed: np.array(row, dtype=float) for seed, row in enumerate(rows)}, trained)


def study(generator, n_arms=4, *, n_seeds=3, n_questions=40, luck=0.02, shift=0.0):
    """Arms on the same questions; the last is better by `shift`."""
    difficulty = generator.normal(0.5, 0.15, n_questions)
    arms = []
    for index in range(n_arms):
        quality = difficulty + generator.normal(0, 0.03, n_questions) + (shift if index == n_arms - 1 else 0.0)
        rows = [quality + generator.normal(0, luck) + generator.normal(0, 0.1, n_questions) for _ in range(n_seeds)]
        arms.append(arm(f"arm{index}", *rows))
    return arms


def test_a_difference_by_hand():
    found = arm_difference(arm("a", [1, 2, 3], [3, 4, 5]), arm("b", [0, 0, 0], [0, 0, 0]))
    assert found.difference == 3
    assert (found.n_seeds, found.n_questions, found.outcome) == (2, 3, "no difference shown")
    half = math.sqrt(8 / 6) * stats.t.ppf(0.975, 64 / 38)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert found.detectable > half


def test_pairing_takes_the_difficulty_of_questions_out():
    generator = np.random.default_rng(0)
    difficulty = generator.uniform(0, 1, 30)
    one, other = difficulty + 0.02 + generator.normal(0, 0.005, 30), difficulty
    found = arm_difference(arm("a", one), arm("b", other))
    assert found.outcome == "better"
    assert found.high - found.low < 0.005
    assert arm("a", one).estimate().stderr > 0.04


def test_lower_is_better_turns_the_outcome():
    generator = np.random.default_rng(0)
    low, high = generator.uniform(2, 3, (2, 20)), generator.uniform(6, 7, (2, 20))
    found = arm_difference(arm("a", *low, metric=Perplexity()), arm("b", *high, metric=Perplexity()))
    assert found.difference < 0
    assert found.outcome == "better"


def test_perplexity_differs_by_its_geometric_means():
    one, other = arm("a", [2.0, 8.0], metric=Perplexity()), arm("b", [1.0, 4.0], metric=Perplexity())
    assert arm_difference(one, other).difference == pytest.approx(4 - 2)


def test_pseudo_values_of_a_mean_are_the_scores_and_of_perplexity_near_its_linear_part():
    generator = np.random.default_rng(0)
    losses = generator.normal(1.0, 0.1, 200)
    assert arm("a", losses).pseudo_values([0]).tolist() == [losses.tolist()]
    pseudo = arm("a", np.exp(losses), metric=Perplexity()).pseudo_values([0])[0]
    linear = math.e ** losses.mean() * (1 + losses - losses.mean())
    assert pseudo == pytest.approx(linear, abs=1e-2)


def test_only_common_seeds_are_compared():
    one = ArmScores("a", F1, {0: np.array([0.0, 1.0]), 1: np.array([5.0, 5.0])})
    other = ArmScores("b", F1, {0: np.array([0.0, 0.0]), 2: np.array([9.0, 9.0])})
    found = arm_difference(one, other)
    assert (found.difference, found.n_seeds) == (0.5, 1)
    assert found.note == "one seed: the interval does not include the variation between seeds"
    assert arm_difference(one, ArmScores("c", F1, {7: np.array([0.0, 1.0])})) is None


def test_equal_arms_have_no_detectable_difference():
    one = arm("a", [0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    found = arm_difference(one, arm("b", [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]))
    assert (found.difference, found.p, found.shown) == (0, 1.0, False)
    assert (found.detectable, found.same, found.why_unknown) == (None, True, "the scores are the same")


def test_one_question_has_no_interval_and_says_so():
    found = arm_difference(arm("a", [0.5], [0.75]), arm("b", [0.25], [0.25]))
    assert (found.difference, found.low, found.high, found.detectable) == (0.375, None, None, None)
    assert (found.same, found.note) == (False, "one question: there is no interval")
    assert str(found) == "a against b: token-f1 +0.375, no difference shown; one question cannot show a difference"


def test_few_questions_show_nothing_however_clear():
    found = arm_difference(arm("a", [1.0] * 5), arm("b", [0.0] * 5))
    assert (found.shown, found.same, found.why_unknown) == (False, False, "too few questions to show a difference")
    assert arm_difference(arm("a", [1.0] * 6), arm("b", [0.0] * 6)).shown


def test_more_comparisons_make_it_harder():
    generator = np.random.default_rng(0)
    one, other = study(generator, n_arms=2)
    alone, among = arm_difference(one, other), arm_difference(one, other, 10)
    assert among.p_adjusted == pytest.approx(min(1, 10 * alone.p))
    assert among.high - among.low > alone.high - alone.low
    assert among.detectable > alone.detectable


def test_pooled_seed_variance_has_the_degrees_of_freedom_of_arms_times_seeds():
    arms = study(np.random.default_rng(0), n_arms=5, n_seeds=3, n_questions=20)
    pooled = pooled_seed_variance([*arms, arm("base", *[[0.5] * 20] * 3, trained=False)])
    assert pooled.df_seeds == pytest.approx(4 * 2)
    assert pooled.df_rest == pytest.approx(4 * 2 * 19)
    # Twice the interaction of arms and seeds, as in the analysis of variance of all arms.
    means = np.array([each.pseudo_values(range(3)).mean(axis=1) for each in arms])
    left = means - means.mean(axis=0) - means.mean(axis=1, keepdims=True) + means.mean()
    assert pooled.seeds == pytest.approx(2 * 20 * (left**2).sum() / 8)


def test_the_luck_of_two_arms_is_that_of_their_difference():
    one, other = study(np.random.default_rng(0), n_arms=2, n_questions=20)
    assert pooled_seed_variance([one, other]) == mean_squares(
        one.pseudo_values(range(3)) - other.pseudo_values(range(3))
    )


def test_one_seed_has_no_luck_to_pool():
    assert pooled_seed_variance(study(np.random.default_rng(0), n_seeds=1)) is None


@pytest.mark.not_under_mutants
@pytest.mark.parametrize("luck", [0.0, 0.03])
def test_equal_arms_seldom_differ(luck, monkeypatch):
    monkeypatch.setattr(
        "rankselect.study.analysis.differences.detectable_difference", lambda *args, **kwargs: 1.0
    )  # slow
    generator = np.random.default_rng(0)
    n, alarms, verdicts = 400, 0, 0
    for _ in range(n):
        arms = study(generator, luck=luck)
        pooled = pooled_seed_variance(arms)
        alarms += any(arm_difference(each, arms[0], 3, pooled).shown for each in arms[1:])
        verdicts += len(reach_verdict(arms, {each.arm: 1 for each in arms}, []).reasons) > 2
    assert alarms / n <= 0.07
    assert verdicts / n <= 0.07


@pytest.mark.not_under_mutants
@pytest.mark.parametrize(("luck", "n_arms"), [(0.0, 4), (0.03, 6)])
def test_the_detectable_difference_is_shown_in_four_of_five_studies(luck, n_arms):
    generator = np.random.default_rng(1)
    stated = []
    for _ in range(60):
        arms = study(generator, n_arms, luck=luck)
        stated.append(arm_difference(arms[-1], arms[0], n_arms - 1, pooled_seed_variance(arms)).detectable)
    shift, n, shown = float(np.mean(stated)), 300, 0
    for _ in range(n):
        arms = study(generator, n_arms, luck=luck, shift=shift)
        shown += arm_difference(arms[-1], arms[0], n_arms - 1, pooled_seed_variance(arms)).outcome == "better"
    assert 0.7 <= shown / n <= 0.9


def test_harmonic_scores_are_the_harmonic_mean_of_averages():
    both = harmonic_scores([arm("a", [0.2, 0.4]), arm("a", [0.6, 0.6])])
    assert isinstance(both.metric, HarmonicMeanOfMeans)
    assert both.estimate().mean == pytest.approx(2 * 0.3 * 0.6 / 0.9)


def test_harmonic_scores_of_one_question_are_one_number():
    both = harmonic_scores([arm("a", [0.2], [0.4]), arm("a", [0.6], [0.6])])
    assert both.pseudo_values([0, 1]).shape == (2, 1)


def test_the_default_baseline_is_a_control_or_the_first_adapter():
    base, rank, control = Arm("base"), Arm("r8", "fixed:rank=8"), Arm("id-control", "fixed:rank=9")
    assert default_baseline([base, rank, control]) == "id-control"
    assert default_baseline([base, rank]) == "r8"
    assert default_baseline([base, rank, Arm("even", "same-parameters:strategy=per-layer-id")]) == "even"
    assert default_baseline([base]) == "base"


def clear(shifts):
    """Arms whose scores differ by exactly these, up to a little noise."""
    generator = np.random.default_rng(0)
    rows = generator.uniform(0.3, 0.6, 40)
    return [
        arm(name, *(rows + shift + generator.normal(0, 0.005, 40) for _ in range(3))) for name, shift in shifts.items()
    ]


CHEAPEST_OF_TWO = "Use middle: with 50 trainable parameters, it is the cheapest of the 2 arms that are not shown to be worse than the best."
COSTS = {"small": 10, "middle": 50, "large": 100}


@pytest.mark.parametrize(
    ("shifts", "choice", "headline"),
    [
        (
            {"small": 0, "middle": 0, "large": 0},
            "small",
            "This study shows no difference between the arms: use small, the cheapest.",
        ),
        ({"small": -0.1, "middle": -0.1, "large": 0}, "large", "Use large: every other arm scores worse."),
        (
            {"small": -0.1, "middle": 0, "large": 0.001},
            "middle",
            CHEAPEST_OF_TWO,
        ),
        ({"small": 0.1, "middle": 0, "large": 0}, "small", "Use small: every other arm scores worse."),
    ],
)
def test_the_verdict_in_words(shifts, choice, headline):
    verdict = reach_verdict(clear(shifts), COSTS, ["Known."])
    assert (verdict.arm, verdict.headline) == (choice, headline)
    assert verdict.caveats[-1] == "Known."
    n_level = sum(shift > max(shifts.values()) - 0.01 for shift in shifts.values())
    assert any("difference" in each.lower() for each in verdict.caveats) == (n_level > 1)


LEVEL = {"small": 0, "middle": 0, "large": 0}
TWO_TELL = (
    "Use large: scores shows no difference between the arms, but scores and scores show that cheaper arms are worse."
)


@pytest.mark.parametrize(
    ("further", "choice", "headline"),
    [
        (
            [{"small": -0.1, "middle": 0, "large": 0}],
            "middle",
            "Use middle: scores shows no difference between the arms, but scores shows that cheaper arms are worse.",
        ),
        (
            [{"small": -0.1, "middle": 0, "large": 0}, LEVEL, {"small": 0.2, "middle": -0.1, "large": 0}],
            "large",
            TWO_TELL,
        ),
        (
            [{"small": 0, "middle": 0, "large": -0.1}],
            "small",
            "Use small: scores shows no difference between the arms, but scores shows that other arms are worse.",
        ),
        ([LEVEL], "small", "This study shows no difference between the arms: use small, the cheapest."),
    ],
)
def test_further_metrics_tell_apart_what_the_first_does_not(further, choice, headline):
    metric = clear(LEVEL)[0].metric.name
    verdict = reach_verdict(clear(LEVEL), COSTS, (), [clear(shifts) for shifts in further])
    assert (verdict.arm, verdict.headline) == (choice, headline.replace("scores", metric))
    assert all(difference.metric == metric and not difference.shown for difference in verdict.differences)


def test_a_further_metric_does_not_bring_back_what_the_first_has_ruled_out():
    first, second = {"small": -0.1, "middle": 0, "large": 0.001}, {"small": 0.1, "middle": 0, "large": 0}
    verdict = reach_verdict(clear(first), COSTS, (), [clear(second)])
    assert (verdict.arm, verdict.headline) == ("middle", CHEAPEST_OF_TWO)


def test_further_metrics_allow_for_the_comparisons_of_all_of_them(monkeypatch):
    asked = []

    def noting(arm, baseline, n_comparisons, luck):
        asked.append(n_comparisons)
        return arm_difference(arm, baseline, n_comparisons, luck)

    monkeypatch.setattr(verdicts, "arm_difference", noting)
    reach_verdict(clear(LEVEL), COSTS, (), [clear(LEVEL), clear(LEVEL)])
    assert asked == [3, 3, 6, 6, 6, 6]


def test_a_further_metric_is_asked_of_the_arms_that_are_left():
    first, further = {"small": -0.1, "middle": 0, "large": 0.001}, {"small": 0, "middle": -0.1, "large": 0}
    verdict = reach_verdict(clear(first), COSTS, (), [clear(further)])
    assert verdict.headline == (
        "Use large: token-f1 shows no difference between 2 arms, but token-f1 shows that cheaper arms are worse."
    )


def test_of_equally_cheap_arms_the_best_is_used():
    for name in ("small", "middle", "large"):
        shifts = {each: 0.002 * (each == name) for each in LEVEL}
        verdict = reach_verdict(clear(shifts), dict.fromkeys(LEVEL, 7), ())
        assert verdict.headline.startswith("This study shows no difference")
        assert verdict.arm == max(clear(shifts), key=lambda each: each.estimate().mean).arm


def test_of_equally_cheap_arms_that_a_further_metric_leaves_its_best_is_used():
    for shift in (-0.003, 0.003):
        further = clear({"small": 0, "middle": -0.1, "large": shift})
        verdict = reach_verdict(clear(LEVEL), dict.fromkeys(LEVEL, 7), (), [further])
        assert verdict.arm == max(further, key=lambda each: each.estimate().mean).arm
        assert not any("times as many" in each for each in verdict.reasons)


@pytest.mark.parametrize(
    ("cost", "few", "times"),
    [
        (0, "without an adapter", None),
        (1, "with 1 trainable parameters", "100"),
        (8, "with 8 trainable parameters", "12.5"),
    ],
)
def test_the_verdict_says_what_the_choice_costs(cost, few, times):
    verdict = reach_verdict(clear({"small": -0.1, "middle": 0, "large": 0.001}), {**COSTS, "middle": cost}, ())
    assert (
        verdict.headline
        == f"Use middle: {few}, it is the cheapest of the 2 arms that are not shown to be worse than the best."
    )
    told = f"large has {times} times as many trainable parameters as middle."
    assert [each for each in verdict.reasons if "times as many" in each] == [told] * (times is not None)


def test_what_could_not_be_shown_is_told_with_the_number_of_seeds():
    of_two = reach_verdict(clear({"small": 0, "large": 0}), COSTS, ()).caveats
    of_three = reach_verdict(clear(LEVEL), COSTS, ()).caveats
    assert [each.split(" below")[0] for each in (*of_two, *of_three)] == ["A difference", "Differences"]
    apart = [ArmScores(name, F1, {seed: np.array([0.1, 0.5, 0.4])}) for seed, name in enumerate(("a", "b"))]
    verdict = reach_verdict(apart, {"a": 1, "b": 2}, ())
    assert verdict.caveats == (
        "1 seed: the intervals do not include the variation between seeds.",
        "b has no seed in common with a.",
    )


def test_an_arm_that_a_further_metric_cannot_compare_stays():
    further = clear({"small": 0.1, "middle": 0, "large": 0})
    metric, rows = further[0].metric, further[0].by_seed[0]
    only_another_seed = ArmScores("middle", metric, {9: rows - 0.2})
    verdict = reach_verdict(
        clear(LEVEL), {"small": 50, "middle": 10, "large": 100}, (), [[further[0], only_another_seed, further[2]]]
    )
    assert verdict.arm == "middle"
    assert verdict.reasons[-1].endswith("shown to be worse: large.")


def test_a_further_metric_names_all_that_it_shows_to_be_worse():
    verdict = reach_verdict(clear(LEVEL), COSTS, (), [clear({"small": -0.1, "middle": -0.2, "large": 0})])
    assert verdict.arm == "large"
    assert verdict.reasons[-1].endswith("; shown to be worse: small, middle.")


@pytest.mark.not_under_mutants
def test_equal_arms_seldom_differ_by_further_metrics(monkeypatch):
    monkeypatch.setattr(
        "rankselect.study.analysis.differences.detectable_difference", lambda *args, **kwargs: 1.0
    )  # slow
    generator = np.random.default_rng(3)
    n, told = 200, 0
    for _ in range(n):
        first, *further = (study(generator, luck=0.03) for _ in range(3))
        verdict = reach_verdict(first, {each.arm: 1 for each in first}, (), further)
        told += any("Of the remaining arms" in reason for reason in verdict.reasons)
    assert told / n <= 0.07


def test_a_verdict_needs_two_arms():
    said = "There is nothing to compare: fewer than two arms have results."
    assert reach_verdict([arm("a", [1.0])], {"a": 1}, ["Known."]) == Verdict(None, said, (), ("Known.",))


def test_the_verdict_warns_of_few_seeds():
    arms = study(np.random.default_rng(0), n_seeds=1)
    caveats = reach_verdict(arms, {each.arm: 1 for each in arms}, ()).caveats
    assert "1 seed: the intervals do not include the variation between seeds." in caveats
