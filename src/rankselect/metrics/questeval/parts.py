"""The parts of QuestEval that can be replaced: who selects answers, asks, answers, and compares two answers."""

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

_SMALL = 1 << 20  # bytes; larger files are identified by size and time of change


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


def weights_identity(name: str, revision: str = "main") -> str:
    """What identifies the weights of a model, and the library that runs them; no weights are loaded.

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
    """The error about a model that cannot be loaded."""
    return ModelError(
        f"the model {name}",
        f"none that can be loaded ({first_sentence(error)})",
        "Download it while online, or give a folder that holds it. The metric questeval-cloze needs no model; its "
        "scores are on another scale.",
    )


def _contents(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.iterdir() if each.is_file()):
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} ".encode())
        digest.update(file.read_bytes() if status.st_size < _SMALL else str(status.st_mtime_ns).encode())
    return digest.hexdigest()
