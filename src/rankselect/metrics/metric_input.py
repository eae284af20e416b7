"""The input of metrics: texts and losses, checked once, with one precise error for bad input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, final

from rankselect.errors import MetricError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["GeneratedText", "MetricInput", "checked_input", "checked_predictions", "checked_texts"]


class GeneratedText(Protocol):
    """An object with a `text`, such as `GeneratedAnswer`: metrics score its text."""

    @property
    def text(self) -> str:
        """The text."""


@final
@dataclass(frozen=True)
class MetricInput:
    """The input of a metric: generated answers with their references, questions and losses.

    Its length is the number of answers.

    Attributes:
        predictions: The generated answers; empty only for a metric that does not need them.
        references: The reference answer to each question; empty only for such a metric.
        questions: The questions; empty if none were given.
        losses: The model's mean loss on each reference, in nats per token; empty if none were given.

    Example:
        >>> answers = MetricInput(("a rare fever",), ("a fever",))
        >>> answers.questions, len(answers)
        ((), 1)
    """

    predictions: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    losses: tuple[float, ...] = ()

    def __len__(self) -> int:
        return max(len(given) for given in (self.predictions, self.references, self.questions, self.losses))


def checked_input(
    predictions: Iterable[str | GeneratedText] | None = None,
    references: Iterable[str] | None = None,
    questions: Iterable[str] | None = None,
    losses: Iterable[float] | None = None,
) -> MetricInput:
    """Check the input of a metric.

    Raises:
        MetricError: If there are no answers, lengths differ, something is not text, or a loss is not finite.

    Example:
        >>> checked_input(["a fever", None], ["a fever", "a rash"])
        Traceback (most recent call last):
            ...
        rankselect.errors.MetricError: expected text in predictions, got NoneType at index 1. Leave it out or give text.
    """
    given: dict[str, tuple[Any, ...]] = {}
    if predictions is not None:
        given["predictions"] = checked_predictions(predictions)
    for name, texts in (("references", references), ("questions", questions)):
        if texts is not None:
            given[name] = checked_texts(texts, name)
    if losses is not None:
        given["losses"] = _finite(losses)
    first = next(iter(given), "predictions")
    one, n = {"losses": "loss"}.get(first, first.removesuffix("s")), len(given.get(first, ()))
    if n == 0:
        raise MetricError(f"at least one {one}", "none", "Generate answers first.")
    for name, values in given.items():
        if len(values) != n:
            raise MetricError(f"{n} {name}, one for each {one}", str(len(values)), "Give both in the same order.")
    return MetricInput(**given)


def checked_predictions(predictions: Iterable[str | GeneratedText], name: str = "predictions") -> tuple[str, ...]:
    """Return the texts of predictions; each prediction may be a text or an object with a `text`.

    Raises:
        MetricError: If `predictions` is not a sequence of these.

    Example:
        >>> from rankselect.training.generation import GeneratedAnswer
        >>> checked_predictions(["A fever.", GeneratedAnswer("A rash.", 0.2, 3, "end")])
        ('A fever.', 'A rash.')
    """
    if isinstance(predictions, str):
        return checked_texts(predictions, name)  # raises an error
    return checked_texts([_text_of(each) for each in _listed(predictions, name)], name)


def checked_texts(texts: Iterable[str], name: str) -> tuple[str, ...]:
    """Return the texts as a tuple.

    Raises:
        MetricError: If `texts` is not a sequence of texts.

    Example:
        >>> checked_texts("a fever", "references")
        Traceback (most recent call last):
            ...
        rankselect.errors.MetricError: expected a sequence of texts as references, got one string. Put it into a list.
    """
    if isinstance(texts, str):
        raise MetricError(f"a sequence of texts as {name}", "one string", "Put it into a list.")
    found = _listed(texts, name)
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise MetricError(
                f"text in {name}", f"{type(text).__name__} at index {index}", "Leave it out or give text."
            )
    return found


def _listed(texts: Iterable[Any], name: str) -> tuple[Any, ...]:
    try:
        return tuple(texts)
    except TypeError:
        got = type(texts).__name__
        raise MetricError(f"a sequence of texts as {name}", got, "Give a list of texts.") from None


def _text_of(prediction: Any) -> Any:
    """Return the text of a prediction. A question-answer row may have a text too, but it is not a generated answer."""
    text = getattr(prediction, "text", None)
    return text if isinstance(text, str) and not hasattr(prediction, "question") else prediction


def _finite(losses: Iterable[float]) -> tuple[float, ...]:
    try:
        found = tuple(float(loss) for loss in losses)
    except (TypeError, ValueError):
        raise MetricError("losses that are numbers", "something else", "Give one number for each answer.") from None
    for index, loss in enumerate(found):
        if not math.isfinite(loss):
            raise MetricError("finite losses", f"{loss} at index {index}", "Check the model on that answer.")
    return found
