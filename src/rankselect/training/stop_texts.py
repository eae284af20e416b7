"""Ends the generation of a row at the first of some texts, each row by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["StopTexts", "before_stop"]


class StopTexts(StoppingCriteria):
    """A stopping criterion of `generate` that is fulfilled for a row when a stop text stands in what it has written.

    Args:
        tokenizer: Decodes what was written.
        stops: The texts.
        n_prompt: The tokens of the (padded) prompts, which are not looked at.

    Attributes:
        n_written: For each row that met a stop text, the tokens it had written by then, by index.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str], n_prompt: int) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._n_prompt = n_prompt
        # every token stands for a byte at least, and the text may begin inside one
        self._tail = max((len(stop.encode()) for stop in stops), default=0) + 1
        self.n_written: dict[int, int] = {}

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor, **kwargs: Any) -> torch.BoolTensor:  # noqa: ARG002
        """For each row of `input_ids`, whether it is finished."""
        written = input_ids[:, self._n_prompt :]
        if self._stops:
            tails = self._tokenizer.batch_decode(written[:, -self._tail :], skip_special_tokens=False)
            for row, tail in enumerate(tails):
                if row not in self.n_written and any(stop in tail for stop in self._stops):
                    self.n_written[row] = written.shape[1]
        finished = [row in self.n_written for row in range(len(input_ids))]
        return torch.tensor(finished, dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stop texts.

    Example:
        >>> before_stop("A disease. ### Instruction: And", ["### Instruction"])
        'A disease. '
    """
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
