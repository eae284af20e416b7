"""The plug-in point for metrics: values for each answer; the base class adds checks, the mean and its interval."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from rankselect.errors import ArgumentError, MetricError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Answers", "Metric", "MetricResult"]


@final
@dataclass(frozen=True)
class Answers:
    """What a metric scores: generated answers, and what is known of each.

    Attributes:
        predictions: The generated answers.
        references: The right answer to each question.
        questions: The questions, or nothing if none were given.
        losses: The model's mean loss on each reference, in nats per token, or nothing if none were given.
    """

    predictions: tuple[str, ...]
    references: tuple[str, ...]
    questions: tuple[str, ...] = ()
    losses: tuple[float, ...] = ()


@final
@dataclass(frozen=True)
class MetricResult:
    """The scores of one set of answers.

    Attributes:
        metric: The metric's name.
        values: (n,) one score for each answer.
        mean: The metric's average of them (for most metrics the arithmetic mean).
        low: The lower end of the bootstrap confidence interval of `mean`.
        high: Its upper end.
        confidence: The interval's level, for example 0.95.
        higher_is_better: Whether a higher score is a better one.
    """

    metric: str
    values: NDArray[np.float64]
    mean: float
    low: float
    high: float
    confidence: float
    higher_is_better: bool

    def __str__(self) -> str:
        return f"{self.metric} {self.mean:.4f} ({self.confidence:.0%} interval {self.low:.4f} to {self.high:.4f})"


class Metric(ABC):
    """The base of every metric.

    Subclass it, set `name`, and write `values`. Checking the input, averaging, and the confidence interval are done
    here. A metric should be a frozen dataclass: its repr is recorded with its scores.

    Attributes:
        name: The name under which scores are recorded.
        higher_is_better: Whether a higher score is a better one.
        requires: What `values` needs beyond predictions and references: ``"questions"``, ``"losses"``.

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
    requires: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def values(self, answers: Answers) -> ArrayLike:
        """One finite score for each answer, in their order."""

    def aggregate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The average over the last axis: (..., n) to (...). The arithmetic mean unless a metric says otherwise."""
        return np.asarray(values.mean(axis=-1))

    @final
    def evaluate(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        *,
        questions: Sequence[str] | None = None,
        losses: Sequence[float] | None = None,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> MetricResult:
        """Score answers.

        Args:
            predictions: n generated answers; an empty string is an answer.
            references: n right answers.
            questions: n questions, for metrics that need them.
            losses: n mean losses of the references under the model, in nats per token, for metrics that need them.
            confidence: The level of the interval, between 0 and 1.
            n_resamples: Bootstrap resamples of the answers; the interval is that of percentiles.
            seed: Decides the resamples.

        Raises:
            MetricError: If there are no answers, lengths differ, something is not text, a loss is not finite, or
                what the metric requires is missing.
            ArgumentError: If `confidence` or `n_resamples` is out of range.
        """
        if not 0 < confidence < 1:
            raise ArgumentError("a confidence between 0 and 1", repr(confidence), "For example 0.95.")
        if n_resamples < 1:
            raise ArgumentError("at least 1 resample", repr(n_resamples), "For example 2000.")
        answers = checked_answers(predictions, references, questions, losses)
        for what in self.requires:
            if not getattr(answers, what):
                raise MetricError(f"{what} for the metric {self.name}", "none", f"Pass {what}=, one for each answer.")
        values = self._checked_values(answers)
        low, high = self._interval(values, confidence, n_resamples, seed)
        return MetricResult(
            self.name, values, float(self.aggregate(values)), low, high, confidence, self.higher_is_better
        )

    def _checked_values(self, answers: Answers) -> NDArray[np.float64]:
        values = np.asarray(self.values(answers), dtype=np.float64)
        n = len(answers.predictions)
        if values.shape != (n,) or not np.isfinite(values).all():
            raise MetricError(
                f"{n} finite scores from the metric {self.name}",
                f"an array of shape {values.shape} with {int((~np.isfinite(values)).sum())} that are not finite",
                "This is an error in the metric: check its values().",
            )
        return values

    def _interval(
        self, values: NDArray[np.float64], confidence: float, n_resamples: int, seed: int
    ) -> tuple[float, float]:
        generator = np.random.default_rng(seed)
        draws = [self.aggregate(values[generator.integers(len(values), size=len(values))]) for _ in range(n_resamples)]
        low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)


def checked_answers(
    predictions: Sequence[str],
    references: Sequence[str],
    questions: Sequence[str] | None = None,
    losses: Sequence[float] | None = None,
) -> Answers:
    """What was given, as `Answers`, or one precise error.

    Raises:
        MetricError: If there are no answers, lengths differ, something is not text, or a loss is not finite.
    """
    n = len(_texts(predictions, "predictions"))
    if n == 0:
        raise MetricError("at least one prediction", "none", "Generate answers first.")
    given = {"references": references, "questions": questions, "losses": losses}
    for name, values in given.items():
        if values is not None and len(values) != n:
            raise MetricError(f"{n} {name}, one for each prediction", str(len(values)), "Give both in the same order.")
    for index, loss in enumerate(losses or ()):
        if not np.isfinite(loss):
            raise MetricError("finite losses", f"{loss} at index {index}", "Check the model on that answer.")
    return Answers(
        predictions=_texts(predictions, "predictions"),
        references=_texts(references, "references"),
        questions=_texts(questions or (), "questions"),
        losses=tuple(float(loss) for loss in losses or ()),
    )


def _texts(texts: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise MetricError(f"a sequence of {name}", "one string", "Put it into a list.")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise MetricError(f"text in {name}", f"{type(text).__name__} at index {index}", "Leave such answers out.")
    return tuple(texts)
