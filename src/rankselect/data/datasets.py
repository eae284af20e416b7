"""What a trainer is given to learn from: question-answer rows are encoded, tokens pass through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from rankselect.data.encoding import AnswerCollator, encode_rows
from rankselect.data.overlap import warn_of_overlap
from rankselect.data.prompt_tokens import pad_token_id
from rankselect.errors import ArgumentError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from rankselect.data.prompts import PromptTemplate

__all__ = ["TrainingData", "training_data"]


@final
@dataclass(frozen=True)
class TrainingData:
    """Datasets as a trainer takes them.

    Attributes:
        train: What to train on.
        evaluation: What to evaluate on, or None.
        collator: What makes batches of it, or None for the trainer's own.
        texts: The training rows as texts, to profile the model on; empty if there are only tokens.
    """

    train: Any
    evaluation: Any
    collator: AnswerCollator | None
    texts: tuple[str, ...]


def training_data(
    train: Any,
    evaluation: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    model: nn.Module,
    template: PromptTemplate,
    max_length: int,
    loss_on: Literal["answer", "all"],
) -> TrainingData:
    """Encode question-answer rows; leave everything else as it is.

    Args:
        train: A list of `QuestionAnswer`, or any dataset of tokens.
        evaluation: Likewise, or None.
        tokenizer: For the rows.
        model: What will read them; `max_length` is held against its positions.
        template: How a row becomes a text.
        max_length: Tokens in a row.
        loss_on: ``"answer"`` or ``"all"``.

    Raises:
        ArgumentError: If there are rows and no tokenizer.
        DataError: If the rows cannot be trained on.

    Warns:
        RankSelectWarning: If evaluation questions stand in the training rows too, or rows are cut.

    Example:
        >>> from rankselect.testing import tiny_model, tiny_tokenizer
        >>> from rankselect.data.prompts import PromptTemplate
        >>> from rankselect.data.question_answer import QuestionAnswer
        >>> rows = [QuestionAnswer("What is a fever?", "Heat.")]
        >>> how = {"model": tiny_model(), "template": PromptTemplate(), "max_length": 64, "loss_on": "answer"}
        >>> training_data(rows, None, tiny_tokenizer(), **how).texts
        ('### Instruction: What is a fever? ### Assistant: Heat.',)
    """

    def encoded(rows: Any) -> Any:
        if not _are_rows(rows):
            return rows
        if tokenizer is None:
            raise ArgumentError("a tokenizer for question-answer rows", "none", "Pass processing_class=tokenizer.")
        return encode_rows(rows, tokenizer, template=template, max_length=max_length, loss_on=loss_on, model=model)

    if _are_rows(train) and _are_rows(evaluation):
        warn_of_overlap(train, evaluation)
    datasets = encoded(train), encoded(evaluation)
    texts = tuple(template.text(row.question, row.answer) for row in train) if _are_rows(train) else ()
    has_rows = _are_rows(train) or _are_rows(evaluation)
    return TrainingData(*datasets, AnswerCollator(pad_token_id(tokenizer)) if has_rows else None, texts)


def _are_rows(dataset: Any) -> bool:
    return isinstance(dataset, (list, tuple)) and all(hasattr(row, "question") for row in dataset)
