"""The verdict of a study in plain words: which arm to use and why, or that no difference was shown."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from rankselect.study.analysis.differences import CONFIDENCE, arm_difference, pooled_seed_variance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rankselect.study.analysis.differences import ArmDifference
    from rankselect.study.analysis.scores import ArmScores

__all__ = ["Verdict", "reach_verdict", "verdict_or_error"]

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Verdict:
    """Which arm to use.

    Attributes:
        arm: The recommended arm, or None if there is no verdict.
        headline: The verdict in one sentence.
        reasons: The reasons for it, one sentence each.
        caveats: Its limitations, one sentence each.
        differences: The difference of each arm from the best one, with intervals adjusted for the comparisons of all
            pairs.

    Example:
        >>> print(Verdict("rank-8", "Use rank-8.", ("It is the cheapest.",), ("One seed.",)))
        Use rank-8.
        - It is the cheapest.
        Caveats:
        - One seed.
    """

    arm: str | None
    headline: str
    reasons: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    differences: tuple[ArmDifference, ...] = ()

    def __str__(self) -> str:
        lines = [self.headline, *(f"- {reason}" for reason in self.reasons)]
        return "\n".join(lines + (["Caveats:"] if self.caveats else []) + [f"- {each}" for each in self.caveats])


@final
@dataclass(frozen=True)
class _Comparison:
    """The comparison of arms with the best of them under one metric.

    Attributes:
        best: The arm with the best mean score.
        found: The differences of the other arms from it, by arm.
    """

    best: ArmScores
    found: dict[str, ArmDifference]

    @classmethod
    def of(cls, scores: Sequence[ArmScores], n_comparisons: int) -> _Comparison:
        """Compare at least two arms; an arm that has no seed in common with the best one is left out."""
        sign = 1 if scores[0].metric.higher_is_better else -1
        best = max(scores, key=lambda each: sign * each.mean(each.by_seed))
        seed_variance = pooled_seed_variance(scores)
        against = {
            each.arm: arm_difference(each, best, n_comparisons, seed_variance) for each in scores if each is not best
        }
        return cls(best, {arm: difference for arm, difference in against.items() if difference is not None})

    @property
    def worse(self) -> list[ArmDifference]:
        """The differences of the arms that are shown to be worse than the best."""
        return [difference for difference in self.found.values() if difference.shown]

    @property
    def equal(self) -> list[str]:
        """The best arm, and the arms that are not shown to be worse."""
        return [self.best.arm, *(arm for arm, difference in self.found.items() if not difference.shown)]

    @property
    def tie(self) -> str:
        """A sentence that says why all arms tie under this metric; empty if their scores differ."""
        if not self.found or not all(difference.same for difference in self.found.values()):
            return ""
        if not any(scores.any() for scores in self.best.by_seed.values()):
            return f"No answer scored above 0: {self.best.metric.name} cannot tell these arms apart."
        return f"All arms have the same scores: {self.best.metric.name} cannot tell them apart."


def reach_verdict(
    scores: Sequence[ArmScores],
    costs: Mapping[str, float],
    caveats: Sequence[str],
    further: Sequence[Sequence[ArmScores]] = (),
) -> Verdict:
    """Choose the cheapest of the arms that are not shown to be worse than the best one.

    The best arm is selected by the same scores that it is tested on, so its comparisons with the other arms are
    adjusted for the comparisons of all pairs of arms. If the first metric leaves several arms, the further metrics are
    applied in order: each removes the arms that it shows to be worse than the best of the remaining arms. Their
    comparisons are adjusted for the comparisons of all further metrics.

    Args:
        scores: The arms' scores under the primary metric, for one condition; at least one arm.
        costs: ``{arm: trainable parameters}``.
        caveats: Known limitations of the study.
        further: The arms' scores under further metrics, in the order in which they are applied.
    """
    if len(scores) < 2:
        return Verdict(None, "There is nothing to compare: fewer than two arms have results.", (), tuple(caveats))
    n_pairs = len(scores) * (len(scores) - 1) // 2
    first = _Comparison.of(scores, n_pairs)
    left, decisive = first.equal, []
    for others in further:
        compared = [each for each in others if each.arm in left]
        if len(compared) > 1 and (found := _Comparison.of(compared, n_pairs * len(further))).worse:
            worse = {difference.arm for difference in found.worse}
            left = [arm for arm in left if arm not in worse]
            decisive.append(found)
    best = (decisive or [first])[-1].best.arm
    choice = min(left, key=lambda arm: (costs[arm], arm != best))
    lost = {each.arm for each in scores} - {first.best.arm} - set(first.found)
    unpaired = [f"{arm} has no seed in common with {first.best.arm}." for arm in sorted(lost)]
    return Verdict(
        choice,
        _headline(choice, first, decisive, costs),
        (*_reasons(choice, first, costs), *map(_further_reason, decisive)),
        (*_limits(first.found), *unpaired, *caveats),
        tuple(first.found.values()),
    )


def _headline(choice: str, first: _Comparison, decisive: Sequence[_Comparison], costs: Mapping[str, float]) -> str:
    everywhere = len(first.equal) == len(first.found) + 1
    few = "without an adapter" if not costs[choice] else f"with {costs[choice]:,.0f} trainable parameters"
    metric = first.best.metric.name
    if decisive:
        names, show = " and ".join(each.best.metric.name for each in decisive), "show" if len(decisive) > 1 else "shows"
        which = "the arms" if everywhere else f"{len(first.equal)} arms"
        cheaper = any(costs[arm] < costs[choice] for arm in first.equal)
        worse = "cheaper arms are worse" if cheaper else "other arms are worse"
        return f"Use {choice}: {metric} shows no difference between {which}, but {names} {show} that {worse}."
    if first.tie:
        return f"{first.tie} Use {choice}, the cheapest."
    if everywhere:
        return f"This study shows no difference between the arms: use {choice}, the cheapest."
    if len(first.equal) == 1:
        return f"Use {choice}: every other arm scores worse."
    if choice == first.best.arm:
        return f"Use {choice}: it scores best, and the arms that are not shown to be worse have no fewer parameters."
    equal = f"the {len(first.equal)} arms that are not shown to be worse than the best"
    return f"Use {choice}: {few}, it is the cheapest of {equal}."


def _reasons(choice: str, first: _Comparison, costs: Mapping[str, float]) -> list[str]:
    best = first.best
    reasons = [f"All arms score the same: {_score(best)}." if first.tie else f"{best.arm} scores best: {_score(best)}."]
    if choice != best.arm:
        reasons.append(f"{first.found[choice]}.")
        if 0 < costs[choice] < costs[best.arm]:
            times = costs[best.arm] / costs[choice]
            reasons.append(f"{best.arm} has {times:.3g} times as many trainable parameters as {choice}.")
    return reasons + [f"{difference}." for difference in first.worse]


def _further_reason(comparison: _Comparison) -> str:
    """A sentence on what a further metric shows."""
    worse = ", ".join(difference.arm for difference in comparison.worse)
    best = f"{comparison.best.arm} scores best: {_score(comparison.best)}"
    return f"Of the remaining arms, {best}; shown to be worse: {worse}."


def _score(scores: ArmScores) -> str:
    estimate = scores.estimate()
    low, high = estimate.interval(CONFIDENCE)
    interval = "" if low is None or high is None else f" (95 % interval {low:.3g} to {high:.3g})"
    return f"{scores.metric.name} {estimate.mean:.3g}{interval}"


def _limits(found: Mapping[str, ArmDifference]) -> list[str]:
    """Caveats about differences that the comparisons may have missed."""
    caveats = []
    unshown = [each.detectable for each in found.values() if not each.shown and each.detectable is not None]
    if unshown:
        largest = (
            f"Differences below {max(unshown):.2g}" if len(unshown) > 1 else f"A difference below {unshown[0]:.2g}"
        )
        caveats.append(f"{largest} may have been missed (80 % power): no difference shown does not mean no difference.")
    if any(each.n_questions == 1 for each in found.values()):
        caveats.append("1 question: how much the scores depend on the choice of the question is unknown.")
    n_seeds = min((each.n_seeds for each in found.values()), default=1)
    if n_seeds == 1:
        caveats.append("1 seed: the intervals do not include the variation between seeds.")
    elif n_seeds < 3:
        caveats.append(f"{n_seeds} seeds: the intervals may be too narrow.")
    return caveats


def verdict_or_error(reach: Callable[[], Verdict]) -> Verdict:
    """Return the verdict, or one that reports the error if it cannot be computed, so that the rest is still written.

    Args:
        reach: A function that returns the verdict, such as `StudyResults.verdict`.

    Example:
        >>> print(verdict_or_error(lambda: Verdict("rank-8", "Use rank-8.")))
        Use rank-8.
        >>> print(verdict_or_error(lambda: {}["rank-8"]))
        There is no verdict: computing it failed with KeyError: 'rank-8'. The other results are not affected.
    """
    try:
        return reach()
    except Exception as error:  # the results of hours of training must be written even without a verdict
        logger.debug("there is no verdict", exc_info=True)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Verdict(
            None, f"There is no verdict: computing it failed with {text}. The other results are not affected."
        )
