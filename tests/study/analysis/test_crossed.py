"""Averages over seeds and questions: by hand, against other formulas, and how often their intervals are wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from rankselect.errors import ArgumentError
from rankselect.study.analysis.crossed import (
    CrossedEstimate,
    MeanSquares,
    crossed_estimate,
    detectable_difference,
    mean_squares,
)

SCORES = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(2, 8)), elements=st.floats(-1, 1, allow_subnormal=False)
)


def test_one_seed_is_the_ordinary_t_interval():
    values = np.array([0.1, 0.5, 0.4, 0.9])
    estimate = crossed_estimate(values[None])
    assert estimate.stderr == pytest.approx(stats.sem(values))
    assert estimate.df == 3
    assert estimate.interval(0.95) == pytest.approx(
        stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    )
    assert estimate.p == pytest.approx(max(stats.ttest_1samp(values, 0).pvalue, 2**-3))


def test_by_hand():
    # Seed means 2 and 4, question means 2, 3, 4: M_s = 3 * (1 + 1) / 1 = 6, M_q = 2 * (1 + 0 + 1) / 2 = 2, M_e = 0.
    estimate = crossed_estimate(np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]))
    assert estimate.stderr == pytest.approx(math.sqrt(8 / 6))
    assert estimate.df == pytest.approx(64 / (36 / 1 + 4 / 2))


def test_seeds_that_do_not_matter_leave_the_interval_over_questions():
    row = np.array([0.0, 1.0, 0.5, 0.25])
    same = crossed_estimate(np.stack([row] * 3))
    assert (same.stderr, same.df) == (pytest.approx(stats.sem(row)), 3)


def test_pooled_squares_replace_those_of_the_values():
    values = np.array([[0.0, 1.0, 2.0]] * 3)
    pooled = crossed_estimate(values, squares=MeanSquares(6.0, 1.0, 10.0, 20.0))
    assert pooled.stderr == pytest.approx(math.sqrt((3 + 6 - 1) / 9))
    assert pooled.df == pytest.approx(64 / (9 / 2 + 36 / 10 + 1 / 20))


@given(SCORES, st.floats(-2, 2), st.floats(0.1, 10))
@example(np.array([[0.0, 3.5e-147, 3.5e-147], [3.5e-147, 3.5e-147, 3.5e-147]]), 0.0, 1.0)  # squares that underflow
def test_it_moves_and_stretches_with_the_scores(values, shift, factor):
    one, other = crossed_estimate(values), crossed_estimate(values * factor + shift)
    assert other.mean == pytest.approx(one.mean * factor + shift, abs=1e-9)
    assert other.stderr == pytest.approx(one.stderr * factor, rel=1e-6, abs=1e-7)
    assert mean_squares(values * factor).seeds == pytest.approx(mean_squares(values).seeds * factor**2, abs=1e-9)


@given(SCORES)
def test_order_does_not_matter(values):
    assert crossed_estimate(values[::-1, ::-1]).stderr == pytest.approx(crossed_estimate(values).stderr, abs=1e-9)


def test_p_is_never_below_what_so_few_questions_can_say():
    assert crossed_estimate(np.full((3, 4), 0.5)).p == 2.0**-3
    assert crossed_estimate(np.zeros((3, 4))).p == 1.0


def test_one_question_tells_nothing():
    estimate = crossed_estimate(np.array([[0.2], [0.4]]))
    assert estimate.mean == pytest.approx(0.3)
    assert (estimate.stderr, estimate.p, estimate.interval(0.95)) == (None, 1.0, (None, None))


def test_scores_too_large_to_be_squared_have_no_interval():
    estimate = crossed_estimate(np.array([[1e200, 2e200, 4e200], [1e200, 3e200, 2e200]]))
    assert (estimate.mean, estimate.p) == (pytest.approx(13e200 / 6), 1.0)
    assert estimate.interval(0.95) == (None, None)


def test_a_small_difference_of_large_mean_squares_has_a_finite_interval():
    # M_q is 0 and M_s hardly above M_e: Satterthwaite's degrees of freedom are far below 1.
    estimate = crossed_estimate(np.array([[1.0, -1.0], [-1.0, 1.0]]), squares=MeanSquares(6.01, 6.0, 1.0, 1.0))
    assert estimate.df == 1.0
    assert all(map(math.isfinite, estimate.interval(0.9999)))


@pytest.mark.parametrize(("n_seeds", "luck"), [(1, 0.0), (3, 0.0), (3, 0.05), (5, 0.02)])
def test_intervals_leave_0_out_in_about_5_percent_of_the_studies(n_seeds, luck):
    generator = np.random.default_rng(0)
    wrong, n = 0, 1500
    for _ in range(n):
        questions = generator.normal(0, 0.05, (1, 40))
        values = questions + generator.normal(0, luck, (n_seeds, 1)) + generator.normal(0, 0.1, (n_seeds, 40))
        wrong += crossed_estimate(values).p < 0.05
    assert 0.01 <= wrong / n <= 0.08


@pytest.mark.parametrize("df", [1, 2, 3.5, 12, 400])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_detectable_difference_is_that_of_the_noncentral_t(df, alpha):
    shift = detectable_difference(1.0, df, alpha=alpha)
    assert stats.nct.sf(stats.t.ppf(1 - alpha / 2, df), df, shift) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("df", [2, 12, 400])
@pytest.mark.parametrize("power", [0.06, 0.1, 0.5])
def test_with_little_power_differences_to_either_side_count(df, power):
    shift = detectable_difference(1.0, df, power=power)
    critical = stats.t.ppf(0.975, df)
    either = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
    assert either == pytest.approx(power, abs=1e-3)


def test_with_many_degrees_of_freedom_it_is_the_textbooks():
    assert detectable_difference(0.5, 1e7) == pytest.approx(0.5 * (1.959964 + 0.841621), rel=1e-4)


def test_far_out_it_is_still_a_number():
    assert math.isfinite(detectable_difference(1.0, 1.0, alpha=0.0001))


@pytest.mark.parametrize(("alpha", "power"), [(0.0, 0.8), (0.05, 0.05), (0.05, 1.0)])
def test_bad_levels_are_refused(alpha, power):
    with pytest.raises(ArgumentError, match=r"expected 0 < alpha < power < 1, got alpha .*For example 0.05 and 0.8"):
        detectable_difference(1.0, 3, alpha=alpha, power=power)


def test_an_estimate_knows_its_interval():
    assert CrossedEstimate(0.0, 1.0, 1e9, 3, 50).interval(0.95) == pytest.approx((-1.96, 1.96), abs=1e-3)
