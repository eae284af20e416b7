"""The Bradley-Terry model: the strength of each arm from pairwise wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, log_expit

from rankselect.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["bradley_terry", "strength_draws", "win_probabilities"]

_STEPS, _HALVINGS = 500, 40
_TOLERANCE = 1e-10  # in log odds: the iteration stops at a smaller Newton step
_ROUNDING = 4 * np.finfo(np.float64).eps  # rounding error of strengths and of sums over arms
_SMALLEST_PRIOR = 1e-6  # in wins; below it the strengths of a separated pair grow until sums lose their precision


def bradley_terry(wins: ArrayLike, *, prior_ties: float = 1.0) -> NDArray[np.float64]:
    """Compute the maximum-likelihood strengths of the arms.

    In the Bradley-Terry model, i beats j with probability 1 / (1 + exp(s_j - s_i)). The likelihood is maximised by
    Newton's method. A tie is half a win for each.

    An arm that wins everything would get an infinite strength, so one tie is added to every pair that was compared:
    half a win each way. With the hundreds of comparisons that a ranking needs, this changes almost nothing.

    Args:
        wins: (k, k): how often the row's arm beat the column's. Ties are half wins; any weights of at least 0 are
            allowed.
        prior_ties: Ties added to each pair that was compared at least once. With 0 the plain likelihood is maximised.

    Returns:
        (k,) strengths in log odds; their mean is 0.

    Raises:
        MetricError: If `wins` is not a square table of finite numbers of at least 0 with zeros on the diagonal, if not
            all arms are connected by comparisons, or if the likelihood has no maximum without a prior.

    References:
        Bradley and Terry, Rank analysis of incomplete block designs, Biometrika 39 (1952), doi:10.2307/2334029.
        Hunter, MM algorithms for generalized Bradley-Terry models, Annals of Statistics 32 (2004),
        doi:10.1214/aos/1079120141: when the maximum exists.

    Example:
        >>> strengths = bradley_terry([[0, 8], [2, 0]])
        >>> strengths.round(4), win_probabilities(strengths).round(4)
        (array([ 0.6119, -0.6119]), array([0.7727, 0.2273]))
        >>> bradley_terry([[0, 10], [0, 0]]).round(4)
        array([ 1.5223, -1.5223])
    """
    table = _checked(wins, prior_ties)
    return _most_likely(table + prior_ties / 2 * _compared(table))


def win_probabilities(strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of beating another arm, averaged over the other arms: (..., k) strengths to (..., k).

    Example:
        >>> win_probabilities(np.log([3.0, 1.0, 1.0])).round(4)
        array([0.75 , 0.375, 0.375])
    """
    chances = expit(strengths[..., :, None] - strengths[..., None, :])
    return np.asarray((chances.sum(axis=-1) - 0.5) / (strengths.shape[-1] - 1))  # 0.5: each against itself


def strength_draws(
    wins_per_question: NDArray[np.float64], n_resamples: int, seed: int, *, prior_ties: float = 1.0
) -> NDArray[np.float64]:
    """Draw strengths by the Bayesian bootstrap over questions: how they would vary with other questions.

    Each draw weights every question by an exponential variate, where the ordinary bootstrap uses the number of times
    that it was drawn. The prior's half wins get gamma variates of their own, so every draw includes them. For two arms
    without ties the draws follow the Jeffreys posterior of a binomial proportion. Unlike the ordinary bootstrap, it has
    a positive width even if one arm won every time.

    Args:
        wins_per_question: (n, k, k): for each question, the wins of the row's arm against the column's.
        n_resamples: The number of draws.
        seed: The seed of the draws.
        prior_ties: As for `bradley_terry`, above 0.

    Returns:
        (n_resamples, k) strengths; the mean of each row is 0.

    Raises:
        MetricError: As for `bradley_terry`.

    References:
        Rubin, The Bayesian bootstrap, Annals of Statistics 9 (1981), doi:10.1214/aos/1176345338.
        Brown, Cai and DasGupta, Interval estimation for a binomial proportion, Statistical Science 16 (2001),
        doi:10.1214/ss/1009213286.

    Example:
        >>> wins = np.tile([[0.0, 1.0], [0.0, 0.0]], (10, 1, 1))
        >>> np.quantile(win_probabilities(strength_draws(wins, 2000, 0))[:, 0], [0.025, 0.975]).round(2)
        array([0.78, 1.  ])
    """
    if not prior_ties > 0:
        raise MetricError("prior_ties above 0", repr(prior_ties), "Without them, a draw may have no maximum.")
    compared = _compared(_checked(wins_per_question.sum(axis=0), prior_ties))
    generator = np.random.default_rng(seed)
    weights = generator.standard_exponential((n_resamples, len(wins_per_question)))
    prior = generator.standard_gamma(prior_ties / 2, (n_resamples, *compared.shape))
    drawn = np.einsum("rn,nij->rij", weights, wins_per_question)
    return _most_likely(drawn + np.maximum(prior, _SMALLEST_PRIOR) * compared)


