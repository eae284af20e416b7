"""The luck of a training, estimated from all arms of a study together."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from rankselect.study.crossed import MeanSquares, mean_squares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.study.scores import ArmScores

__all__ = ["pooled_luck"]


def pooled_luck(scores: Sequence[ArmScores]) -> MeanSquares | None:
    """How much differences of trained arms vary between seeds, from all pairs of them.

    Three seeds of one pair of arms say next to nothing of how much the luck of a training matters: 2 degrees of
    freedom. A arms with S seeds have (A - 1) (S - 1) of them, if luck matters equally for all, which is assumed here as
    in any analysis of variance.

    In simulations of 6 equal arms with 3 seeds, 60 questions and much luck, some difference from a baseline was shown
    in 4 to 6 % of the studies (in 14 % with each pair's own estimate, whose few degrees of freedom are themselves too
    uncertain for Bonferroni's correction). If the luck of one arm varied three times as much as that of the others, it
    was up to 9 %, or 15 % if that arm was the baseline.

    Args:
        scores: The arms' scores under one metric; those of an arm that is not trained are left out.

    Returns:
        The mean squares of differences; None if no two arms have two seeds in common.

    References:
        Tukey, "Comparing individual means in the analysis of variance", Biometrics 5 (1949), doi:10.2307/3001913.
    """
    trained = [each for each in scores if each.trained]
    found = []
    for one, other in combinations(trained, 2):
        seeds = [seed for seed in one.by_seed if seed in other.by_seed]
        if len(seeds) > 1:
            found.append(mean_squares(one.pseudo_values(seeds) - other.pseudo_values(seeds)))
    df_seeds = sum(each.df_seeds for each in found)
    df_rest = sum(each.df_rest for each in found)
    if not df_rest:
        return None
    # Of A (A - 1) / 2 pairs only A - 1 are independent.
    share = 2 / len(trained)
    return MeanSquares(
        sum(each.seeds * each.df_seeds for each in found) / df_seeds,
        sum(each.rest * each.df_rest for each in found) / df_rest,
        df_seeds * share,
        df_rest * share,
    )
