"""Quantizing and dequantizing one weight, exactly as bitsandbytes does when transformers loads a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from rankselect.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankselect.models.quantized_layers import Quantization

__all__ = ["dequantize", "quantize", "round_trip", "weight_of"]

_BLOCK, _CHUNK = 64, 2**20  # a chunk is a multiple of the block, and an even number of weights
_STATE = "weight.quant_state.bitsandbytes__"
_PARTS = (
    "weight.absmax",
    "weight.quant_map",
    "weight.nested_absmax",
    "weight.nested_quant_map",
    f"{_STATE}nf4",
    f"{_STATE}fp4",
    "SCB",
    "weight_format",
)


def quantize(weight: torch.Tensor, quantization: Quantization) -> dict[str, torch.Tensor]:
    """Quantize one weight.

    Args:
        weight: (d_out, d_in), in the dtype that the model is loaded in, which decides its rounding.
        quantization: ``"nf4"`` (NF4 in blocks of 64, their scales quantized once more) or ``"int8"`` (LLM.int8, one
            scale for each row).

    Returns:
        ``{name below the module: tensor}``, as `save_pretrained` of a quantized model writes them.

    References:
        Dettmers et al., 2023, QLoRA, https://arxiv.org/abs/2305.14314; Dettmers et al., 2022, LLM.int8(),
        https://arxiv.org/abs/2208.07339

    Example:
        >>> packed = quantize(torch.eye(4), "int8")
        >>> packed["weight"].dtype, dequantize(packed)[0]
        (torch.int8, tensor([1., 0., 0., 0.]))
    """
    from bitsandbytes import functional  # optional

    if quantization == "int8":
        packed, scales, _ = functional.int8_vectorwise_quant(weight.contiguous().to(torch.float16))
        return {"weight": packed, "SCB": scales, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    packed, state = _pack_nf4(weight)
    parts = {f"weight.{name}": part for name, part in state.as_dict(packed=True).items()}
    return {"weight": packed, **parts}


def _pack_nf4(weight: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """What bitsandbytes' `quantize_4bit` does, in chunks: at once it takes five times the memory of the weight."""
    from bitsandbytes import functional  # optional

    pieces = [
        functional.quantize_4bit(piece, blocksize=_BLOCK, quant_type="nf4")
        for piece in weight.contiguous().reshape(-1).split(_CHUNK)
    ]
    scales = torch.cat([state.absmax for _, state in pieces])
    offset = scales.mean()
    packed_scales, of_scales = functional.quantize_blockwise(scales - offset, blocksize=256)
    first = pieces[0][1]
    state = functional.QuantState(
        absmax=packed_scales,
        shape=weight.shape,
        dtype=weight.dtype,
        blocksize=_BLOCK,
        code=first.code,
        quant_type="nf4",
        offset=offset,
        state2=of_scales,
    )
    return torch.cat([packed for packed, _ in pieces]), state


def dequantize(parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Dequantize one weight from the output of `quantize`, or from a quantized checkpoint.

    Args:
        parts: ``{name below the module: tensor}``.

    Returns:
        The weight: for 4 bits in the dtype that it had before, for 8 bits in float32.

    Raises:
        ModelError: If parts are missing.
    """
    from bitsandbytes import functional  # optional

    weight = parts["weight"]
    if "SCB" in parts:
        return functional.int8_vectorwise_dequant(weight, parts["SCB"])  # type: ignore[no-any-return]
    state = {name.removeprefix("weight."): part for name, part in parts.items() if name != "weight"}
    if not any(name.startswith("quant_state") for name in state):
        raise ModelError(
            "4- or 8-bit weights with their scales",
            f"a weight with {', '.join(state) or 'none'}",
            "The base model is damaged: copy or download it again.",
        )
    return functional.dequantize_4bit(weight, functional.QuantState.from_dict(state, device=torch.device("cpu")))


def round_trip(weight: torch.Tensor, quantization: Quantization) -> torch.Tensor:
    """Quantize and dequantize: the weight that a quantized model computes with."""
    return weight if quantization == "none" else dequantize(quantize(weight, quantization))


def weight_of(key: str) -> str | None:
    """The key of the weight to which a scale belongs; None for a key that is not a scale.

    Example:
        >>> weight_of("model.layers.0.mlp.up_proj.weight.absmax"), weight_of("model.layers.0.mlp.up_proj.SCB")
        ('model.layers.0.mlp.up_proj.weight', 'model.layers.0.mlp.up_proj.weight')
        >>> weight_of("model.norm.weight") is None
        True
    """
    for part in _PARTS:
        if key.endswith(f".{part}"):
            return f"{key.removesuffix(part)}weight"
    return None
