"""Compare two models on the same questions: is the difference more than random variation?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from rankselect.errors import MetricError
from rankselect.metrics.bootstrap import bootstrap_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rankselect.metrics._base import MetricResult

__all__ = ["PairedDifference", "paired_difference"]


@final
@dataclass(frozen=True)
class PairedDifference:
    """The difference between the average scores of two models.

    Attributes:
        mean: The first model's average minus the second's.
        low: The lower end of the bootstrap confidence interval of `mean`.
        high: Its upper end.
        n: The number of questions.
        confidence: The interval's level.
        metric: The metric's name.
        higher_is_better: Whether a higher score is a better one.

    Example:
        >>> print(PairedDifference(0.031, 0.012, 0.05, 200, 0.95, "token-f1", higher_is_better=True))
        token-f1 +0.0310 (95% interval +0.0120 to +0.0500, 200 questions): the first is better
    """

    mean: float
    low: float
    high: float
    n: int
    confidence: float
    metric: str
    higher_is_better: bool

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 0 and there are enough questions to show a difference.

        Even without a difference, all n questions favour the same model with probability 2^(1 - n). So at a confidence
        of 0.95 fewer than 6 questions never show a difference.
        """
        return not self.low <= 0 <= self.high and 2.0 ** (1 - self.n) <= 1 - self.confidence

    def __str__(self) -> str:
        better = "first" if (self.mean > 0) == self.higher_is_better else "second"
        verdict = f"the {better} is better" if self.shown else "no difference shown"
        interval = f"{100 * self.confidence:g}% interval {self.low:+.4f} to {self.high:+.4f}, {self.n} questions"
        return f"{self.metric} {self.mean:+.4f} ({interval}): {verdict}"


def paired_difference(
    a: MetricResult, b: MetricResult, *, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Compute the difference between two models' averages, with an interval that resamples questions jointly.

    Questions differ in difficulty, and both models answer the same ones. Resampling them jointly removes this
    variation, so the interval is narrower than the two models' separate intervals suggest, which may well overlap.

    Args:
        a: The first model's scores.
        b: The second model's scores on the same questions, in the same order.
        confidence: The level of the interval, between 0 and 1.
        n_resamples: The number of bootstrap resamples of the questions.
        seed: The seed of the resampling.

    Raises:
        MetricError: If the two were scored by different metrics, or on different numbers of answers.
        ArgumentError: If `confidence`, `n_resamples` or `seed` is out of range.

    References:
        Koehn, "Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004,
        https://aclanthology.org/W04-3250/.

    Example:
        >>> from rankselect.metrics.squad import TokenF1
        >>> references = ["the heart", "a fever", "the lung"] * 10
        >>> a = TokenF1().evaluate(["heart", "some fever", "a lung"] * 10, references)
        >>> b = TokenF1().evaluate(["heart", "some rash", "a lung"] * 10, references)
        >>> print(paired_difference(a, b))
        token-f1 +0.2222 (95% interval +0.1111 to +0.3333, 30 questions): the first is better
        >>> print(paired_difference(a, a))
        token-f1 +0.0000 (95% interval +0.0000 to +0.0000, 30 questions): no difference shown
    """
    metric = a.scored_by
    if metric != b.scored_by:
        remedy = "Score both with the same metric, or with two equal frozen dataclasses."
        raise MetricError("two results of the same metric", f"{metric!r} and {b.scored_by!r}", remedy)
    if a.values.shape != b.values.shape:
        got = f"{a.values.shape[-1]} and {b.values.shape[-1]}"
        raise MetricError("the same number of answers from both models", got, "Score both on the same questions.")

    def difference(values: NDArray[np.float64]) -> NDArray[np.float64]:
        averages = metric.aggregate(values)
        return np.asarray(averages[..., 0] - averages[..., 1])

    both = np.stack([a.values, b.values])
    low, high = bootstrap_interval(difference, both, confidence=confidence, n_resamples=n_resamples, seed=seed)
    return PairedDifference(a.mean - b.mean, low, high, a.values.shape[-1], confidence, a.metric, a.higher_is_better)
