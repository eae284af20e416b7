"""Question-answer rows as token ids with labels, cut to length, and in batches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from torch.utils.data import Dataset

from rankselect.data.chat_tokens import prompt_tokens
from rankselect.data.prompt_tokens import context_length, end_token_id
from rankselect.data.prompts import template_of
from rankselect.data.rows import rows_of
from rankselect.data.template_words import warn_of_template_words
from rankselect.errors import ArgumentError, DataError, RankSelectWarning
from rankselect.models.suitability import require_causal, require_embedded, require_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import nn

    from rankselect.data.prompt_tokens import RowTokens
    from rankselect.data.prompts import PromptTemplate, QuestionAnswer

__all__ = ["IGNORED", "AnswerCollator", "EncodedRows", "encode_rows"]

IGNORED = -100
"""The label of a token that carries no loss, as PyTorch and transformers define it."""


@final
class EncodedRows(Dataset[dict[str, list[int]]]):
    """Rows of token ids with labels, in the order of the questions and answers that they come from.

    Attributes:
        lengths: The tokens of each row.
        max_length: No row is longer.
        longest: The tokens of the longest row before anything was cut.
        n_cut_questions: Rows whose question was cut at the end.
        n_cut_answers: Rows whose answer was cut at the end, so that the end-of-text token is missing.
        n_loss_tokens: Tokens that carry loss, over all rows.

    Example:
        >>> from rankselect.testing import tiny_tokenizer
        >>> from rankselect.data.prompts import QuestionAnswer
        >>> rows = encode_rows([QuestionAnswer("What is acne?", "A disease")], tiny_tokenizer())
        >>> len(rows), rows.n_loss_tokens, rows.n_cut_answers
        (1, 3, 0)
    """

    def __init__(
        self,
        rows: Sequence[dict[str, list[int]]],
        *,
        max_length: int,
        longest: int,
        n_cut_questions: int,
        n_cut_answers: int,
    ) -> None:
        self._rows = tuple(rows)
        self.lengths = tuple(len(row["input_ids"]) for row in rows)
        self.max_length = max_length
        self.longest = longest
        self.n_cut_questions = n_cut_questions
        self.n_cut_answers = n_cut_answers
        # the first token of a row is never predicted, so its label does not matter
        self.n_loss_tokens = sum(label != IGNORED for row in rows for label in row["labels"][1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self._rows[index]

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        return iter(self._rows)


@final
@dataclass(frozen=True)
class AnswerCollator:
    """Builds a batch of rows, padded on the right to the longest of them.

    Attributes:
        pad_token_id: Fills up ``input_ids``; it is masked, so any token of the vocabulary will do.

    Example:
        >>> rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [5, 8], "labels": [-100, 8]}]
        >>> AnswerCollator(pad_token_id=0)(rows)["labels"].tolist()
        [[-100, 6, 7], [-100, 8, -100]]
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """``input_ids``, ``attention_mask`` and ``labels``, each (rows, longest) of int64."""
        masks = [{"attention_mask": [1] * len(row["input_ids"])} for row in rows]
        return {
            "input_ids": _padded([row["input_ids"] for row in rows], self.pad_token_id),
            "attention_mask": _padded([mask["attention_mask"] for mask in masks], 0),
            "labels": _padded([row["labels"] for row in rows], IGNORED),
        }


