"""The base class of metrics: subclasses score each answer; the base class adds checks, the mean and its interval."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from rankselect.errors import MetricError, first_sentence
from rankselect.metrics.bootstrap import average_of, bootstrap_interval, check_bootstrap
from rankselect.metrics.metric_input import checked_input
from rankselect.registry import instance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from rankselect.metrics.metric_input import GeneratedText, MetricInput

__all__ = ["Metric", "MetricResult", "metric"]


@final
@dataclass(frozen=True, eq=False)
class MetricResult:
    """The scores of one set of answers.

    Attributes:
        metric: The metric's name.
        values: (n,) one score for each answer, read-only; (k, n) if the metric combines the averages of k scores.
        mean: The metric's average of them (for most metrics the arithmetic mean).
        low: The lower end of the bootstrap confidence interval of `mean`.
        high: Its upper end.
        confidence: The interval's level, for example 0.95.
        higher_is_better: Whether a higher score is a better one.
        scored_by: The metric object; its repr documents how the scores were computed.

    Example:
        >>> from rankselect.metrics.squad import TokenF1
        >>> result = TokenF1().evaluate(["The heart.", "a rare fever"], ["heart", "fever"])
        >>> result.mean, result.values.tolist(), result.scored_by
        (0.8333333333333333, [1.0, 0.6666666666666666], TokenF1())
    """

    metric: str
    values: NDArray[np.float64] = field(repr=False)
    mean: float
    low: float
    high: float
    confidence: float
    higher_is_better: bool
    scored_by: Metric

    def __str__(self) -> str:
        return f"{self.metric} {self.mean:.4f} ({100 * self.confidence:g}% interval {self.low:.4f} to {self.high:.4f})"


class Metric(ABC):
    """The base class of all metrics.

    Subclass it, set `name`, and implement `values`. The base class checks the input, averages the scores, and computes
    the confidence interval. A metric should be a frozen dataclass: its repr is recorded with its scores, and metrics
    that compare equal are the same metric.

    Attributes:
        name: The name under which scores are recorded.
        higher_is_better: Whether a higher score is a better one.
        needs_texts: Whether `values` needs predictions and references; if False, both may be left out.
        requires: Further inputs that `values` needs: ``"questions"``, ``"losses"``.

    Example:
        >>> class Length(Metric):
        ...     name = "length"
        ...
        ...     def values(self, answers):
        ...         return [len(text) for text in answers.predictions]
        >>> print(Length().evaluate(["a", "abc"], ["b", "c"]))
        length 2.0000 (95% interval 1.0000 to 3.0000)
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    needs_texts: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def values(self, answers: MetricInput) -> ArrayLike:
        """Return one finite score for each answer, in their order: (n,).

        A metric whose average is not an average of single scores may return k scores for each answer, (k, n), and
        combine them in `aggregate`.
        """

    def aggregate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the average over the last axis: (..., n) to (...). The default is the arithmetic mean.

        The interval averages many resamples in one call, so the leading axes must be kept.
        """
        return np.asarray(values.mean(axis=-1))

    @final
    def evaluate(
        self,
        predictions: Iterable[str | GeneratedText] | None = None,
        references: Iterable[str] | None = None,
        *,
        questions: Iterable[str] | None = None,
        losses: Iterable[float] | None = None,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> MetricResult:
        """Score answers.

        The interval estimates how much the average would vary with other questions of the same kind. It is computed
        from the given scores only: for a single answer or equal scores its width is 0, and for few answers it is too
        narrow.

        Args:
            predictions: n generated answers, as `generate_answers` returns them or as texts; an empty string is an
                answer. Predictions and references may be left out for a metric that does not need them.
            references: n reference answers.
            questions: n questions, for metrics that need them.
            losses: n mean losses of the references under the model, in nats per token, for metrics that need them.
            confidence: The level of the interval, between 0 and 1.
            n_resamples: The number of bootstrap resamples of the answers, for a percentile interval.
            seed: The seed of the resampling.

        Raises:
            MetricError: If there are no answers, lengths differ, something is not text, a loss is not finite, or an
                input that the metric requires is missing.
            ArgumentError: If `confidence`, `n_resamples` or `seed` is out of range.
        """
        check_bootstrap(confidence, n_resamples, seed)
        given = {"predictions": predictions, "references": references, "questions": questions, "losses": losses}
        for what in (*(("predictions", "references") if self.needs_texts else ()), *self.requires):
            if given[what] is None:
                raise MetricError(f"{what} for the metric {self.name}", "none", f"Pass {what}=, one for each answer.")
        answers = checked_input(predictions, references, questions, losses)
        values = self.checked_values(answers)
        mean = float(average_of(self.aggregate, values, ()))
        low, high = bootstrap_interval(
            self.aggregate, values, confidence=confidence, n_resamples=n_resamples, seed=seed
        )
        return MetricResult(self.name, values, mean, low, high, confidence, self.higher_is_better, self)

    @final
    def checked_values(self, answers: MetricInput) -> NDArray[np.float64]:
        """Return the scores of `values` as a checked, read-only array; for metrics that combine others.

        Raises:
            MetricError: If `values` does not return one finite score for each answer.
        """
        n = len(answers)
        remedy = "This is an error in the metric: check its values()."
        returned = self.values(answers)
        try:
            values = np.array(returned, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise MetricError(f"{n} scores from the metric {self.name}", first_sentence(error), remedy) from error
        if values.ndim not in {1, 2} or values.shape[-1] != n:
            raise MetricError(f"{n} scores from the metric {self.name}", f"shape {values.shape}", remedy)
        finite = np.isfinite(values)
        if not finite.all():
            index = int(np.argmin(finite.reshape(-1, n).all(axis=0)))
            got = f"{int((~finite).sum())} that are not, first for the answer at index {index}"
            raise MetricError(f"finite scores from the metric {self.name}", got, remedy)
        values.setflags(write=False)
        return values


def metric(given: Metric | str) -> Metric:
    """Return a metric, given as an object or as its name with arguments after a colon.

    Raises:
        UnknownNameError: If no metric of this name is installed.
        ArgumentError: If it is neither a metric nor a name, or the metric does not take the arguments.

    Example:
        >>> metric("token-f1").name, metric("token-f1") == metric(metric("token-f1"))
        ('token-f1', True)
    """
    found: Metric = instance("metric", given, Metric)
    return found
