"""Prompts and answers as token ids, and prompts that are cut without losing the template's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from torch import nn

from rankselect.errors import DataError
from rankselect.models.suitability import tokenizer_of
from rankselect.models.trunk import longest_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.data.prompts import PromptTemplate

__all__ = ["PromptTokens", "context_length", "end_token_id", "row_length"]

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
class PromptTokens:
    """Turns questions and answers into token ids, separately.

    Because the two are tokenised apart, no token reaches over the border between prompt and answer, and generation
    starts from the very tokens that training ended the prompt with.

    Attributes:
        tokenizer: A transformers tokenizer, or a processor with one.
        template: The form of the prompt.
    """

    tokenizer: Any
    template: PromptTemplate

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokenizer", tokenizer_of(self.tokenizer))

    def prompts(self, questions: Sequence[str]) -> list[list[int]]:
        """The ids of the prompts, with the special tokens that the tokenizer starts a text with."""
        end = self.tokenizer.eos_token_id
        rows = self._ids([self.template.prompt(question) for question in questions], special=True)
        return [ids[:-1] if ids[-1:] == [end] else ids for ids in rows]  # some tokenizers also end the text

    def answers(self, answers: Sequence[str]) -> list[list[int]]:
        """The ids of the answers as they continue a prompt, without an end token.

        An answer is tokenised after the prompt's last character, whose ids are then removed: alone, a
        SentencePiece vocabulary would put a second space before it.
        """
        template = self.template
        texts = [f"{template.gap}{answer}{template.ending}" for answer in answers]
        anchor = template.prompt("")[-1:]
        [head] = self._ids([anchor], special=False)
        behind = self._ids([anchor + text for text in texts], special=False)
        alone = self._ids(texts, special=False)
        n = len(head)
        return [ids[n:] if ids[:n] == head else other for ids, other in zip(behind, alone, strict=True)]

    def cut_prompt(self, question: str, budget: int) -> list[int]:
        """The prompt of as much of the question's beginning as fits.

        Args:
            question: The question.
            budget: The greatest number of tokens; at least those of the template's own words.
        """
        fits, too_long = 0, len(question) + 1
        best = self.prompts([""])[0]
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            [ids] = self.prompts([question[:middle].rstrip()])
            if len(ids) <= budget:
                fits, best = middle, ids
            else:
                too_long = middle
        return best

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

    def _ids(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        # verbose=False: the tokenizer need not warn of long texts, which are cut here
        encoded = self.tokenizer(list(texts), add_special_tokens=special, verbose=False)
        return [list(ids) for ids in encoded["input_ids"]]


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
