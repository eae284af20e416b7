"""Prompts and answers as token ids, and prompts that are cut without losing the template's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from torch import nn

from rankselect.data.control_tokens import ControlTokens
from rankselect.errors import DataError
from rankselect.models.suitability import require_tokenizer, tokenizer_of
from rankselect.models.trunk import longest_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rankselect.data.prompts import PromptTemplate

__all__ = [
    "PromptTokens",
    "RowTokens",
    "context_length",
    "end_token_id",
    "longest_beginning",
    "row_length",
    "without_beginning",
]

_NO_LIMIT = 1_000_000  # as in `longest_input`: larger numbers mean "no limit"


def end_token_id(tokenizer: Any) -> int:
    """The id of the end-of-text token, which a model must learn to write after an answer.

    Raises:
        DataError: If the tokenizer has no such token.
    """
    end = tokenizer_of(tokenizer).eos_token_id
    if end is None:
        raise DataError(
            "a tokenizer with an end-of-text token (eos_token)",
            "one without",
            "Set tokenizer.eos_token to the token that ends a text, or no model learns to stop.",
        )
    return int(end)


def context_length(model: nn.Module | None, tokenizer: Any) -> int | None:
    """The maximum input length in tokens, according to the config and the tokenizer; None if they set no limit."""
    longest = longest_input(nn.Module() if model is None else model, tokenizer_of(tokenizer), _NO_LIMIT - 1)
    return longest if longest < _NO_LIMIT - 1 else None


@final
@dataclass(frozen=True)
class RowTokens:
    """A row of question and answer as token ids.

    Attributes:
        ids: The token ids.
        learned: For each token, whether it belongs to an answer (or to the end of one).
        n_prompt: The number of tokens before the last answer.
        n_answer: The number of tokens of the last answer and its end.
    """

    ids: list[int]
    learned: list[bool]
    n_prompt: int
    n_answer: int


class PromptTokens:
    """Turns questions and answers into token ids, separately.

    Because the two are tokenised apart, no token reaches over the border between prompt and answer, and generation
    starts from the very tokens that training ended the prompt with.

    Attributes:
        tokenizer: A transformers tokenizer, or a processor with one.
        template: The form of the prompt.
    """

    def __init__(self, tokenizer: Any, template: PromptTemplate) -> None:
        self.tokenizer = tokenizer = require_tokenizer(tokenizer)
        self.template = template
        self.control = ControlTokens(tokenizer, template.template)
        [with_beginning] = self.control.ids([template.prompt("")], special=True)
        [alone] = self.control.ids([template.prompt("")])
        self._adds_beginning = alone[:1] != with_beginning[:1]  # otherwise the template has its own

    @property
    def ends(self) -> set[int]:
        """The token ids of the template that end an answer."""
        return set()

    def prompts(self, asked: Sequence[Any]) -> list[list[int]]:
        """The ids of the prompts, with the special tokens that the tokenizer starts a text with.

        Args:
            asked: The questions, as texts or as rows.
        """
        texts = [self.template.prompt(self.control.guard(_question(each))) for each in asked]
        return self.control.ids(texts, special=self._adds_beginning)

    def answers(self, answers: Sequence[str]) -> list[list[int]]:
        """The ids of the answers as they continue a prompt, without an end token that the template does not write.

        An answer is tokenised after the prompt's last character, whose ids are then removed: alone, a
        SentencePiece vocabulary would put a second space before it.
        """
        template = self.template
        texts = [f"{template.gap}{self.control.guard(answer)}{template.ending}" for answer in answers]
        anchor = template.prompt("")[-1:]
        [head] = self.control.ids([anchor])
        behind = self.control.ids([anchor + text for text in texts])
        alone = self.control.ids(texts)
        n = len(head)
        return [ids[n:] if ids[:n] == head else other for ids, other in zip(behind, alone, strict=True)]

    def rows(self, rows: Sequence[Any]) -> list[RowTokens]:
        """The ids of rows, each with an end-of-text token: the template's own, or else one that is added."""
        end = end_token_id(self.tokenizer)
        own_end = getattr(self.tokenizer, "eos_token", "") in self.template.ending
        found = []
        answers = self.answers([row.answer for row in rows])
        for prompt, answer in zip(self.prompts(rows), answers, strict=True):
            ids = answer[: answer.index(end) + 1] if own_end and end in answer else [*answer, end]
            found.append(_joined(prompt, ids))
        return found

    def cut_row(self, row: Any, tokens: RowTokens, room: int) -> RowTokens:
        """A row whose prompt is cut to a number of tokens: at the question's end.

        Args:
            row: The row.
            tokens: Its token ids.
            room: The greatest number of tokens of the prompt; at least those of the template's own words.
        """
        return _joined(self.cut_prompt(row, room), tokens.ids[tokens.n_prompt :])

    def cut_prompt(self, asked: Any, budget: int) -> list[int]:
        """The prompt of as much of the question's beginning as fits.

        Args:
            asked: The question, as text or as a row.
            budget: The greatest number of tokens; at least those of the template's own words.
        """
        kept = longest_beginning(_question(asked), lambda question: len(self.prompts([question])[0]), budget)
        return self.prompts([kept])[0]

    def texts(self, rows: Sequence[Any]) -> list[str]:
        """Rows as texts to profile a model on: without a beginning that the tokenizer puts before every text."""
        texts = [self.template.text(row.question, row.answer) for row in rows]
        return [without_beginning(text, self.tokenizer) for text in texts]

    def require_frame(self, room: int, what: str, remedy: str) -> int:
        """The number of tokens of the template's own words.

        Args:
            room: How many tokens a prompt may have.
            what: The name of that limit, for the message.
            remedy: How to get more room, for the message: the beginning of a sentence.

        Raises:
            DataError: If they are more than that.
        """
        frame = len(self.prompts([""])[0])
        if frame > room:
            raise DataError(
                f"room for the template's own {frame} tokens and an answer",
                f"{room} tokens for the prompt ({what})",
                f"{remedy} or shorten the template.",
            )
        return frame

    def room(self, model: nn.Module, max_new_tokens: int) -> int | None:
        """The maximum number of tokens of a prompt before an answer of this length; None if the model has no limit.

        Args:
            model: The model; only its config is read.
            max_new_tokens: The greatest number of tokens of an answer.

        Raises:
            DataError: If not even the template's own words fit.
        """
        context = context_length(model, self.tokenizer)
        if context is None:
            return None
        left = context - max_new_tokens
        self.require_frame(left, f"a context of {context} less max_new_tokens {max_new_tokens}", "Lower max_new_tokens")
        return left


