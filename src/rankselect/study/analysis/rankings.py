"""Rankings of the arms: by metric, by harmonic mean, by a judge, and by cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from rankselect.metrics.harmonic import HarmonicMeanOfMeans
from rankselect.study.analysis.differences import CONFIDENCE
from rankselect.study.analysis.scores import ArmScores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rankselect.metrics._base import Metric

__all__ = ["Place", "study_rankings"]


@final
@dataclass(frozen=True)
class Place:
    """An arm in a ranking.

    Attributes:
        place: 1 for the best; equal arms share a place.
        arm: The arm.
        value: The value by which it is ranked.
        low: The lower end of the value's 95 % interval; None if it has none, such as a cost.
        high: The upper end.
    """

    place: int
    arm: str
    value: float
    low: float | None = None
    high: float | None = None


def study_rankings(
    scores: Mapping[str, list[ArmScores]],
    judge: Mapping[str, Any] | None,
    seconds: Mapping[str, float],
    parameters: Mapping[str, float],
) -> dict[str, list[Place]]:
    """Rank the arms by every criterion, the best first.

    Args:
        scores: ``{metric: the scores of all arms}``.
        judge: A judge's result in JSON values.
        seconds: ``{arm: training seconds}``.
        parameters: ``{arm: trainable parameters}``; an arm without any is left out.

    Returns:
        The places for each criterion: each metric, ``"harmonic mean of … and token-f1"`` for each QuestEval metric,
        ``"judge"``, ``"training time"`` and ``"trainable parameters"``. A criterion without values is left out.
    """
    found = {name: by_scores(arms) for name, arms in scores.items()}
    for name, arms in scores.items():
        if name.startswith("questeval") and "token-f1" in scores:
            by_arm = {each.arm: each for each in scores["token-f1"]}
            both = [harmonic_scores((each, by_arm[each.arm])) for each in arms if each.arm in by_arm]
            found[f"harmonic mean of {name} and token-f1"] = by_scores(both)
    if judge is not None:
        found["judge"] = by_judge(judge)
    found["training time"] = by_values(seconds)
    found["trainable parameters"] = by_values({arm: number for arm, number in parameters.items() if number})
    return {name: places for name, places in found.items() if places}


def by_values(values: Mapping[str, float]) -> list[Place]:
    """Rank arms by a cost, the lowest first; equal costs share a place.

    Example:
        >>> [(each.place, each.arm) for each in by_values({"a": 3.0, "b": 1.0, "c": 1.0})]
        [(1, 'b'), (1, 'c'), (3, 'a')]
    """
    return _placed([{"arm": arm, "value": value} for arm, value in values.items()], highest_first=False)


def by_scores(scores: Iterable[ArmScores]) -> list[Place]:
    """Rank arms by their mean score, the best first, with intervals over seeds and questions."""
    rows = []
    highest_first = True
    for each in scores:
        estimate = each.estimate()
        low, high = estimate.interval(CONFIDENCE)
        rows.append({"arm": each.arm, "value": estimate.mean, "low": low, "high": high})
        highest_first = each.metric.higher_is_better
    return _placed(rows, highest_first=highest_first)


def by_judge(judge: Mapping[str, Any]) -> list[Place]:
    """Rank arms by the probability that the judge prefers them; empty if its verdicts do not rank them."""
    rows = [
        {"arm": arm["arm"], "value": arm["probability"], "low": arm["low"], "high": arm["high"]}
        for arm in judge["ranking"]
    ]
    return _placed(rows, highest_first=True)


def harmonic_scores(parts: Sequence[ArmScores]) -> ArmScores:
    """Combine one arm's scores under several metrics into scores under the harmonic mean of their averages."""
    metrics: tuple[Metric, ...] = tuple(part.metric for part in parts)
    seeds = [seed for seed in parts[0].by_seed if all(seed in part.by_seed for part in parts)]
    values = {seed: np.stack([part.by_seed[seed] for part in parts]) for seed in seeds}
    return ArmScores(parts[0].arm, HarmonicMeanOfMeans(metrics), values, parts[0].trained)


def _placed(rows: list[dict[str, Any]], *, highest_first: bool) -> list[Place]:
    ordered = sorted(rows, key=lambda row: float(row["value"]), reverse=highest_first)
    values = [row["value"] for row in ordered]
    return [Place(values.index(row["value"]) + 1, **row) for row in ordered]
