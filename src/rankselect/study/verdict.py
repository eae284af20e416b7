"""The study's answer in plain words: which arm to use and why, or that it makes no difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from rankselect.study.differences import CONFIDENCE, arm_difference
from rankselect.study.luck import pooled_luck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.study.differences import ArmDifference
    from rankselect.study.scores import ArmScores

__all__ = ["Verdict", "reach_verdict"]


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


def reach_verdict(scores: Sequence[ArmScores], costs: Mapping[str, float], caveats: Sequence[str]) -> Verdict:
    """The cheapest arm among those that are not shown to be worse than the best one.

    The best arm is known only from the same scores, so each arm's comparison with it allows for the comparisons of
    all pairs of arms.

    Args:
        scores: The arms' scores under one metric, of one condition; at least one arm.
        costs: ``{arm: trainable parameters}``.
        caveats: What could be wrong with the study, known already.
    """
    if len(scores) < 2:
        return Verdict(None, "There is nothing to compare: fewer than two arms have results.", (), tuple(caveats))
    sign = 1 if scores[0].metric.higher_is_better else -1
    best = max(scores, key=lambda each: sign * each.mean(each.by_seed))
    n_pairs = len(scores) * (len(scores) - 1) // 2
    luck = pooled_luck(scores)
    against = {each.arm: arm_difference(each, best, n_pairs, luck) for each in scores if each is not best}
    found = {arm: difference for arm, difference in against.items() if difference is not None}
    worse = [difference for difference in found.values() if difference.shown]
    equal = [best.arm, *(arm for arm, difference in found.items() if not difference.shown)]
    choice = min(equal, key=lambda arm: (costs[arm], arm != best.arm))
    unpaired = [f"{arm} has no seed in common with {best.arm}." for arm in against if arm not in found]
    return Verdict(
        choice,
        _headline(choice, best.arm, equal, found, costs),
        tuple(_reasons(choice, best, found, worse, costs)),
        (*_limits(found), *unpaired, *caveats),
        tuple(found.values()),
    )


def _headline(
    choice: str,
    best: str,
    equal: Sequence[str],
    found: Mapping[str, ArmDifference],
    costs: Mapping[str, float],
) -> str:
    if len(equal) == len(found) + 1:
        return f"The choice makes no difference that this study could show: use {choice}, the cheapest."
    if len(equal) == 1:
        return f"Use {best}: every other arm scores worse."
    if choice == best:
        return f"Use {best}: it scores best, and no arm that is not shown to be worse has fewer parameters."
    few = "without an adapter" if not costs[choice] else f"with {costs[choice]:,.0f} trainable parameters"
    return f"Use {choice}: {few} it is the cheapest of the {len(equal)} arms among which no difference is shown."


def _reasons(
    choice: str,
    best: ArmScores,
    found: Mapping[str, ArmDifference],
    worse: Sequence[ArmDifference],
    costs: Mapping[str, float],
) -> list[str]:
    estimate = best.estimate()
    low, high = estimate.interval(CONFIDENCE)
    metric = best.metric.name
    reasons = [f"{best.arm} scores best: {metric} {estimate.mean:.3g} (95 % interval {low:.3g} to {high:.3g})."]
    if choice != best.arm:
        reasons.append(f"{found[choice]}.")
        if costs[choice]:
            times = costs[best.arm] / costs[choice]
            reasons.append(f"{best.arm} has {times:.3g} times as many trainable parameters as {choice}.")
    reasons += [f"{difference}." for difference in worse]
    return reasons


def _limits(found: Mapping[str, ArmDifference]) -> list[str]:
    """What the comparisons could not have shown."""
    caveats = []
    unshown = [each.detectable for each in found.values() if not each.shown and not math.isnan(each.detectable)]
    if unshown:
        largest = (
            f"Differences below {max(unshown):.2g}" if len(unshown) > 1 else f"A difference below {unshown[0]:.2g}"
        )
        caveats.append(f"{largest} may be there and not be shown (80 % power): no difference shown is not none.")
    n_seeds = min((each.n_seeds for each in found.values()), default=1)
    if n_seeds < 3:
        luck = "the luck of a training is not in the intervals" if n_seeds == 1 else "intervals may be too narrow"
        caveats.append(f"{n_seeds} seed{'s' * (n_seeds > 1)}: {luck}.")
    return caveats
