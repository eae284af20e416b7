"""Bradley-Terry: published numbers, a general optimiser, properties of all tables, and coverage of the intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import beta

import rankselect as rs
from rankselect.metrics.judge.bradley_terry import bradley_terry, strength_draws, win_probabilities

BASEBALL = np.array(
    [
        [0, 7, 9, 7, 7, 9, 11],  # Milwaukee
        [6, 0, 7, 5, 11, 9, 9],  # Detroit
        [4, 6, 0, 7, 7, 8, 12],  # Toronto
        [6, 8, 6, 0, 6, 7, 10],  # New York
        [6, 2, 6, 7, 0, 7, 12],  # Boston
        [4, 4, 5, 6, 6, 0, 6],  # Cleveland
        [2, 4, 1, 3, 1, 7, 0],  # Baltimore
    ],
    dtype=float,
)


def tables(low=0, high=20, smallest=2, largest=6):
    def table(k):
        return st.lists(st.integers(low, high), min_size=k * k, max_size=k * k).map(
            lambda wins: np.array(wins, dtype=float).reshape(k, k) * (1 - np.eye(k))
        )

    return st.integers(smallest, largest).flatmap(table)


def compared(table):
    assume(((table + table.T > 0) | np.eye(len(table), dtype=bool)).all())
    return table


def by_optimiser(table, prior_ties):
    """The maximum of the likelihood, found by BFGS on the strengths of all arms but the last."""
    table = table + prior_ties / 2 * (table + table.T > 0)

    def loss(free):
        strengths = np.append(free, 0.0)
        return (table * np.logaddexp(0, strengths[None, :] - strengths[:, None])).sum()

    found = np.append(minimize(loss, np.zeros(len(table) - 1), method="BFGS", options={"gtol": 1e-9}).x, 0.0)
    return found - found.mean()


def test_published_strengths_of_baseball_teams():
    """American League, 1987: Agresti, Categorical Data Analysis, section on the Bradley-Terry model."""
    strengths = bradley_terry(BASEBALL, prior_ties=0)
    assert (strengths - strengths[-1]).round(3).tolist() == [1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0.0]


@pytest.mark.parametrize("prior_ties", [0.0, 1.0, 3.5])
def test_a_general_optimiser_finds_the_same(prior_ties):
    for seed in range(5):
        table = np.random.default_rng(seed).integers(1, 12, (5, 5)) * (1 - np.eye(5))
        assert bradley_terry(table, prior_ties=prior_ties) == pytest.approx(by_optimiser(table, prior_ties), abs=1e-6)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
@example(1, 7334)  # the expected wins are correct to 1e-9 long before the strengths are
@example(1, 10**15)
def test_two_arms_have_the_log_of_their_ratio(won, lost):
    strengths = bradley_terry([[0, won], [lost, 0]], prior_ties=0)
    assert strengths[0] - strengths[1] == pytest.approx(np.log(won / lost), abs=1e-12)


def expected_wins(table, strengths):
    return ((table + table.T) / (1 + np.exp(strengths[None, :] - strengths[:, None]))).sum(axis=1)


def test_rounding_of_other_arms_does_not_affect_an_arm_with_almost_no_wins():
    table = np.array([[0, 4593, 9820, 0], [9, 0, 0, 268], [0, 0, 0, 0], [3868, 97, 9921, 0]], dtype=float)
    strengths = bradley_terry(table, prior_ties=1e-6)
    with_prior = table + 5e-7 * (table + table.T > 0)
    assert expected_wins(with_prior, strengths) == pytest.approx(with_prior.sum(axis=1), rel=1e-9)


@given(tables(), st.randoms(use_true_random=False))
def test_names_do_not_matter(table, random):
    compared(table)
    order = list(range(len(table)))
    random.shuffle(order)
    assert bradley_terry(table[np.ix_(order, order)]) == pytest.approx(bradley_terry(table)[order], abs=1e-9)


@given(tables(low=1), st.floats(0.01, 1000))
def test_without_a_prior_the_scale_of_the_counts_does_not_matter(table, scale):
    assert bradley_terry(scale * table, prior_ties=0) == pytest.approx(bradley_terry(table, prior_ties=0), abs=1e-9)


@given(tables(high=2000, largest=8))
def test_expected_wins_equal_observed_wins_at_the_maximum(table):
    compared(table)
    strengths = bradley_terry(table)
    assert np.isfinite(strengths).all()
    assert strengths.mean() == pytest.approx(0, abs=1e-9)
    assert bradley_terry(table.T) == pytest.approx(-strengths, abs=1e-9)
    with_prior = table + 0.5 * (1 - np.eye(len(table)))
    assert expected_wins(with_prior, strengths) == pytest.approx(with_prior.sum(axis=1), rel=1e-9)
    probabilities = win_probabilities(strengths)
    assert probabilities.mean() == pytest.approx(0.5)
    assert ((probabilities > 0) & (probabilities < 1)).all()


@given(tables(largest=5))
def test_one_more_win_never_weakens_the_winner(table):
    compared(table)
    more = table.copy()
    more[0, 1] += 1
    gain = bradley_terry(more) - bradley_terry(table)
    assert gain[0] > 0 > gain[1]


def test_a_complete_order_has_finite_strengths():
    table = 1e5 * np.triu(np.ones((8, 8)), 1)
    strengths = bradley_terry(table)
    assert np.isfinite(strengths).all()
    assert (np.diff(strengths) < 0).all()
    draws = strength_draws(table[None] / 1e5, 500, 0)
    assert np.isfinite(draws).all()


@pytest.mark.parametrize("n", [1, 10, 40])
def test_the_interval_of_an_arm_that_always_won_is_that_of_jeffreys(n):
    wins = np.tile([[0.0, 1.0], [0.0, 0.0]], (n, 1, 1))
    drawn = win_probabilities(strength_draws(wins, 20_000, 0))[:, 0]
    assert np.quantile(drawn, [0.025, 0.5]) == pytest.approx(beta(n + 0.5, 0.5).ppf([0.025, 0.5]), abs=0.01)


def test_draws_depend_on_the_seed():
    wins = np.tile(BASEBALL / 10, (10, 1, 1))
    assert (strength_draws(wins, 20, 3) == strength_draws(wins, 20, 3)).all()
    assert (strength_draws(wins, 20, 3) != strength_draws(wins, 20, 4)).any()


@pytest.mark.parametrize(("k", "n", "spread"), [(2, 15, 3.0), (3, 20, 1.5), (4, 60, 0.5)])
def test_intervals_cover_the_truth_as_often_as_they_say(k, n, spread):
    generator = np.random.default_rng(0)
    strengths = np.linspace(-spread / 2, spread / 2, k)
    truth = win_probabilities(strengths)
    chances = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    covered = []
    for trial in range(150):
        first = np.triu(generator.random((n, k, k)) < chances, 1)
        wins = first + np.triu(1 - first, 1).swapaxes(1, 2).astype(float)
        low, high = np.quantile(win_probabilities(strength_draws(wins, 300, trial)), [0.025, 0.975], axis=0)
        covered.append((low <= truth) & (truth <= high))
    assert 0.90 < np.mean(covered) < 0.99


@settings(max_examples=30)
@given(tables(high=3, largest=4), st.integers(2, 12))
def test_the_estimate_is_within_its_interval(table, n):
    compared(table)
    wins = np.tile(table, (n, 1, 1))
    low, high = np.quantile(win_probabilities(strength_draws(wins, 400, 0)), [0.025, 0.975], axis=0)
    estimate = win_probabilities(bradley_terry(wins.sum(axis=0)))
    assert ((low <= estimate) & (estimate <= high)).all()


@pytest.mark.parametrize(
    ("wins", "arguments", "message"),
    [
        ([[0, 1]], {}, r"a \(k, k\) table of wins, k at least 2, got shape \(1, 2\)"),
        ([[0]], {}, r"got shape \(1, 1\)"),
        ([[0, -1], [0, 0]], {}, "finite wins of at least 0"),
        ([[0, float("nan")], [0, 0]], {}, "finite wins of at least 0"),
        ([[1, 1], [0, 0]], {}, "none of an arm against itself"),
        ([[0, 0], [0, 0]], {}, "connected by comparisons, got 2 groups"),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 0]], {}, r"arm 0 has none with \[2\]"),
        ([[0, 1], [0, 0]], {"prior_ties": 0}, "strengths would be infinite. Set prior_ties above 0"),
        ([[0, 1], [1, 0]], {"prior_ties": -1}, "prior_ties of at least 0, got -1"),
    ],
)
def test_tables_without_strengths(wins, arguments, message):
    with pytest.raises(rs.RankSelectError, match=message):
        bradley_terry(wins, **arguments)


def test_draws_need_a_prior():
    with pytest.raises(rs.RankSelectError, match="prior_ties above 0, got 0"):
        strength_draws(np.ones((3, 2, 2)) - np.eye(2), 10, 0, prior_ties=0)
