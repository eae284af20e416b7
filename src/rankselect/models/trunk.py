"""A forward pass without the output head: its inputs, its device, its length limit."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rankselect.errors import ModelError
from rankselect.models._transformers import execution_device
from rankselect.models.layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["decoder_modules", "input_device", "longest_input", "run_trunk"]

_UNBOUNDED = 1_000_000  # tokenizers without a limit of their own report an enormous number


def run_trunk(model: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    """Run a batch through the layers but not through the output head. Hooks see the outputs.

    Encoder-decoder models read each text twice: the encoder unchanged, the decoder shifted by one, as in training
    on reproducing the text.

    Args:
        model: A transformers model, or any module whose forward accepts the batch's names.
        batch: Tensors with a leading batch dimension, on the model's input device.

    Raises:
        ModelError: If the model reads images or audio, and there are only texts.
    """
    base = unwrapped(model)
    main = getattr(base, "main_input_name", "input_ids")
    if main != "input_ids" and "input_ids" in batch and main not in batch:
        raise ModelError(
            "a model that reads texts",
            f"a {type(base).__name__}, which reads {main}",
            "Pass one mapping of its inputs for each sample, as its processor creates them.",
        )
    decoder = _decoder_of(base)
    if decoder is not None:
        _run_encoder_decoder(base, decoder, batch)
    else:
        tower = _text_tower(base, batch)
        trunk = getattr(base, "base_model", base) if tower is None else tower
        trunk(**_accepted(trunk, {**batch, "use_cache": False}))


def decoder_modules(model: nn.Module) -> set[nn.Module]:
    """The modules of an encoder-decoder model that read the decoder's tokens; none in any other model."""
    decoder = _decoder_of(unwrapped(model))
    return set() if decoder is None else set(decoder.modules())


def input_device(model: nn.Module) -> torch.device:
    """The device that inputs go to, also under a `device_map` with offloaded weights.

    Raises:
        ModelError: If the model has no weights to run (the meta device).
    """
    base = unwrapped(model)
    device = execution_device(base)
    if device is None:
        device = next((parameter.device for parameter in base.parameters()), torch.device("cpu"))
    if device.type == "meta":
        raise ModelError(
            "a model with weights", "one on the meta device", "Load it with from_pretrained before measuring it."
        )
    return device


def longest_input(model: nn.Module, tokenizer: Any, max_length: int) -> int:
    """How many tokens of a text the model can read: `max_length`, or fewer if its positions end before."""
    base = unwrapped(model)
    limits = [max_length, getattr(getattr(base, "config", None), "max_position_embeddings", None)]
    limits.append(getattr(tokenizer, "model_max_length", None))
    for name, module in base.named_modules():
        # RoBERTa and its relatives start counting positions after the padding index, so that some rows are never used.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    return min(int(limit) for limit in limits if isinstance(limit, int) and 0 < limit < _UNBOUNDED)


def _decoder_of(base: Any) -> nn.Module | None:
    """The decoder of an encoder-decoder model; encoders taken out of one keep its config but have none."""
    if not getattr(getattr(base, "config", None), "is_encoder_decoder", False):
        return None
    decoder: nn.Module = base.get_decoder()
    return None if decoder is base else decoder


def _text_tower(base: Any, batch: Mapping[str, Any]) -> nn.Module | None:
    """The text tower of a model with several equal ones (CLIP), if there are only texts; None for any other model."""
    config: Any = getattr(base, "config", None)
    if not getattr(config, "sub_configs", None) or any(name.startswith(("pixel", "input_f")) for name in batch):
        return None
    if hasattr(base, "can_generate") and base.can_generate():
        return None
    text = config.get_text_config()
    return next((each for each in base.children() if getattr(each, "config", None) is text), None)


def _run_encoder_decoder(base: Any, decoder: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    batch = dict(batch)
    ids, own_mask = batch.pop("decoder_input_ids", None), batch.pop("decoder_attention_mask", None)
    encoder = base.get_encoder()
    encoded = encoder(**_accepted(encoder, batch))[0]
    mask = batch.get("attention_mask")
    if ids is None:
        ids = _shifted_right(base.config, batch, len(encoded), encoded.device)
        own_mask = mask if mask is not None and mask.shape == ids.shape else None
    inputs = {
        "input_ids": ids,
        "attention_mask": own_mask,
        "encoder_hidden_states": encoded,
        "encoder_attention_mask": mask if mask is not None and mask.shape == encoded.shape[:2] else None,
        "use_cache": False,
    }
    decoder(**_accepted(decoder, {name: value for name, value in inputs.items() if value is not None}))


def _shifted_right(config: Any, batch: dict[str, torch.Tensor], rows: int, device: torch.device) -> torch.Tensor:
    candidates = (getattr(config, f"{name}_token_id", None) for name in ("decoder_start", "bos", "pad"))
    start = next((token for token in candidates if isinstance(token, int)), 0)
    first = torch.full((rows, 1), start, dtype=torch.long, device=device)
    return torch.cat([first, batch["input_ids"][:, :-1]], dim=1) if "input_ids" in batch else first


def _accepted(module: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs that a forward method names, or all of them where it takes any."""
    parameters = inspect.signature(module.forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {name: value for name, value in inputs.items() if name in parameters or name != "use_cache"}
    return {name: value for name, value in inputs.items() if name in parameters}