def _compared(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(table + table.T > 0)


def _checked(wins: ArrayLike, prior_ties: float) -> NDArray[np.float64]:
    table = np.asarray(wins, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or len(table) < 2:
        raise MetricError("a (k, k) table of wins, k at least 2", f"shape {table.shape}", "Give one row for each arm.")
    if not (np.isfinite(table) & (table >= 0)).all() or table.diagonal().any():
        raise MetricError(
            "finite wins of at least 0, none of an arm against itself", str(table.tolist()), "Check them."
        )
    if not (np.isfinite(prior_ties) and prior_ties >= 0):
        raise MetricError("finite prior_ties of at least 0", repr(prior_ties), "1 adds half a win each way.")
    groups, group = connected_components(table + table.T, directed=False)
    if groups > 1:
        apart = np.flatnonzero(group != group[0]).tolist()
        raise MetricError(
            "arms that are all connected by comparisons",
            f"{groups} groups without a comparison between them (arm 0 has none with {apart})",
            "Compare arms of different groups with each other, or rank each group separately.",
        )
    if not prior_ties and connected_components(table, directed=True, connection="strong")[0] > 1:
        raise MetricError(
            "every arm, and every group of arms, to win once against the others",
            "arms that win or lose everything, whose strengths would be infinite",
            "Set prior_ties above 0.",
        )
    return table


def _most_likely(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maximise the likelihood of (..., k, k) wins by Newton's method, with shorter steps where a step overshoots.

    A small score (gradient) is not enough to stop: where one arm wins almost everything, the likelihood is so flat that
    the strengths may still be far off. So the iteration stops when the last step was small, or when the score is only
    rounding error.
    """
    wins = wins / (wins + wins.swapaxes(-1, -2)).max(axis=(-1, -2), keepdims=True)
    totals = wins + wins.swapaxes(-1, -2)
    k = wins.shape[-1]
    strengths = np.zeros(wins.shape[:-1])
    for _ in range(_STEPS):
        chances = expit(strengths[..., :, None] - strengths[..., None, :])
        # unexpected wins and unexpected losses: their difference is exact where wins - totals * chances would cancel
        surprises = wins * chances.swapaxes(-1, -2)
        losses = surprises.swapaxes(-1, -2)
        score = (surprises - losses).sum(axis=-1)
        mass = (surprises + losses).sum(axis=-1)
        # the scores sum to 0 except for rounding, which is assigned to the arms with the largest sums
        score -= score.sum(axis=-1, keepdims=True) * mass / mass.sum(axis=-1, keepdims=True)
        weights = totals * chances * chances.swapaxes(-1, -2)
        curvature = np.eye(k) * weights.sum(axis=-1)[..., None, :] - weights
        scale = weights.max(
            axis=(-1, -2), keepdims=True
        )  # the mean of the strengths is undetermined: fix it, on the same scale
        step = np.linalg.solve(curvature + scale / k, score[..., None])[..., 0]
        strengths = strengths + step * _shares(wins, strengths, step)
        noise = _ROUNDING * (1 + np.abs(strengths).max(axis=-1, keepdims=True)) * mass
        if ((np.abs(step) < _TOLERANCE).all(axis=-1) | (np.abs(score) <= noise).all(axis=-1)).all():
            return np.asarray(strengths - strengths.mean(axis=-1, keepdims=True))
    raise MetricError("wins that Newton's method can rank", f"no convergence in {_STEPS} steps", "Check the wins.")


def _shares(
    wins: NDArray[np.float64], strengths: NDArray[np.float64], step: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(..., 1): the fraction of each step that is at most 2 long and does not lower the likelihood."""
    share = np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=-1, keepdims=True), 1e-300))
    before = _log_likelihood(wins, strengths)
    for _ in range(_HALVINGS):
        worse = _log_likelihood(wins, strengths + share * step) < before - 1e-14
        if not worse.any():
            break
        share = np.where(worse[..., None], share / 2, share)
    return np.asarray(share)


def _log_likelihood(wins: NDArray[np.float64], strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((wins * log_expit(strengths[..., :, None] - strengths[..., None, :])).sum(axis=(-1, -2)))
