"""The texts at which a generated answer ends: found while it is written, and cut off afterwards, by one rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria

from rankselect.data.template_words import stop_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["StopTexts", "before_stop"]

_CONTEXT = 4  # tokens before a stop text, to see what it follows


class StopTexts(StoppingCriteria):
    """A stopping criterion for `generate`: a row is finished when its generated text contains a stop text.

    Args:
        tokenizer: The tokenizer that decodes the generated tokens.
        stops: The stop texts.
        n_prompt: The number of tokens in the (padded) prompts, which are not searched.
        anywhere: Those of the stop texts that count anywhere, as for `before_stop`.

    Attributes:
        n_written: By row index, the number of tokens generated up to and including the stop text.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str], n_prompt: int, anywhere: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._pattern = stop_pattern(stops, anywhere)
        self._n_prompt = n_prompt
        # every token is at least one byte, and a stop text may begin inside a token
        self._tail = max((len(stop.encode()) for stop in stops), default=0) + _CONTEXT
        self.n_written: dict[int, int] = {}

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor, **kwargs: Any) -> torch.BoolTensor:
        """Return whether each row of `input_ids` is finished."""
        written = input_ids[:, self._n_prompt :]
        if self._stops:
            is_cut = written.shape[1] > self._tail  # then it is not known what the first character follows
            tails = self._tokenizer.batch_decode(written[:, -self._tail :], skip_special_tokens=False)
            for row, tail in enumerate(tails):
                if row not in self.n_written and self._pattern.search(tail, int(is_cut)):
                    self.n_written[row] = written.shape[1]
        finished = [row in self.n_written for row in range(len(input_ids))]
        return torch.tensor(finished, dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]


def before_stop(text: str, stops: Sequence[str], anywhere: Sequence[str] = ()) -> str:
    """Return the text before the first stop text.

    Args:
        text: A generated text.
        stops: Stop texts; they count at the beginning of a line or after white space.
        anywhere: Those of them that count anywhere, also in the middle of a word.

    Example:
        >>> before_stop("A disease. ### Instruction: And", ["### Instruction"])
        'A disease. '
        >>> before_stop("A low IQ: 70 or less.", ["Q:"])
        'A low IQ: 70 or less.'
        >>> before_stop("A disease.</answer>", ["</answer>"], anywhere=["</answer>"])
        'A disease.'
    """
    found = stop_pattern(stops, anywhere).search(text)
    return text if found is None else text[: found.start()]
