"""The study's answer in plain words: which arm to use and why, or that it makes no difference."""

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
        arm: The arm, or None if there is nothing to say.
        headline: The answer in a sentence.
        reasons: What it rests on, a sentence each.
        caveats: What could be wrong with it, a sentence each.
        differences: Each arm against the best one, with intervals that allow for the comparisons of all pairs.

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
    """Arms against the best of them under one metric.

    Attributes:
        best: The arm of the best mean.
        found: The differences of the others from it, by arm.
    """

    best: ArmScores
    found: dict[str, ArmDifference]

    @classmethod
    def of(cls, scores: Sequence[ArmScores], n_comparisons: int) -> _Comparison:
        """Compare at least two arms; one that has no seed in common with the best is left out."""
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
        """The best arm, and those that are not shown to be worse."""
        return [self.best.arm, *(arm for arm, difference in self.found.items() if not difference.shown)]

    @property
    def tie(self) -> str:
        """Why this metric cannot tell any two arms apart; empty if it can, or the scores differ."""
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
    """The cheapest arm among those that are not shown to be worse than the best one.

    The best arm is known only from the same scores, so each arm's comparison with it allows for the comparisons of
    all pairs of arms. Arms that the deciding metric does not tell apart may be told apart by the study's further
    metrics: each takes away the arms that it shows to be worse than the best of those left, and all of them together
    allow for as many comparisons as they make.

    Args:
        scores: The arms' scores under the metric that decides, of one condition; at least one arm.
        costs: ``{arm: trainable parameters}``.
        caveats: What could be wrong with the study, known already.
        further: The arms' scores under further metrics, in the order in which they are asked.
    """
    if len(scores) < 2:
        return Verdict(None, "There is nothing to compare: fewer than two arms have results.", (), tuple(caveats))
    n_pairs = len(scores) * (len(scores) - 1) // 2
    first = _Comparison.of(scores, n_pairs)
    left, telling = first.equal, []
    for others in further:
        asked = [each for each in others if each.arm in left]
        if len(asked) > 1 and (found := _Comparison.of(asked, n_pairs * len(further))).worse:
            worse = {difference.arm for difference in found.worse}
            left = [arm for arm in left if arm not in worse]
            telling.append(found)
    best = (telling or [first])[-1].best.arm
    choice = min(left, key=lambda arm: (costs[arm], arm != best))
    lost = {each.arm for each in scores} - {first.best.arm} - set(first.found)
    unpaired = [f"{arm} has no seed in common with {first.best.arm}." for arm in sorted(lost)]
    return Verdict(
        choice,
        _headline(choice, first, telling, costs),
        (*_reasons(choice, first, costs), *map(_told, telling)),
        (*_limits(first.found), *unpaired, *caveats),
        tuple(first.found.values()),
    )


def _headline(choice: str, first: _Comparison, telling: Sequence[_Comparison], costs: Mapping[str, float]) -> str:
    everywhere = len(first.equal) == len(first.found) + 1
    few = "without an adapter" if not costs[choice] else f"with {costs[choice]:,.0f} trainable parameters"
    metric = first.best.metric.name
    if telling:
        names, show = " and ".join(each.best.metric.name for each in telling), "show" if len(telling) > 1 else "shows"
        which = "the arms" if everywhere else f"{len(first.equal)} arms"
        cheaper = any(costs[arm] < costs[choice] for arm in first.equal)
        why = f"but {names} {show} cheaper ones to be worse" if cheaper else f"{names} {show} others to be worse"
        return f"Use {choice}: {metric} shows no difference among {which}, {why}."
    if first.tie:
        return f"{first.tie} Use {choice}, the cheapest."
    if everywhere:
        return f"The choice makes no difference that this study could show: use {choice}, the cheapest."
    if len(first.equal) == 1:
        return f"Use {choice}: every other arm scores worse."
    if choice == first.best.arm:
        return f"Use {choice}: it scores best, and no arm that is not shown to be worse has fewer parameters."
    return f"Use {choice}: {few} it is the cheapest of the {len(first.equal)} arms among which no difference is shown."


def _reasons(choice: str, first: _Comparison, costs: Mapping[str, float]) -> list[str]:
    best = first.best
    reasons = [f"All arms score the same: {_score(best)}." if first.tie else f"{best.arm} scores best: {_score(best)}."]
    if choice != best.arm:
        reasons.append(f"{first.found[choice]}.")
        if 0 < costs[choice] < costs[best.arm]:
            times = costs[best.arm] / costs[choice]
            reasons.append(f"{best.arm} has {times:.3g} times as many trainable parameters as {choice}.")
    return reasons + [f"{difference}." for difference in first.worse]


def _told(comparison: _Comparison) -> str:
    """What a further metric shows."""
    worse = ", ".join(difference.arm for difference in comparison.worse)
    return f"Of these arms {comparison.best.arm} is best by {_score(comparison.best)}; shown to be worse: {worse}."


def _score(scores: ArmScores) -> str:
    estimate = scores.estimate()
    low, high = estimate.interval(CONFIDENCE)
    interval = "" if low is None or high is None else f" (95 % interval {low:.3g} to {high:.3g})"
    return f"{scores.metric.name} {estimate.mean:.3g}{interval}"


def _limits(found: Mapping[str, ArmDifference]) -> list[str]:
    """What the comparisons could not have shown."""
    caveats = []
    unshown = [each.detectable for each in found.values() if not each.shown and each.detectable is not None]
    if unshown:
        largest = (
            f"Differences below {max(unshown):.2g}" if len(unshown) > 1 else f"A difference below {unshown[0]:.2g}"
        )
        caveats.append(f"{largest} may be there and not be shown (80 % power): no difference shown is not none.")
    if any(each.n_questions == 1 for each in found.values()):
        caveats.append("1 question: how far scores would move with another is not known.")
    n_seeds = min((each.n_seeds for each in found.values()), default=1)
    if n_seeds < 3:
        what = "the luck of a training is not in the intervals" if n_seeds == 1 else "intervals may be too narrow"
        caveats.append(f"{n_seeds} seed{'s' * (n_seeds > 1)}: {what}.")
    return caveats


def verdict_or_error(reach: Callable[[], Verdict]) -> Verdict:
    """A verdict; one that says why there is none if it cannot be reached, so that all else can still be written.

    Args:
        reach: What gives the verdict, such as `StudyResults.verdict`.

    Example:
        >>> print(verdict_or_error(lambda: Verdict("rank-8", "Use rank-8.")))
        Use rank-8.
        >>> print(verdict_or_error(lambda: {}["rank-8"]))
        There is no verdict: it failed with KeyError: 'rank-8'. Everything else is here.
    """
    try:
        return reach()
    except Exception as error:  # hours of training must not be lost for want of a sentence
        logger.debug("there is no verdict", exc_info=True)
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Verdict(None, f"There is no verdict: it failed with {text}. Everything else is here.")