def longest_beginning(question: str, length: Callable[[str], int], room: int) -> str:
    """The longest beginning of a question that fits; empty if none does.

    Args:
        question: The question.
        length: Returns the number of tokens with a question.
        room: The greatest number of tokens.

    Example:
        >>> longest_beginning("What is acne?", len, 7)
        'What is'
    """
    fits, too_long = 0, len(question) + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if length(question[:middle].rstrip()) <= room:
            fits = middle
        else:
            too_long = middle
    return question[:fits].rstrip()


def without_beginning(text: str, tokenizer: Any) -> str:
    """A text without the beginning-of-text token that its template writes and the tokenizer adds anyway."""
    beginning = getattr(tokenizer, "bos_token", None)
    if not beginning or not text.startswith(beginning):
        return text
    [ids] = tokenizer([""])["input_ids"]
    return text.removeprefix(beginning) if tokenizer.bos_token_id in ids else text


def _question(asked: Any) -> str:
    return asked if isinstance(asked, str) else str(asked.question)


def _joined(prompt: list[int], answer: list[int]) -> RowTokens:
    learned = [False] * len(prompt) + [True] * len(answer)
    return RowTokens([*prompt, *answer], learned, len(prompt), len(answer))


_USUAL = 512


def row_length(model: nn.Module, tokenizer: Any, wanted: int | None) -> int:
    """The maximum number of tokens in a row: the requested one, or else 512 or the limit of the model.

    Args:
        model: The model.
        tokenizer: Its tokenizer, or None.
        wanted: The requested length, or None.

    Example:
        >>> from rankselect.testing import tiny_model, tiny_tokenizer
        >>> row_length(tiny_model(), tiny_tokenizer(), None)
        128
    """
    if wanted is not None:
        return wanted
    longest = context_length(model, tokenizer)
    return _USUAL if longest is None else min(_USUAL, longest)
