"""The replaceable parts of QuestEval, which select answers, generate questions, answer them, and compare answers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rankselect.errors import ArgumentError, ModelError, first_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AnswerSelector",
    "AnswerSimilarity",
    "FoundAnswer",
    "Part",
    "QuestionAnswerer",
    "QuestionGenerator",
    "missing_model",
    "weights_identity",
]

_SMALL = 1 << 20  # bytes; larger files are identified by size and modification time


class FoundAnswer(NamedTuple):
    """An answer to a question from a text.

    Attributes:
        text: The answer; it may be empty.
        answerability: The confidence that the text answers the question at all, from 0 to 1.

    Example:
        >>> FoundAnswer("Paris", 0.98).text
        'Paris'
    """

    text: str
    answerability: float


class Part:
    """The base class of all parts. A part should be a frozen dataclass, so that its repr describes it."""

    def identity(self) -> str:
        """Return everything that the results depend on, as text: it is part of the key of cached results.

        The default is the repr. A part that reads a file or a model must add something that identifies it.

        Raises:
            ArgumentError: If the part has no repr of its own that could identify it.
        """
        if type(self).__repr__ is object.__repr__:
            raise ArgumentError(
                "a part with an identity",
                f"{type(self).__name__}, whose repr is an address in memory",
                "Make it a frozen dataclass, or define identity().",
            )
        return repr(self)


class AnswerSelector(Part, ABC):
    """Selects the answers in a text for which questions are generated.

    Example:
        >>> class Numbers(AnswerSelector):
        ...     def select(self, texts):
        ...         return [[word for word in text.split() if word.isdigit()] for text in texts]
        >>> Numbers().select(["Take 20 mg 2 times a day."])
        [['20', '2']]
    """

    @abstractmethod
    def select(self, texts: Sequence[str]) -> Sequence[Sequence[str]]:
        """Return, for each text, the answers to generate questions for. An answer returned twice counts twice."""


class QuestionGenerator(Part, ABC):
    """Generates a question for an answer.

    Example:
        >>> class Definition(QuestionGenerator):
        ...     def generate(self, pairs):
        ...         return [f"What is {answer}?" for answer, text in pairs]
        >>> Definition().generate([("insulin", "Type 1 diabetes needs insulin.")])
        ['What is insulin?']
    """

    @abstractmethod
    def generate(self, pairs: Sequence[tuple[str, str]]) -> Sequence[str]:
        """Return, for each (answer, text), a question to which the text gives that answer."""


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
        """Return, for each (question, text), the answer from the text."""


class AnswerSimilarity(Part, ABC):
    """Compares answers, for the score named ``"bertscore"``.

    Example:
        >>> class SameText(AnswerSimilarity):
        ...     def compare(self, pairs):
        ...         return [float(found == expected) for found, expected in pairs]
        >>> SameText().compare([("Paris", "Paris"), ("Rome", "Paris")])
        [1.0, 0.0]
    """

    @abstractmethod
    def compare(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Return, for each (found answer, expected answer), their similarity; the score clips it to [0, 1]."""


def weights_identity(name: str, revision: str = "main") -> str:
    """Return text that identifies the weights of a model and the library that runs them; no weights are loaded.

    Args:
        name: A hub name or a folder.
        revision: The branch, tag or commit on the hub.

    Raises:
        ModelError: If there is no such model.
    """
    import transformers

    if Path(name).is_dir():
        return f"{_contents(Path(name))} transformers {transformers.__version__}"
    try:
        config = transformers.AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise missing_model(name, error) from error
    return f"{name} {revision} {getattr(config, '_commit_hash', None)} transformers {transformers.__version__}"


def missing_model(name: str, error: BaseException) -> ModelError:
    """Return the error for a model that cannot be loaded."""
    return ModelError(
        f"the model {name}",
        f"none that can be loaded ({first_sentence(error)})",
        "Download it while online, or give a folder that contains it. The metric questeval-cloze needs no model; its "
        "scores are on a different scale.",
    )


def _contents(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.iterdir() if each.is_file()):
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} ".encode())
        digest.update(file.read_bytes() if status.st_size < _SMALL else str(status.st_mtime_ns).encode())
    return digest.hexdigest()
