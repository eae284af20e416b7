"""Differences between arms and a baseline: their size, whether they are shown, and what was detectable."""

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
    """The difference between the scores of an arm and a baseline arm.

    Attributes:
        metric: The metric's name.
        arm: The arm.
        baseline: The arm it is compared with.
        difference: The arm's mean score minus the baseline's.
        low: The lower end of the interval of `difference`; None without an interval, for example with one question.
        high: The upper end.
        p: The p-value of this comparison: the probability of a difference at least this large if there were none.
        p_adjusted: `p` times the number of comparisons, at most 1.
        shown: Whether a difference is shown: `p_adjusted` is at most 0.05, so that the interval excludes 0.
        detectable: The smallest difference that would be shown with 80 % power, with these seeds and questions; None
            if it is unknown, see `why_unknown`.
        n_seeds: The number of seeds that both arms were trained with.
        n_questions: The number of questions.
        n_comparisons: The number of comparisons that the intervals and `p_adjusted` are adjusted for.
        higher_is_better: Whether higher scores are better.

    Example:
        >>> print(ArmDifference("token-f1", "a", "b", 0.01, -0.02, 0.04, 0.3, 0.9, False, 0.05, 3, 50, 3, True))
        a against b: token-f1 +0.01 (-0.02 to +0.04), no difference shown; smallest detectable difference: 0.05
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
        """The result of the comparison, ``"better"``, ``"worse"`` or ``"no difference shown"``."""
        if not self.shown:
            return "no difference shown"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"

    @property
    def same(self) -> bool:
        """Whether the two arms have the same scores on every question."""
        return self.difference == 0 and self.low == self.high == 0

    @property
    def why_unknown(self) -> str:
        """Why `detectable` is unknown; empty if it is known."""
        if self.detectable is not None:
            return ""
        if self.n_questions == 1:
            return "one question cannot show a difference"
        if self.low is None:
            return "the scores are too large to compare"
        return "the scores are the same" if self.same else "too few questions to show a difference"

    @property
    def note(self) -> str:
        """A caveat about a small number of questions or seeds; empty if there is none."""
        if self.n_questions == 1:
            return "one question: there is no interval"
        if self.n_seeds == 1:
            return "one seed: the interval does not include the variation between seeds"
        return "two seeds: the interval may be too narrow" if self.n_seeds == 2 else ""

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.low:+.3g} to {self.high:+.3g})"
        text = f"{self.arm} against {self.baseline}: {self.metric} {self.difference:+.3g}{interval}, {self.outcome}"
        if self.shown:
            return text
        if self.detectable is None:
            return f"{text}; {self.why_unknown}"
        return f"{text}; smallest detectable difference: {self.detectable:.2g}"

    def to_row(self) -> dict[str, Any]:
        """All values as the columns of a table row."""
        return {**asdict(self), "outcome": self.outcome, "note": self.note, "says": str(self)}


def arm_difference(
    arm: ArmScores, baseline: ArmScores, n_comparisons: int = 1, seed_variance: MeanSquares | None = None
) -> ArmDifference | None:
    """Compute the paired difference of two arms over their common seeds and all questions.

    Both arms answered the same questions, so the difference is computed question by question and seed by seed, which
    removes the difficulty of the questions; see `crossed_estimate` for the interval. With n comparisons, each interval
    has the level 1 - 0.05 / n, so that all intervals hold simultaneously with 95 % (Bonferroni's correction).

    Args:
        arm: The arm's scores.
        baseline: The baseline's scores under the same metric.
        n_comparisons: The total number of comparisons, including this one.
        seed_variance: How much the differences of trained arms vary between seeds, estimated from all arms: see
            `pooled_seed_variance`. It is ignored if one of the two arms is not trained.

    Returns:
        The difference, or None if the arms have no seed in common.

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
    """Return the name of the default baseline, the arm that the others are compared with.

    It is the first arm with "control" in its name, or else the first with the strategy `SameParameters`, which is a
    control, or else the first with an adapter.

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
    """Estimate how much the differences of trained arms vary between seeds, pooled over all pairs of arms.

    Three seeds of one pair of arms give a very poor estimate of the variance between trainings: it has 2 degrees of
    freedom. A arms with S seeds give (A - 1) (S - 1) degrees of freedom if the seed variance is the same for all arms,
    which is assumed here, as in any analysis of variance.

    In simulations of 6 equal arms with 3 seeds, 60 questions and a large seed variance, at least one difference from
    the baseline was falsely shown in 4 to 6 % of the studies. With a separate estimate for each pair it was 14 %: the
    few degrees of freedom are themselves too uncertain for Bonferroni's correction. If the scores of one arm varied
    three times as much between seeds as those of the others, it was up to 9 %, or 15 % if that arm was the baseline.

    Args:
        scores: The arms' scores under one metric; untrained arms are ignored.

    Returns:
        The mean squares of the differences, or None if no two arms have two seeds in common.

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
    # Only A - 1 of the A (A - 1) / 2 pairs are independent.
    share = 2 / len(trained)
    return MeanSquares(
        sum(each.seeds * each.df_seeds for each in found) / df_seeds,
        sum(each.rest * each.df_rest for each in found) / df_rest,
        df_seeds * share,
        df_rest * share,
    )
