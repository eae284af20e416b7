"""The parts of QuestEval that are T5 models: one writes questions, one answers them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, final

from rankselect.errors import ArgumentError
from rankselect.metrics.questeval.parts import FoundAnswer, QuestionAnswerer, QuestionGenerator, weights_identity
from rankselect.metrics.questeval.t5 import T5

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["T5QuestionAnswerer", "T5QuestionGenerator"]


@final
@dataclass(frozen=True)
class T5QuestionGenerator(QuestionGenerator):
    """Questions from a T5 model.

    Args:
        model: Its hub name, or a folder with its weights and ``spiece.model``. It is loaded at first use.
        revision: The branch, tag or commit on the hub.
        prefix: What the input begins with; an empty one is left out, with its separator.
        max_new_tokens: A question is cut after so many tokens.
        batch_size: Inputs generated for at once.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda:1"``, …

    Raises:
        ArgumentError: If a number is not positive.
        ModelError: At first use, if the model cannot be loaded.

    Example:
        >>> T5QuestionGenerator(prefix="").text_for("Paris", "Curie moved to Paris.")
        'Paris </s> Curie moved to Paris.'
    """

    model: str = "ThomasNLG/t5-qg_squad1-en"
    revision: str = "main"
    prefix: str = "sv1"
    max_new_tokens: int = 19
    batch_size: int = 36
    device: str = "auto"

    def __post_init__(self) -> None:
        _check_positive(self.max_new_tokens, self.batch_size)

    def identity(self) -> str:
        """The weights and the settings; batch size and device do not matter."""
        return f"T5QuestionGenerator {self._weights} {self.prefix!r} {self.max_new_tokens}"

    def generate(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """A question for each (answer, text)."""
        inputs = [self.text_for(*pair) for pair in pairs]
        return self._t5.texts(inputs, batch_size=self.batch_size, max_new_tokens=self.max_new_tokens)

    def text_for(self, answer: str, text: str) -> str:
        """The model's input for an answer in a text."""
        return " </s> ".join([self.prefix, answer, text] if self.prefix else [answer, text])

    @cached_property
    def _t5(self) -> T5:
        return T5.load(self.model, self.revision, self.device)

    @cached_property
    def _weights(self) -> str:
        return weights_identity(self.model, self.revision)


@final
@dataclass(frozen=True)
class T5QuestionAnswerer(QuestionAnswerer):
    """Answers from a T5 model that says "unanswerable" where a text has no answer.

    The answerability is 1 minus the probability that the first token is the one with which "unanswerable" begins.

    Args:
        model: Its hub name, or a folder with its weights and ``spiece.model``. It is loaded at first use.
        revision: The branch, tag or commit on the hub.
        unanswerable_id: The id with which the answer "unanswerable" begins; None to look it up in the vocabulary
            (73 in T5's own).
        max_new_tokens: An answer is cut after so many tokens.
        batch_size: Questions answered at once.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda:1"``, …

    Raises:
        ArgumentError: If a number is not positive.
        ModelError: At first use, if the model cannot be loaded.

    Example:
        >>> T5QuestionAnswerer("models/t5-qa").model
        'models/t5-qa'
    """

    model: str = "ThomasNLG/t5-qa_squad2neg-en"
    revision: str = "main"
    unanswerable_id: int | None = None
    max_new_tokens: int = 19
    batch_size: int = 48
    device: str = "auto"

    def __post_init__(self) -> None:
        _check_positive(self.max_new_tokens, self.batch_size)

    def identity(self) -> str:
        """The weights and the settings; batch size and device do not matter."""
        return f"T5QuestionAnswerer {self._weights} {self.unanswerable_id} {self.max_new_tokens}"

    def answer(self, pairs: Sequence[tuple[str, str]]) -> list[FoundAnswer]:
        """The answer to each (question, text)."""
        inputs = [f"{question} </s> {text}" for question, text in pairs]
        first_id = self._t5.vocabulary.unanswerable() if self.unanswerable_id is None else self.unanswerable_id
        found = self._t5.texts_unless(inputs, first_id, batch_size=self.batch_size, max_new_tokens=self.max_new_tokens)
        return [FoundAnswer(*each) for each in found]

    @cached_property
    def _t5(self) -> T5:
        return T5.load(self.model, self.revision, self.device)

    @cached_property
    def _weights(self) -> str:
        return weights_identity(self.model, self.revision)


def _check_positive(max_new_tokens: int, batch_size: int) -> None:
    if max_new_tokens < 1 or batch_size < 1:
        raise ArgumentError(
            "max_new_tokens and batch_size of at least 1", f"{max_new_tokens} and {batch_size}", "Use the defaults."
        )
