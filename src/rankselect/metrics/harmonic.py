"""Harmonic means of metrics: of each answer's scores, and of the metrics' averages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast, final

import numpy as np

from rankselect.errors import ArgumentError, MetricError
from rankselect.metrics._base import Metric, metric

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from rankselect.metrics.metric_input import MetricInput

__all__ = ["HarmonicMean", "HarmonicMeanOfMeans", "harmonic_mean"]


class _CombinedMetric(Metric):
    """The common base of both harmonic means: the checked metrics and their scores."""

    metrics: tuple[Metric | str, ...]

    def __post_init__(self) -> None:
        given = tuple(self.metrics) if isinstance(self.metrics, tuple | list) else (self.metrics,)
        if len(given) < 2:
            raise ArgumentError("at least two metrics", repr(given), "For example (TokenF1(), ExactMatch()).")
        metrics = tuple(metric(each) for each in given)
        _check_metrics(metrics)
        parts = ", ".join(each.name for each in metrics)
        requires = dict.fromkeys(what for each in metrics for what in each.requires)
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "name", f"{self.name}({parts})")
        object.__setattr__(self, "needs_texts", any(each.needs_texts for each in metrics))
        object.__setattr__(self, "requires", tuple(requires))

    @property
    def _instances(self) -> tuple[Metric, ...]:
        return cast("tuple[Metric, ...]", self.metrics)  # __post_init__ replaced names by metrics

    def _scores(self, answers: MetricInput) -> NDArray[np.float64]:
        """(k, n) scores between 0 and 1."""
        scores = []
        for each in self._instances:
            values = each.checked_values(answers)
            _check_scores(values, each.name)
            scores.append(values)
        return np.stack(scores)


@final
@dataclass(frozen=True)
class HarmonicMean(_CombinedMetric):
    """The harmonic mean of each answer's scores under several metrics, averaged over the answers.

    An answer that scores 0 under one metric scores 0. The result is therefore never above that of
    `HarmonicMeanOfMeans`, which takes the harmonic mean of the metrics' averages.

    Attributes:
        metrics: At least two metrics, or their names, with scores between 0 and 1, for which higher is better.

    Raises:
        ArgumentError: If there are fewer than two metrics, one is not a metric, or lower is better for one.

    Example:
        >>> both = HarmonicMean(("token-f1", "exact-match"))
        >>> print(both.evaluate(["The heart.", "a rare fever"], ["heart", "fever"]))
        harmonic-mean(token-f1, exact-match) 0.5000 (95% interval 0.0000 to 1.0000)
    """

    name: ClassVar[str] = "harmonic-mean"

    metrics: tuple[Metric | str, ...]

    def values(self, answers: MetricInput) -> NDArray[np.float64]:
        """The harmonic mean of each answer's scores.

        Raises:
            MetricError: If a score is not between 0 and 1.
        """
        return harmonic_mean(*self._scores(answers))


@final
@dataclass(frozen=True)
class HarmonicMeanOfMeans(_CombinedMetric):
    """The harmonic mean of several metrics' averages over all answers.

    It is not an average of one score per answer: `values` of the result are the (k, n) scores under the k metrics.
    For the interval, answers are resampled with all their scores.

    Attributes:
        metrics: At least two metrics, or their names, with scores between 0 and 1, for which higher is better.

    Raises:
        ArgumentError: If there are fewer than two metrics, one is not a metric, or lower is better for one.

    Example:
        >>> from rankselect.metrics.squad import ExactMatch
        >>> from rankselect.metrics.squad import TokenF1
        >>> both = HarmonicMeanOfMeans((TokenF1(), ExactMatch()))
        >>> print(both.evaluate(["The heart.", "a rare fever"], ["heart", "fever"]))
        harmonic-mean-of-means(token-f1, exact-match) 0.6250 (95% interval 0.0000 to 1.0000)
    """

    name: ClassVar[str] = "harmonic-mean-of-means"

    metrics: tuple[Metric | str, ...]

    def values(self, answers: MetricInput) -> NDArray[np.float64]:
        """(k, n): the scores of each answer under the k metrics.

        Raises:
            MetricError: If a score is not between 0 and 1.
        """
        return self._scores(answers)

    def aggregate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (..., k, n) scores to (...) harmonic means of the k averages."""
        averages = [each.aggregate(values[..., part, :]) for part, each in enumerate(self._instances)]
        return harmonic_mean(*averages)


def harmonic_mean(*scores: ArrayLike) -> NDArray[np.float64]:
    r"""The harmonic mean of k scores, or of k arrays of scores element by element.

    It is :math:`k / (1/s_1 + \dots + 1/s_k)`: never above the arithmetic mean, and low if any score is low.

    Args:
        scores: Numbers or arrays of the same shape, at least 0.

    Returns:
        An array of that shape; 0 where a score is 0.

    Raises:
        ArgumentError: If no score is given, or one is negative or not finite.

    Example:
        >>> harmonic_mean([0.5, 1.0], [0.25, 0.0]).round(4).tolist()
        [0.3333, 0.0]
    """
    if not scores:
        raise ArgumentError("at least one score", "none", "Pass each score as an argument.")
    stacked = np.stack([np.asarray(score, dtype=np.float64) for score in scores])
    if not (np.isfinite(stacked) & (stacked >= 0)).all():
        raise ArgumentError("finite scores of at least 0", repr(scores)[:80], "Others have no harmonic mean.")
    least = stacked.min(axis=0)
    divided = np.where(least > 0, stacked, 1.0)
    # The least score is divided by the others: its own reciprocal might overflow.
    return np.asarray(least * len(stacked) / (np.where(least > 0, least, 1.0) / divided).sum(axis=0))


def _check_metrics(metrics: tuple[Metric, ...]) -> None:
    for each in metrics:
        if not each.higher_is_better:
            remedy = "Leave it out: a harmonic mean needs scores for which higher is better."
            raise ArgumentError("metrics for which higher is better", each.name, remedy)


def _check_scores(values: NDArray[np.float64], name: str) -> None:
    if values.ndim != 1:
        remedy = "Leave it out: it does not return one score for each answer."
        raise MetricError("one score for each answer", f"scores of shape {values.shape} from {name}", remedy)
    outside = np.flatnonzero((values < 0) | (values > 1))
    if outside.size:
        got = f"{values[outside[0]]:g} from {name} for the answer at index {outside[0]}"
        raise MetricError("scores between 0 and 1", got, "Leave this metric out, or scale its scores.")