def encode_rows(
    rows: Iterable[QuestionAnswer | Mapping[str, Any]],
    tokenizer: Any,
    *,
    template: PromptTemplate | None = None,
    max_length: int = 512,
    loss_on: Literal["answer", "all"] = "answer",
    long_answers: Literal["cut", "error"] = "cut",
    model: nn.Module | None = None,
) -> EncodedRows:
    """Tokenise rows as prompt + answer + end-of-text; under a chat template, as that template says.

    A row that is too long first loses the end of its question, of which at least `max_length` // 4 tokens are kept,
    and only then the end of its answer, and with it the end-of-text token: a model must not learn to stop in the
    middle of a sentence. The template's own words always stay. A conversation loses its oldest turns first.

    Control tokens in questions and answers are tokenised as text.

    Args:
        rows: Rows as `load_rows` returns them, or mappings with question and answer.
        tokenizer: A transformers tokenizer with an end-of-text token, or a processor with one.
        template: The form of the prompt; None for the default `PromptTemplate`.
        max_length: The greatest number of tokens of a row.
        loss_on: ``"answer"`` learns the answer and the end-of-text token (of a conversation, all answers with the end
            of their turns), ``"all"`` the prompt as well.
        long_answers: ``"cut"`` cuts answers that are too long and warns, ``"error"`` refuses them.
        model: The model that will read the rows, to check that it is causal and can read them. None: no check.

    Raises:
        DataError: If there are no rows, or something else than rows; if an answer gives no tokens, or is too long under
            ``"error"``; if the template's own words fill `max_length`, or the tokenizer has no end-of-text token.
        ModelError: If the model is not causal, or has no embedding for a token.
        ArgumentError: If `max_length` is more than the model or its tokenizer allows, or another argument is out of
            range.

    Warns:
        RankSelectWarning: If rows were cut: how many questions and answers, and the longest row. If answers contain a
            stop text or other words of the template: how many, and the first row.

    Example:
        >>> from rankselect.training.small_phi import small_phi
        >>> from rankselect.data.prompts import QuestionAnswer
        >>> _, tokenizer = small_phi(steps=0, progress=False)
        >>> row = encode_rows([QuestionAnswer("What is acne?", "A disease.")], tokenizer)[0]
        >>> tokenizer.decode(row["input_ids"])
        '### Instruction: What is acne? ### Assistant: A disease.<|endoftext|>'
        >>> tokenizer.decode([label for label in row["labels"] if label != -100])
        ' A disease.<|endoftext|>'
    """
    _check_choice("loss_on", loss_on, ("answer", "all"))
    _check_choice("long_answers", long_answers, ("cut", "error"))
    template = template_of(template)
    tokenizer = require_tokenizer(tokenizer)
    rows = rows_of(rows, template)
    if not rows:
        raise DataError("at least one question with its answer", "none", "Load rows with load_rows.")
    _check_length(max_length, context_length(model, tokenizer))
    if model is not None:
        require_causal(model)
    encode = prompt_tokens(tokenizer, template)
    end_token_id(tokenizer)
    frame = encode.require_frame(max_length - 1, f"max_length {max_length} less one for the answer", "Raise max_length")
    warn_of_template_words(rows, template)
    tokens = encode.rows(rows)
    require_embedded(model, tokenizer, (row.ids for row in tokens))
    longest = max(len(row.ids) for row in tokens)
    encoded, n_cut_questions, n_cut_answers = [], 0, 0
    for index, row in enumerate(tokens):
        if row.n_answer == 1:
            raise DataError("answers of at least one token", f"none (row {index})", "Repair or drop the row.")
        kept = row
        room = min(max(max_length - row.n_answer, frame + max_length // 4), max_length - 1)
        if row.n_prompt + row.n_answer > max_length and row.n_prompt > room:
            kept = encode.cut_row(rows[index], row, room)
            n_cut_questions += 1
        if kept.n_prompt + kept.n_answer > max_length:
            _refuse_long_answer(index, kept.n_answer, max_length - kept.n_prompt, long_answers)
            n_cut_answers += 1
        encoded.append({"input_ids": kept.ids[:max_length], "labels": _labels(kept, loss_on)[:max_length]})
    if n_cut_questions or n_cut_answers:
        _warn_of_cuts(len(rows), n_cut_questions, n_cut_answers, longest, max_length)
    return EncodedRows(
        encoded,
        max_length=max_length,
        longest=longest,
        n_cut_questions=n_cut_questions,
        n_cut_answers=n_cut_answers,
    )


def _check_choice(name: str, value: str, known: tuple[str, str]) -> None:
    if value not in known:
        raise ArgumentError(f"{known[0]!r} or {known[1]!r} for {name}", repr(value), "Choose one of the two.")


def _check_length(max_length: int, limit: int | None) -> None:
    if max_length < 1:
        raise ArgumentError("max_length of at least 1", repr(max_length), "For example 512.")
    if limit is not None and max_length > limit:
        raise ArgumentError(
            f"max_length of at most {limit}, the most that the model reads", repr(max_length), "Lower it."
        )


def _refuse_long_answer(index: int, length: int, room: int, long_answers: str) -> None:
    if long_answers == "error":
        raise DataError(
            f"answers that fit (row {index}: {room} tokens after its prompt)",
            f"one of {length} tokens",
            'Raise max_length, or cut long answers with long_answers="cut".',
        )


def _labels(row: RowTokens, loss_on: str) -> list[int]:
    if loss_on == "all":
        return list(row.ids)
    return [token if is_learned else IGNORED for token, is_learned in zip(row.ids, row.learned, strict=True)]


def _warn_of_cuts(n: int, n_questions: int, n_answers: int, longest: int, max_length: int) -> None:
    warnings.warn(
        f"{n_questions} questions and {n_answers} answers of {n} rows were cut at the end: the longest row has "
        f"{longest} tokens, max_length is {max_length}.",
        RankSelectWarning,
        stacklevel=3,
    )


def _padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """(rows, longest) of int64, filled up on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], dtype=torch.long)
