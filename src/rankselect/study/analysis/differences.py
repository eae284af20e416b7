"""Arms against a baseline: by how much they differ, whether it is shown, and what could have been shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, final

from rankselect.strategies.controls import SameParameters
from rankselect.study.analysis.crossed import MeanSquares, crossed_estimate, detectable_difference, mean_squares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.study.analysis.scores import ArmScores
    from rankselect.study.arm import Arm

__all__ = ["ArmDifference", "arm_difference", "pooled_seed_variance"]

CONFIDENCE = 0.95
"""The level of all intervals of a study."""


@final
@dataclass(frozen=True)
class ArmDifference:
    """By how much an arm scores above a baseline arm.

    Attributes:
        metric: The metric's name.
        arm: The arm.
        baseline: What it is compared with.
        difference: The arm's mean score minus the baseline's.
        low: The lower end of the interval of `difference`; None if there is no interval, as of one question.
        high: Its upper end.
        p: The probability of a difference at least as large if there were none, for this comparison by itself.
        p_adjusted: `p` times the number of comparisons, at most 1.
        shown: Whether there is a difference: `p_adjusted` is below 0.05, so that the interval leaves 0 out.
        detectable: The smallest difference that these seeds and questions would have shown with 80 % power; None if
            it is not known: `why_unknown` says why.
        n_seeds: The number of seeds with which both were trained.
        n_questions: The number of questions.
        n_comparisons: The number of comparisons for which intervals and `p_adjusted` allow.
        higher_is_better: Whether a higher score is a better one.

    Example:
        >>> print(ArmDifference("token-f1", "a", "b", 0.01, -0.02, 0.04, 0.3, 0.9, False, 0.05, 3, 50, 3, True))
        a against b: token-f1 +0.01 (-0.02 to +0.04), no difference shown; one of 0.05 would be in 4 of 5 such studies
    """

    metric: str
    arm: str
    baseline: str
    difference: float
    low: float | None
    high: float | None
    p: float
    p_adjusted: float
    shown: bool
    detectable: float | None
    n_seeds: int
    n_questions: int
    n_comparisons: int
    higher_is_better: bool

    @property
    def outcome(self) -> str:
        """``"better"``, ``"worse"`` or ``"no difference shown"``: of the arm, against the baseline."""
        if not self.shown:
            return "no difference shown"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"

    @property
    def same(self) -> bool:
        """Whether the two arms have the same scores, on every question."""
        return self.difference == 0 and self.low == self.high == 0

    @property
    def why_unknown(self) -> str:
        """Why `detectable` is not known; empty if it is."""
        if self.detectable is not None:
            return ""
        if self.n_questions == 1:
            return "one question cannot show any"
        if self.low is None:
            return "the scores are too large to compare"
        return "the scores are the same" if self.same else "so few questions cannot show any"

    @property
    def note(self) -> str:
        """What there is to know about the number of questions or seeds; empty if nothing."""
        if self.n_questions == 1:
            return "one question: there is no interval"
        if self.n_seeds == 1:
            return "one seed: the luck of a training is not in the interval"
        return "two seeds: the interval may be too narrow" if self.n_seeds == 2 else ""

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.low:+.3g} to {self.high:+.3g})"
        said = f"{self.arm} against {self.baseline}: {self.metric} {self.difference:+.3g}{interval}, {self.outcome}"
        if self.shown:
            return said
        if self.detectable is None:
            return f"{said}; {self.why_unknown}"
        return f"{said}; one of {self.detectable:.2g} would be in 4 of 5 such studies"

    def to_row(self) -> dict[str, Any]:
        """Everything as columns."""
        return {**asdict(self), "outcome": self.outcome, "note": self.note, "says": str(self)}


def arm_difference(
    arm: ArmScores, baseline: ArmScores, n_comparisons: int = 1, seed_variance: MeanSquares | None = None
) -> ArmDifference | None:
    """The paired difference of two arms over their common seeds and all questions.

    Both arms met the same questions, so the difference is taken question by question and seed by seed, which takes
    out the difficulty of questions; see `crossed_estimate` for the interval. With n comparisons, each interval is of
    1 - 0.05 / n, so that all of them hold at once with 95 % (Bonferroni's correction).

    Args:
        arm: One arm's scores.
        baseline: The other's, under the same metric.
        n_comparisons: The number of comparisons of which this is one.
        seed_variance: How much differences of trained arms vary between seeds, from all arms: see
            `pooled_seed_variance`. It is not used if one of the two is not trained.

    Returns:
        The difference; None if the arms have no seed in common.

    References:
        Dunn, "Multiple comparisons among means", Journal of the American Statistical Association 56 (1961),
        doi:10.1080/01621459.1961.10482090.
    """
    seeds = [seed for seed in arm.by_seed if seed in baseline.by_seed]
    if not seeds:
        return None
    alpha = (1 - CONFIDENCE) / n_comparisons
    mean = arm.mean(seeds) - baseline.mean(seeds)
    squares = seed_variance if arm.trained and baseline.trained else None
    estimate = crossed_estimate(arm.pseudo_values(seeds) - baseline.pseudo_values(seeds), mean, squares)
    p_adjusted = min(1.0, estimate.p * n_comparisons)
    low, high = estimate.interval(1 - alpha)
    return ArmDifference(
        arm.metric.name,
        arm.arm,
        baseline.arm,
        mean,
        low,
        high,
        estimate.p,
        p_adjusted,
        shown=p_adjusted <= 1 - CONFIDENCE,
        detectable=detectable_difference(estimate.stderr, estimate.df, alpha=alpha) if estimate.stderr else None,
        n_seeds=len(seeds),
        n_questions=estimate.n_questions,
        n_comparisons=n_comparisons,
        higher_is_better=arm.metric.higher_is_better,
    )


def default_baseline(arms: Sequence[Arm]) -> str:
    """The arm with which others are compared.

    The first that is named a control; else the first of the strategy `SameParameters`, which is one; else the first
    with an adapter.

    Example:
        >>> from rankselect.study.arm import Arm
        >>> default_baseline([Arm("base"), Arm("r8", "fixed:rank=8")])
        'r8'
    """
    names = [arm.name for arm in arms if "control" in arm.name.lower()]
    names += [arm.name for arm in arms if isinstance(arm.strategy, SameParameters)]
    names += [arm.name for arm in arms if arm.strategy is not None]
    return (names or [arms[0].name])[0]


def pooled_seed_variance(scores: Sequence[ArmScores]) -> MeanSquares | None:
    """How much differences of trained arms vary between seeds, from all pairs of them.

    Three seeds of one pair of arms say next to nothing of the variance between trainings: 2 degrees of freedom.
    A arms with S seeds have (A - 1) (S - 1) of them, if the seed variance is equal for all, which is assumed here as
    in any analysis of variance.

    In simulations of 6 equal arms with 3 seeds, 60 questions and a large seed variance, some difference from a baseline
    was shown in 4 to 6 % of the studies (in 14 % with each pair's own estimate, whose few degrees of freedom are
    themselves too uncertain for Bonferroni's correction). If scores of one arm varied three times as much between
    seeds as those of the others, it was up to 9 %, or 15 % if that arm was the baseline.

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
