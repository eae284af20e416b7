"""The parts of QuestEval that can be replaced: who selects answers, asks, answers, and compares two answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from rankselect.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AnswerSelector", "AnswerSimilarity", "FoundAnswer", "Part", "QuestionAnswerer", "QuestionGenerator"]


class FoundAnswer(NamedTuple):
    """What a text answers to a question.

    Attributes:
        text: The answer, in words; it may be empty.
        answerability: How sure it is that the text answers the question at all, from 0 to 1.

    Example:
        >>> FoundAnswer("Paris", 0.98).text
        'Paris'
    """

    text: str
    answerability: float


class Part:
    """The base of every part. A part should be a frozen dataclass: its repr then says what it does."""

    def identity(self) -> str:
        """Everything that its results depend on, as text: cached results are found again under it.

        The repr, unless a part says otherwise. A part that reads a file or a model must add what identifies that.

        Raises:
            ArgumentError: If the part has no repr of its own, and so nothing that identifies it.
        """
        if type(self).__repr__ is object.__repr__:
            raise ArgumentError(
                "a part with an identity",
                f"{type(self).__name__}, whose repr is an address in memory",
                "Make it a frozen dataclass, or define identity().",
            )
        return repr(self)


class AnswerSelector(Part, ABC):
    """Chooses what is asked about in a text.

    Example:
        >>> class Numbers(AnswerSelector):
        ...     def select(self, texts):
        ...         return [[word for word in text.split() if word.isdigit()] for text in texts]
        >>> Numbers().select(["Take 20 mg 2 times a day."])
        [['20', '2']]
    """

    @abstractmethod
    def select(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        """For each text, the answers that questions are made for. An answer given twice counts twice."""


class QuestionGenerator(Part, ABC):
    """Asks for an answer.

    Example:
        >>> class Definition(QuestionGenerator):
        ...     def generate(self, pairs):
        ...         return [f"What is {answer}?" for answer, text in pairs]
        >>> Definition().generate([("insulin", "Type 1 diabetes needs insulin.")])
        ['What is insulin?']
    """

    @abstractmethod
    def generate(self, pairs: Sequence[tuple[str, str]]) -> Sequence[str]:
        """For each (answer, text), a question that the text answers with that answer."""


class QuestionAnswerer(Part, ABC):
    """Answers questions from a text.

    Example:
        >>> class FirstWord(QuestionAnswerer):
        ...     def answer(self, pairs):
        ...         return [FoundAnswer(text.split()[0], 1.0) for question, text in pairs]
        >>> FirstWord().answer([("Who moved?", "Curie moved to Paris.")])
        [FoundAnswer(text='Curie', answerability=1.0)]
    """

    @abstractmethod
    def answer(self, pairs: Sequence[tuple[str, str]]) -> Sequence[FoundAnswer]:
        """For each (question, text), what the text answers."""


class AnswerSimilarity(Part, ABC):
    """Compares answers; the score named ``"bertscore"``.

    Example:
        >>> class SameText(AnswerSimilarity):
        ...     def compare(self, pairs):
        ...         return [float(found == wanted) for found, wanted in pairs]
        >>> SameText().compare([("Paris", "Paris"), ("Rome", "Paris")])
        [1.0, 0.0]
    """

    @abstractmethod
    def compare(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """For each (found answer, wanted answer), their similarity; it is clipped to [0, 1] in the score."""
