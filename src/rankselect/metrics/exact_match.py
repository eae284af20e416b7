"""Exact match: whether the answer is the reference, word for word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from rankselect.metrics._base import Metric
from rankselect.metrics.token_f1 import normalized_tokens

if TYPE_CHECKING:
    from rankselect.metrics.metric_input import MetricInput

__all__ = ["ExactMatch", "exact_match"]


@final
@dataclass(frozen=True)
class ExactMatch(Metric):
    """1 where an answer has the same words in the same order as its reference, 0 elsewhere.

    Words are those of `normalized_tokens`, so case, ASCII punctuation and the articles a, an, the do not count.

    References:
        Rajpurkar, Jia, Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD", arXiv:1806.03822.

    Example:
        >>> ExactMatch().evaluate(["The heart.", "a rare fever"], ["heart", "fever"]).values.tolist()
        [1.0, 0.0]
    """

    name: ClassVar[str] = "exact-match"

    def values(self, answers: MetricInput) -> list[float]:
        """1 or 0 for each answer."""
        return [exact_match(*pair) for pair in zip(answers.predictions, answers.references, strict=True)]


def exact_match(prediction: str, reference: str) -> float:
    """1 if two texts have the same words in the same order, otherwise 0.

    Example:
        >>> exact_match("The heart!", "heart"), exact_match("heart and lung", "lung and heart")
        (1.0, 0.0)
    """
    return float(normalized_tokens(prediction) == normalized_tokens(reference))
