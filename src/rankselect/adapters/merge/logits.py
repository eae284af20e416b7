"""The logits of two models that run layer by layer, each layer read from disk when it is needed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import nn

from rankselect.adapters.buffer import own_copy
from rankselect.errors import ArgumentError, ModelError, first_sentence
from rankselect.models.layers import find_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rankselect.adapters.merge.base_model import BaseModel

__all__ = ["LogitDifference", "compare", "logits", "random_tokens", "streaming", "token_sequences"]


@final
@dataclass(frozen=True)
class LogitDifference:
    """How far the logits of a merged model are from those of the unmerged adapter, both in float32.

    Attributes:
        max_abs: The greatest absolute difference.
        relative: The same, divided by the greatest absolute logit of the unmerged adapter.
        same_token: The share of positions at which the likeliest next token is the same.
        n_tokens: Positions compared.

    Example:
        >>> compare([torch.tensor([[2.0, -4.0]])], [torch.tensor([[2.0, -3.0]])])
        LogitDifference(max_abs=1.0, relative=0.25, same_token=1.0, n_tokens=1)
    """

    max_abs: float
    relative: float
    same_token: float
    n_tokens: int

    def __str__(self) -> str:
        return (
            f"at most {self.max_abs:.3g} ({self.relative:.2g} of the greatest logit), same next token at "
            f"{self.same_token:.1%} of {self.n_tokens} positions"
        )


def compare(reference: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> LogitDifference:
    """Compare logits, (positions, vocabulary) for each sequence."""
    difference = max(float((a - b).abs().max()) for a, b in zip(reference, other, strict=True))
    greatest = max(float(a.abs().max()) for a in reference)
    same = torch.cat([a.argmax(-1) == b.argmax(-1) for a, b in zip(reference, other, strict=True)])
    return LogitDifference(difference, difference / greatest, float(same.float().mean()), same.numel())


def random_tokens(vocabulary: int, *, n: int = 4, length: int = 32, seed: int = 0) -> list[list[int]]:
    """The token sequences that are used where no texts are given: the same ones every time.

    Example:
        >>> [len(sequence) for sequence in random_tokens(100, n=2, length=3)]
        [3, 3]
    """
    return np.random.default_rng(seed).integers(0, vocabulary, (n, length)).tolist()  # type: ignore[no-any-return]


def token_sequences(base: BaseModel, texts: Sequence[str] | None, *, trust_remote_code: bool) -> list[list[int]]:
    """The token ids to compare on: of the given texts, else `random_tokens`.

    Raises:
        ArgumentError: If there is no text, or an empty one, or the base has no tokenizer for them.
    """
    if texts is None:
        return random_tokens(base.config.get_text_config().vocab_size)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base.checkpoint.folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ArgumentError(
            "a base with a tokenizer, for check_texts",
            f"{base.name} ({first_sentence(error)})",
            "Leave check_texts out, or save the tokenizer in the folder of the base.",
        ) from error
    longest = getattr(base.config.get_text_config(), "max_position_embeddings", None) or 512
    ids = [tokenizer(text, truncation=True, max_length=min(longest, 512))["input_ids"] for text in texts]
    if not ids or not all(ids):
        raise ArgumentError("texts that are not empty", "an empty one", "Leave check_texts out, or give other texts.")
    return ids


def logits(
    model: nn.Module, read: Callable[[str], torch.Tensor], sequences: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    """Run an empty model whose weights are read when they are needed.

    Args:
        model: A model of transformers, or PEFT's around one, with parameters on the meta device.
        read: Gives a parameter or buffer by its name in `model`.
        sequences: Token ids; each sequence is run by itself, without padding.

    Returns:
        One float32 tensor for each sequence, (positions, vocabulary); the last hidden states of a model without an
        output head.

    Raises:
        ModelError: If the model is not one of texts, or a weight is missing.
    """
    if getattr(model, "main_input_name", "input_ids") != "input_ids":
        raise ModelError("a text model", f"one that reads {model.main_input_name}", "Compare its outputs yourself.")
    outputs = []
    with torch.inference_mode(), streaming(model, read):
        for sequence in sequences:
            inputs: dict[str, Any] = {"input_ids": torch.tensor([list(sequence)]), "return_dict": True}
            config: Any = getattr(model, "config", None)
            if getattr(config, "is_encoder_decoder", False):
                inputs["decoder_input_ids"] = inputs["input_ids"]
            else:
                inputs["use_cache"] = False
            output = model(**inputs)
            found = output.get("logits") if output.get("logits") is not None else output["last_hidden_state"]
            outputs.append(found[0].float())
    return outputs


@contextmanager
def streaming(model: nn.Module, read: Callable[[str], torch.Tensor]) -> Iterator[None]:
    """Let each layer read its weights just before it runs, and forget them afterwards.

    Args:
        model: A model with parameters on the meta device; it is left as it was.
        read: Gives a parameter or buffer by its name in `model`.
    """
    names = {id(module): name for name, module in model.named_modules()}
    units = _units(model)
    handles: list[Any] = []
    empty: dict[int, list[tuple[nn.Module, str, nn.Parameter]]] = {}

    def fill(unit: nn.Module, *_: object) -> None:
        empty[id(unit)] = []
        for module in unit.modules():
            for last, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
                if not parameter.is_meta:
                    continue
                empty[id(unit)].append((module, last, parameter))
                value = read(f"{names[id(module)]}.{last}".lstrip("."))
                weight = nn.Parameter(own_copy(value, torch.float32), requires_grad=False)
                module.register_parameter(last, weight)

    def forget(unit: nn.Module, *_: object) -> None:
        for module, last, parameter in empty.pop(id(unit), []):
            module.register_parameter(last, parameter)

    try:
        for unit in units:
            handles.append(unit.register_forward_pre_hook(fill))
            handles.append(unit.register_forward_hook(forget))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for unit in units:
            forget(unit)


def _units(model: nn.Module) -> list[nn.Module]:
    """The layers, and every module outside them that has parameters of its own."""
    layers = list(find_layers(model).values())
    inside = {id(module) for layer in layers for module in layer.modules()}
    own = {id(module) for module in model.modules() if any(True for _ in module.parameters(recurse=False))}
    outside = [module for module in model.modules() if id(module) in own - inside]
    wrapped = {id(part) for module in outside for part in module.modules() if part is not module}
    return layers + [module for module in outside if id(module) not in wrapped]
