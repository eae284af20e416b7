"""From comparisons to a ranking with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from scipy.sparse.csgraph import connected_components

from rankselect.errors import MetricError
from rankselect.metrics.judge.bradley_terry import bradley_terry, strength_draws, win_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rankselect.metrics.judge.preferences import Comparison

__all__ = ["RankedArm", "ranked", "wins_per_question"]


@final
@dataclass(frozen=True)
class RankedArm:
    """An arm in the ranking.

    Attributes:
        arm: Its name.
        probability: The probability that the judge prefers it to another arm, averaged over the others; a tie counts as
            half.
        low: The lower end of the interval of `probability`.
        high: Its upper end.
        strength: The Bradley-Terry strength in log odds; their mean over the arms is 0.

    Example:
        >>> RankedArm("rank 64", 0.7, 0.6, 0.8, 0.42).arm
        'rank 64'
    """

    arm: str
    probability: float
    low: float
    high: float
    strength: float


def ranked(
    arms: Sequence[str], comparisons: Sequence[Comparison], confidence: float, n_resamples: int, seed: int
) -> tuple[RankedArm, ...]:
    """Rank the arms, the best first, with intervals from the Bayesian bootstrap over questions.

    Raises:
        MetricError: If every comparison is an abstention, or no comparison connects two groups of arms.

    Example:
        >>> from rankselect.metrics.judge.preferences import Comparison, Preference
        >>> def won(question, winner, loser):
        ...     first = Preference(question, winner, loser, "first", "")
        ...     return Comparison(question, (winner, loser), (first, Preference(question, loser, winner, "second", "")))
        >>> [arm.arm for arm in ranked("xy", [won(0, "y", "x"), won(1, "y", "x"), won(2, "x", "y")], 0.95, 100, 0)]
        ['y', 'x']
    """
    wins = wins_per_question(arms, comparisons)
    if not wins.any():
        replies = [verdict.reply for each in comparisons for verdict in each.verdicts if verdict.choice == "abstained"]
        raise MetricError(
            "a verdict in both orders on at least one question",
            f"abstentions in all {len(comparisons)} comparisons, such as {replies[0][:80]!r}",
            "The arms cannot be compared: read the replies of the verdicts, and try another judge.",
        )
    _check_connected(arms, wins.sum(axis=0))
    strengths = bradley_terry(wins.sum(axis=0))
    probabilities = win_probabilities(strengths)
    draws = win_probabilities(strength_draws(wins, n_resamples, seed))
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    rows = zip(arms, probabilities.tolist(), low.tolist(), high.tolist(), strengths.tolist(), strict=True)
    return tuple(sorted((RankedArm(*row) for row in rows), key=lambda row: -row.probability))


def wins_per_question(arms: Sequence[str], comparisons: Sequence[Comparison]) -> NDArray[np.float64]:
    """(n, k, k): on each question, the wins of the row's arm over the column's; ties are half wins for both.

    Example:
        >>> from rankselect.metrics.judge.preferences import Comparison
        >>> wins_per_question(["x", "y"], [Comparison(7, ("x", "y"), ())]).tolist()
        [[[0.0, 0.5], [0.5, 0.0]]]
    """
    place = {arm: index for index, arm in enumerate(arms)}
    questions = {question: row for row, question in enumerate(sorted({each.question for each in comparisons}))}
    wins = np.zeros((len(questions), len(arms), len(arms)))
    for each in comparisons:
        row, (one, other) = questions[each.question], each.arms
        if each.outcome == "abstained":
            continue
        share = 0.5 if each.winner is None else float(each.winner == one)
        wins[row, place[one], place[other]] += share
        wins[row, place[other], place[one]] += 1 - share
    return wins


def _check_connected(arms: Sequence[str], wins: NDArray[np.float64]) -> None:
    _, group = connected_components(wins, directed=False)
    apart = [arm for arm, number in zip(arms, group, strict=True) if number != group[0]]
    if apart:
        raise MetricError(
            f"verdicts that connect {arms[0]!r} with every other arm",
            f"none that connects it with {', '.join(map(repr, apart))}: the judge abstained",
            "Read the replies of these comparisons, or leave the arms out.",
        )
