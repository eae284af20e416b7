"""The plug-in point for metrics: values for each answer; the base class adds checks, the mean and its interval."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from rankselect.errors import MetricError, first_sentence
from rankselect.metrics.bootstrap import average_of, bootstrap_interval, check_bootstrap
from rankselect.registry import instance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Answers", "Metric", "MetricResult", "checked_answers", "metric"]


@final
@dataclass(frozen=True)
class Answers:
    """What a metric scores: generated answers, and what is known of each.

    Attributes:
        predictions: The generated answers.
        references: The right answer to each question.
        questions: The questions, or nothing if none were given.
        losses: The model's mean loss on each reference, in nats per token, or nothing if none were given.

    Example:
        >>> Answers(("a rare fever",), ("a fever",)).questions
        ()
    """

    predictions: tuple[str, ...]
    references: tuple[str, ...]
    questions: tuple[str, ...] = ()
    losses: tuple[float, ...] = ()


def checked_answers(
    predictions: Iterable[str],
    references: Iterable[str],
    questions: Iterable[str] | None = None,
    losses: Iterable[float] | None = None,
) -> Answers:
    """What was given, as `Answers`, or one precise error.

    Raises:
        MetricError: If there are no answers, lengths differ, something is not text, or a loss is not finite.

    Example:
        >>> checked_answers(["a fever", None], ["a fever", "a rash"])
        Traceback (most recent call last):
            ...
        rankselect.errors.MetricError: expected text in predictions, got NoneType at index 1. Leave such answers out.
    """
    answers = Answers(
        predictions=_texts(predictions, "predictions"),
        references=_texts(references, "references"),
        questions=() if questions is None else _texts(questions, "questions"),
        losses=() if losses is None else _finite(losses),
    )
    n = len(answers.predictions)
    if n == 0:
        raise MetricError("at least one prediction", "none", "Generate answers first.")
    lengths = {"references": references, "questions": questions, "losses": losses}
    for name, given in lengths.items():
        length = len(getattr(answers, name))
        if given is not None and length != n:
            raise MetricError(f"{n} {name}, one for each prediction", str(length), "Give both in the same order.")
    return answers


def _texts(texts: Iterable[str], name: str) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise MetricError(f"a sequence of {name}", "one string", "Put it into a list.")
    try:
        found = tuple(texts)
    except TypeError:
        raise MetricError(f"a sequence of {name}", type(texts).__name__, "Give a list of texts.") from None
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise MetricError(f"text in {name}", f"{type(text).__name__} at index {index}", "Leave such answers out.")
    return found


def _finite(losses: Iterable[float]) -> tuple[float, ...]:
    try:
        found = tuple(float(loss) for loss in losses)
    except (TypeError, ValueError):
        raise MetricError("losses that are numbers", "something else", "Give one number for each answer.") from None
    for index, loss in enumerate(found):
        if not math.isfinite(loss):
            raise MetricError("finite losses", f"{loss} at index {index}", "Check the model on that answer.")
    return found


@final
@dataclass(frozen=True, eq=False)
class MetricResult:
    """The scores of one set of answers.

    Attributes:
        metric: The metric's name.
        values: (n,) one score for each answer, read-only; (k, n) if the metric combines averages of k scores.
        mean: The metric's average of them (for most metrics the arithmetic mean).
        low: The lower end of the bootstrap confidence interval of `mean`.
        high: Its upper end.
        confidence: The interval's level, for example 0.95.
        higher_is_better: Whether a higher score is a better one.
        scored_by: The metric itself: its repr says how the scores were made.

    Example:
        >>> from rankselect.metrics.token_f1 import TokenF1
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
    """The base of every metric.

    Subclass it, set `name`, and write `values`. Checking the input, averaging, and the confidence interval are done
    here. A metric should be a frozen dataclass: its repr is recorded with its scores, and two equal ones are the
    same metric.

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
        """One finite score for each answer, in their order: (n,).

        A metric whose average is not one of scores of single answers may give k scores of each, (k, n), and say in
        `aggregate` what becomes of them.
        """

    def aggregate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The average over the last axis: (..., n) to (...). The arithmetic mean unless a metric says otherwise.

        The interval averages many resamples in one call, so the leading axes must be kept.
        """
        return np.asarray(values.mean(axis=-1))

    @final
    def evaluate(
        self,
        predictions: Iterable[str],
        references: Iterable[str],
        *,
        questions: Iterable[str] | None = None,
        losses: Iterable[float] | None = None,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> MetricResult:
        """Score answers.

        The interval says how far the average would move with other questions of the same kind. It knows only the
        scores it is given: of a single answer, or of equal scores, it has no width, and of few answers it is too
        narrow.

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
            ArgumentError: If `confidence`, `n_resamples` or `seed` is out of range.
        """
        check_bootstrap(confidence, n_resamples, seed)
        answers = checked_answers(predictions, references, questions, losses)
        for what in self.requires:
            if not getattr(answers, what):
                raise MetricError(f"{what} for the metric {self.name}", "none", f"Pass {what}=, one for each answer.")
        values = self.checked_values(answers)
        mean = float(average_of(self.aggregate, values, ()))
        low, high = bootstrap_interval(
            self.aggregate, values, confidence=confidence, n_resamples=n_resamples, seed=seed
        )
        return MetricResult(self.name, values, mean, low, high, confidence, self.higher_is_better, self)

    @final
    def checked_values(self, answers: Answers) -> NDArray[np.float64]:
        """What `values` answers, as a read-only array: for metrics that build on others.

        Raises:
            MetricError: If it is not one finite score for each answer.
        """
        n = len(answers.predictions)
        remedy = "This is an error in the metric: check its values()."
        answered = self.values(answers)
        try:
            values = np.array(answered, dtype=np.float64)
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
    """A metric from itself or from its name, with arguments after a colon.

    Raises:
        UnknownNameError: If no metric of this name is installed.
        ArgumentError: If it is neither a metric nor a name, or the arguments are not those of the metric.

    Example:
        >>> metric("token-f1").name, metric("token-f1") == metric(metric("token-f1"))
        ('token-f1', True)
    """
    made: Metric = instance("metric", given, Metric)
    return made
