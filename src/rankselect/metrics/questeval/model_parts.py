"""The model-based parts of QuestEval: T5 generates questions, T5 answers them, BERTScore compares answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError, MetricError
from rankselect.metrics.bert_score import f1_scores, load_scorer, needs_prefix_space, require_bert_score
from rankselect.metrics.questeval.parts import (
    AnswerSimilarity,
    FoundAnswer,
    QuestionAnswerer,
    QuestionGenerator,
    missing_model,
    weights_identity,
)
from rankselect.metrics.questeval.t5 import T5

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BertSimilarity", "T5QuestionAnswerer", "T5QuestionGenerator"]


@final
@dataclass(frozen=True)
class T5QuestionGenerator(QuestionGenerator):
    """Generates questions with a T5 model.

    Args:
        model: Its hub name, or a folder with its weights and ``spiece.model``. It is loaded at first use.
        revision: The branch, tag or commit on the hub.
        prefix: The beginning of the input; if empty, it is left out with its separator.
        max_new_tokens: The maximum number of tokens in a question.
        batch_size: Questions per batch.
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
    """Answers questions with a T5 model that returns "unanswerable" if a text has no answer.

    The answerability is 1 minus the probability that the first token is the first token of "unanswerable".

    Args:
        model: Its hub name, or a folder with its weights and ``spiece.model``. It is loaded at first use.
        revision: The branch, tag or commit on the hub.
        unanswerable_id: The id of the first token of "unanswerable"; None to look it up in the vocabulary (73 in T5's
            own).
        max_new_tokens: The maximum number of tokens in an answer.
        batch_size: Questions per batch.
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


@final
@dataclass(frozen=True)
class BertSimilarity(AnswerSimilarity):
    """BERTScore F1 of two answers, without idf and without rescaling.

    Args:
        model: The hub name or folder of the encoder. It is loaded at first use.
        layer: The layer whose hidden states are compared.
        batch_size: Answers per batch.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda:1"``, …

    Raises:
        MissingExtraError: At first use, if bert-score is not installed.
        ModelError: At first use, if the model cannot be loaded.

    References:
        Zhang, Kishore, Wu, Weinberger, Artzi, "BERTScore: Evaluating Text Generation with BERT", arXiv:1904.09675.

    Example:
        >>> BertSimilarity().layer
        9
    """

    model: str = "bert-base-multilingual-cased"
    layer: int = 9
    batch_size: int = 64
    device: str = "auto"

    def identity(self) -> str:
        """The weights, the layer, the version of bert-score, and how the first word is tokenized."""
        version, prefix = require_bert_score().__version__, " add_prefix_space" if self._prefix_space else ""
        return f"BertSimilarity {weights_identity(self.model)} {self.layer} bert-score {version}{prefix}"

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the F1 of each (found answer, expected answer); 0 if one of them is blank."""
        return f1_scores(self._scorer, pairs)

    @cached_property
    def _scorer(self) -> Any:
        device = None if self.device == "auto" else self.device
        try:
            return load_scorer(self.model, self.layer, batch_size=self.batch_size, device=device)
        except MetricError as error:
            raise missing_model(self.model, error.__cause__ or error) from error

    @cached_property
    def _prefix_space(self) -> bool:
        from transformers import AutoTokenizer

        try:
            return needs_prefix_space(AutoTokenizer.from_pretrained(self.model))
        except (OSError, ValueError) as error:
            raise missing_model(self.model, error) from error


def _check_positive(max_new_tokens: int, batch_size: int) -> None:
    if max_new_tokens < 1 or batch_size < 1:
        raise ArgumentError(
            "max_new_tokens and batch_size of at least 1", f"{max_new_tokens} and {batch_size}", "Use the defaults."
        )
