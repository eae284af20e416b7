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


class _OfSeveral(Metric):
    """What both harmonic means share: metrics that can be averaged so, and their scores."""

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
        return cast("tuple[Metric, ...]", self.metrics)  # names were replaced at the beginning

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
class HarmonicMean(_OfSeveral):
    """For each answer the harmonic mean of its scores under several metrics; the mean is that of the answers.

    An answer that scores 0 under one metric scores 0. It is therefore a harder mean than `HarmonicMeanOfMeans`, which
    takes the harmonic mean of the metrics' averages, and never above it.

    Attributes:
        metrics: At least two metrics, or their names, with scores between 0 and 1, for which higher is better.

    Raises:
        ArgumentError: If there are fewer than two, or one is no metric, or one for which lower is better.

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
class HarmonicMeanOfMeans(_OfSeveral):
    """The harmonic mean of several metrics' averages over all answers.

    It is no average of one score for each answer: `values` of the result are the (k, n) scores under the k metrics.
    For the interval, answers are drawn with all their scores.

    Attributes:
        metrics: At least two metrics, or their names, with scores between 0 and 1, for which higher is better.

    Raises:
        ArgumentError: If there are fewer than two, or one is no metric, or one for which lower is better.

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
        """From (..., k, n) scores to (...) harmonic means of the k averages."""
        averages = [each.aggregate(values[..., part, :]) for part, each in enumerate(self._instances)]
        return harmonic_mean(*averages)


def harmonic_mean(*scores: ArrayLike) -> NDArray[np.float64]:
    r"""The harmonic mean of k scores, or of k arrays of scores element by element.

    It is :math:`k / (1/s_1 + \dots + 1/s_k)`: never above the arithmetic mean, and low as soon as one score is.

    Args:
        scores: Each a number or an array, all of one shape, at least 0.

    Returns:
        An array of that shape; 0 where a score is 0.

    Raises:
        ArgumentError: If no score is given, or one is negative or not finite.

    Example:
        >>> harmonic_mean([0.5, 1.0], [0.25, 0.0]).round(4).tolist()
        [0.3333, 0.0]
    """
    if not scores:
        raise ArgumentError("at least one score", "none", "Give the scores one after the other.")
    stacked = np.stack([np.asarray(score, dtype=np.float64) for score in scores])
    if not (np.isfinite(stacked) & (stacked >= 0)).all():
        raise ArgumentError("finite scores of at least 0", repr(scores)[:80], "It has no harmonic mean.")
    least = stacked.min(axis=0)
    divided = np.where(least > 0, stacked, 1.0)
    # The least score is divided by the others: its own reciprocal might overflow.
    return np.asarray(least * len(stacked) / (np.where(least > 0, least, 1.0) / divided).sum(axis=0))


def _check_metrics(metrics: tuple[Metric, ...]) -> None:
    for each in metrics:
        if not each.higher_is_better:
            remedy = "Leave it out: a harmonic mean is for scores of which higher is better."
            raise ArgumentError("metrics for which higher is better", each.name, remedy)


def _check_scores(values: NDArray[np.float64], name: str) -> None:
    if values.ndim != 1:
        remedy = "Leave it out: it has no score for each answer."
        raise MetricError("one score for each answer", f"scores of shape {values.shape} from {name}", remedy)
    outside = np.flatnonzero((values < 0) | (values > 1))
    if outside.size:
        got = f"{values[outside[0]]:g} from {name} for the answer at index {outside[0]}"
        raise MetricError("scores between 0 and 1", got, "Leave this metric out, or scale its scores.")
