"""One question with its answer: what a model is fine-tuned on and scored against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["QuestionAnswer"]


@final
@dataclass(frozen=True)
class QuestionAnswer:
    """One question and its answer.

    Attributes:
        question: The question, without any words of a prompt.
        answer: Its right answer.

    Example:
        >>> QuestionAnswer("What is acne?", "A disease of the skin.").answer
        'A disease of the skin.'
    """

    question: str
    answer: str
