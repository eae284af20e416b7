"""The datasets of a trainer: question-answer rows are encoded, tokens are passed through."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from rankselect.data.encoding import AnswerCollator, encode_rows
from rankselect.data.overlap import warn_of_overlap
from rankselect.data.rows import digest_of, rows_of
from rankselect.data.sources import is_frame
from rankselect.errors import ArgumentError
from rankselect.models.suitability import filler_token, require_causal

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from rankselect.data.prompts import PromptTemplate, QuestionAnswer

__all__ = ["TrainingData", "training_data"]


@final
@dataclass(frozen=True)
class TrainingData:
    """Datasets as a trainer takes them.

    Attributes:
        train: The training data.
        evaluation: The evaluation data, or None.
        collator: The function that builds batches, or None for the trainer's own.
        rows: The training rows, to measure the model on; empty if there are only tokens.
        digest: SHA-256 of the training rows; None if there are only tokens.
    """

    train: Any
    evaluation: Any
    collator: AnswerCollator | None
    rows: tuple[QuestionAnswer, ...]
    digest: str | None


def training_data(
    train: Any,
    evaluation: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    model: nn.Module,
    template: PromptTemplate,
    max_length: int,
    loss_on: Literal["answer", "all"],
    collated: bool = False,
) -> TrainingData:
    """Encode question-answer rows. Tokens are not changed.

    Args:
        train: Rows, or any source of rows that `load_rows` takes; or any dataset of what the model takes.
        evaluation: Likewise, or several by name, or None.
        tokenizer: For the rows.
        model: The model that will read them; `max_length` must not exceed its positions.
        template: How a row becomes a text.
        max_length: Tokens in a row.
        loss_on: ``"answer"`` or ``"all"``.
        collated: Whether the caller has a collator; it gets all data that are not question-answer rows.

    Raises:
        ArgumentError: If there are rows and no tokenizer.
        DataError: If there are no rows and no inputs that the model takes, or the rows cannot be trained on.
        ModelError: If there are rows and the model is not causal, or lacks embeddings for their tokens.

    Warns:
        RankSelectWarning: If evaluation questions are in the training rows too, or rows are cut.

    Example:
        >>> from rankselect.testing import tiny_model, tiny_tokenizer
        >>> from rankselect.data.prompts import PromptTemplate
        >>> from rankselect.data.prompts import QuestionAnswer
        >>> rows = [QuestionAnswer("What is a fever?", "Heat.")]
        >>> how = {"model": tiny_model(), "template": PromptTemplate(), "max_length": 64, "loss_on": "answer"}
        >>> training_data(rows, None, tiny_tokenizer(), **how).rows
        (QuestionAnswer(question='What is a fever?', answer='Heat.'),)
    """
    takes = {"input_ids", *inspect.signature(model.forward).parameters}

    def encoded(dataset: Any, rows: Sequence[QuestionAnswer] | None) -> Any:
        if rows is None:
            return dataset
        if tokenizer is None:
            raise ArgumentError("a tokenizer for question-answer rows", "none", "Pass processing_class=tokenizer.")
        return encode_rows(rows, tokenizer, template=template, max_length=max_length, loss_on=loss_on, model=model)

    by_name = evaluation if isinstance(evaluation, Mapping) else {"": evaluation}  # Trainer takes several, by name
    rows = _rows(train, takes, template, collated=collated)
    held_out = {name: _rows(dataset, takes, template, collated=collated) for name, dataset in by_name.items()}
    has_rows = any(each is not None for each in (rows, *held_out.values()))
    if has_rows:
        require_causal(model)
    for each in held_out.values():
        if rows is not None and each is not None:
            warn_of_overlap(rows, each)
    encoded_train = encoded(train, rows)
    evaluations = {name: encoded(dataset, held_out[name]) for name, dataset in by_name.items()}
    return TrainingData(
        encoded_train,
        evaluations if isinstance(evaluation, Mapping) else evaluations[""],
        AnswerCollator(filler_token(model, tokenizer)) if has_rows else None,
        tuple(rows or ()),
        digest_of(rows or ()),
    )


def _rows(
    dataset: Any, takes: Collection[str], template: PromptTemplate, *, collated: bool
) -> Sequence[QuestionAnswer] | None:
    """The rows of a dataset; None if the trainer takes it unchanged: tokens, or input of the caller's collator."""
    is_list = isinstance(dataset, (list, tuple))
    if is_list and all(hasattr(row, "question") for row in dataset):
        return rows_of(dataset, template)
    if collated or dataset is None:
        return None
    if is_list:
        columns = dataset[0] if isinstance(dataset[0], Mapping) else getattr(dataset[0], "__dict__", ())
    else:
        columns = getattr(dataset, "column_names", None)
        if columns is None and _is_read_in_training(dataset):
            return None
    return None if any(column in takes for column in columns or ()) else rows_of(dataset, template)


def _is_read_in_training(dataset: Any) -> bool:
    """Whether it is a dataset of the caller's own, which is not read before training."""
    if isinstance(dataset, (str, os.PathLike, Mapping, type)) or is_frame(dataset):
        return False
    return hasattr(dataset, "__getitem__") or hasattr(dataset, "__iter__")
