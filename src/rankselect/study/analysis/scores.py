"""The scores of the arms for each seed and question, by metric and condition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from rankselect.errors import UnknownNameError
from rankselect.metrics._base import Metric
from rankselect.study.analysis.crossed import CrossedEstimate, crossed_estimate
from rankselect.study.recorded import metric_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from rankselect.metrics.metric_input import MetricInput
    from rankselect.study.run import RunResult

__all__ = ["TEST_LOSS", "ArmScores", "arm_scores", "metric_of", "metrics_of"]


@final
@dataclass(frozen=True)
class _ReferenceLoss(Metric):
    """The losses of the test answers; their average is over answers, not over tokens."""

    name: ClassVar[str] = "test_loss"
    higher_is_better: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ("losses",)

    def values(self, answers: MetricInput) -> Sequence[float]:
        """Return the losses unchanged."""
        return answers.losses


TEST_LOSS: Metric = _ReferenceLoss()
"""The mean loss of a test answer in nats per token, as a metric."""


@final
@dataclass(frozen=True, eq=False)
class ArmScores:
    """One arm's scores under one metric.

    Attributes:
        arm: The arm's name.
        metric: The metric.
        by_seed: ``{seed: (n,) scores}``, or (k, n) if the metric combines averages of k scores.
        trained: False for the base model, whose scores do not depend on the seed.

    Example:
        >>> from rankselect.metrics.squad import TokenF1
        >>> ArmScores("rank-8", TokenF1(), {0: np.array([0.0, 1.0]), 1: np.array([1.0, 1.0])}).estimate().mean
        0.75
    """

    arm: str
    metric: Metric
    by_seed: dict[int, NDArray[np.float64]]
    trained: bool = True

    def estimate(self) -> CrossedEstimate:
        """The metric's average over questions, averaged over seeds."""
        seeds = list(self.by_seed)
        return crossed_estimate(self.pseudo_values(seeds), self.mean(seeds))

    def mean(self, seeds: Iterable[int]) -> float:
        """The mean over seeds of the metric's average over questions."""
        return float(np.mean([self.metric.aggregate(self.by_seed[seed]) for seed in seeds]))

    def pseudo_values(self, seeds: Iterable[int]) -> NDArray[np.float64]:
        """Each question's contribution to the average, (n_seeds, n); for an arithmetic mean, its score.

        Other averages use the jackknife: n times the average minus (n - 1) times the average without the question.

        References:
            Tukey, "Bias and confidence in not quite large samples", Annals of Mathematical Statistics 29 (1958).
        """
        return np.stack([self._pseudo[seed] for seed in seeds])

    @cached_property
    def _pseudo(self) -> dict[int, NDArray[np.float64]]:
        return {seed: _pseudo_values(self.metric, values) for seed, values in self.by_seed.items()}


def _pseudo_values(metric: Metric, values: NDArray[np.float64]) -> NDArray[np.float64]:
    n = values.shape[-1]
    if type(metric).aggregate is Metric.aggregate or n == 1:
        return np.asarray(values if values.ndim == 1 else values.mean(axis=0))
    without = [metric.aggregate(np.delete(values, index, axis=-1)) for index in range(n)]
    return np.asarray(n * metric.aggregate(values) - (n - 1) * np.array(without))


def metrics_of(given: Iterable[Metric | str]) -> dict[str, Metric]:
    """Return the metrics of a study by name, in order.

    Raises:
        UnknownNameError: If a metric is not installed: it is needed to average its scores and to compare them.

    Example:
        >>> metrics_of(["token-f1", "perplexity"])["perplexity"].higher_is_better
        False
    """
    metrics = [metric_from(each) for each in given]
    return {metric.name: metric for metric in metrics}


def metric_of(given: Iterable[Metric | str], name: str) -> Metric:
    """Return a metric of the study by name, or the test loss.

    Raises:
        UnknownNameError: If the study has no metric with this name.
    """
    known = {**metrics_of(given), TEST_LOSS.name: TEST_LOSS}
    if name not in known:
        raise UnknownNameError("metric of this study", name, known)
    return known[name]


def arm_scores(runs: Iterable[RunResult], arm: str, metric: Metric, condition: str) -> ArmScores:
    """Collect the scores of an arm's final runs; without scores under this condition, `by_seed` is empty."""
    by_seed, trained = {}, False
    for result in runs:
        if result.run.arm != arm:
            continue
        scores = result.test_losses if metric is TEST_LOSS else result.scores.get(condition, {}).get(metric.name)
        if scores:
            by_seed[result.run.seed] = np.array(scores, dtype=np.float64)
            trained = trained or result.training is not None
    return ArmScores(arm, metric, by_seed, trained)
