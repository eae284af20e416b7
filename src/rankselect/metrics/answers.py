"""What a metric scores, checked once for all metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from rankselect.errors import MetricError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Answers", "checked_answers"]


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
