"""How many tokens a row may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankselect.training.prompt_tokens import context_length

if TYPE_CHECKING:
    from torch import nn

__all__ = ["row_length"]

_USUAL = 512


def row_length(model: nn.Module, tokenizer: Any, wanted: int | None) -> int:
    """The most tokens in a row: what is wanted, or else 512 and no more than the model reads.

    Args:
        model: The model.
        tokenizer: Its tokenizer, or None.
        wanted: What was asked for, or None.

    Example:
        >>> from rankselect.testing import tiny_model, tiny_tokenizer
        >>> row_length(tiny_model(), tiny_tokenizer(), None)
        128
    """
    if wanted is not None:
        return wanted
    longest = context_length(model, tokenizer)
    return _USUAL if longest is None else min(_USUAL, longest)
