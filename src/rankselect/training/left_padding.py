"""Whether padding on the left changes what a model generates."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from rankselect.errors import RankSelectWarning
from rankselect.models.layers import unwrapped
from rankselect.models.trunk import input_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

__all__ = ["safe_batch_size"]

_PROMPT, _PADDING, _TOKENS = 16, 12, 3  # tokens of a prompt, of the padding before it, and of the answer to it
_RECURRENT = re.compile("Mamba|Conv1d|SSM|Recurrent|Rwkv|Lightning|Linear_?Attention|GatedDelta|LSTM|Retention|Hyena")
_LARGEST_EFFECT = 0.1  # of padding on a logit, in standard deviations of the logits: more than rounding in 16 bits


def safe_batch_size(
    model: nn.Module, prompts: Sequence[Sequence[int]], settings: GenerationConfig, batch_size: int
) -> int:
    """The batch size, or 1 for a model that does not ignore padding, such as one with linear attention.

    A short prompt is answered alone and behind padding. Plain attention masks the padding; a recurrent state may take
    it in, some only when the first token is followed by others. Models of attention alone are not tried.

    Args:
        model: The model, in evaluation mode.
        prompts: The token ids of the prompts.
        settings: How answers are generated.
        batch_size: The requested number of prompts in a batch.

    Warns:
        RankSelectWarning: If the model does not ignore padding.
    """
    lengths = [len(prompt) for prompt in prompts]
    if batch_size == 1 or len(set(lengths)) == 1 or not any(map(_may_keep_state, model.modules())):
        return batch_size
    prompt = list(prompts[lengths.index(min(lengths))])[-_PROMPT:]
    if _same(*(_first_logits(model, prompt, padding, settings) for padding in (0, _PADDING))):
        return batch_size
    warnings.warn(
        f"A {type(unwrapped(model)).__name__} does not ignore padding: its answers would change with the batch. They "
        "are generated one by one.",
        RankSelectWarning,
        stacklevel=3,
    )
    return 1


def _may_keep_state(module: nn.Module) -> bool:
    """Whether a module may be something else than attention, which masks padding, and layers that see one token."""
    return _RECURRENT.search(type(module).__name__) is not None


def _same(alone: torch.Tensor, padded: torch.Tensor) -> bool:
    """Whether logits differ by no more than rounding, as long as they choose the same tokens."""
    for one, other in zip(alone, padded, strict=True):
        if float((one - other).abs().max()) > _LARGEST_EFFECT * float(one.std()):
            return False
        if one.argmax() != other.argmax():  # a tie that rounding decides: the texts differ from here on
            break
    return True


def _first_logits(model: Any, prompt: list[int], padding: int, settings: GenerationConfig) -> torch.Tensor:
    """The logits of a few greedy tokens after a prompt, (_TOKENS, n_vocabulary)."""
    device = input_device(model)
    first = GenerationConfig(
        max_new_tokens=_TOKENS,
        min_new_tokens=_TOKENS,
        eos_token_id=settings.eos_token_id,
        pad_token_id=settings.pad_token_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    with torch.no_grad():
        output = unwrapped(model).generate(  # type: ignore[operator]
            input_ids=torch.tensor([[settings.pad_token_id] * padding + prompt], device=device),
            attention_mask=torch.tensor([[0] * padding + [1] * len(prompt)], device=device),
            generation_config=first,
        )
    return torch.cat(output.logits).float()
