"""Quantised linear layers that take memory and compute nothing."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import nn

from rankselect.models.layers import is_adaptable

__all__ = ["QuantizedLinear", "quantize", "stand_in_for", "widths"]

_NF4_BLOCK, _NF4_GROUP = 64, 256  # weights that share an 8-bit constant; constants that share a float32 one
_KINDS = {"Linear4bit": "nf4", "Linear8bitLt": "int8"}  # the classes of bitsandbytes


@final
class QuantizedLinear(nn.Linear):
    """Takes the memory that a 4-bit or 8-bit linear layer of bitsandbytes takes, at rest and while it runs.

    It computes nothing; it is for the meta device. Its dense weight exists for the moment of a matrix product, in the
    forward and again in the backward pass. A 4-bit layer keeps nothing else for the backward pass; an 8-bit one keeps
    its input, although it does not use it.

    Args:
        in_features: The width of its input.
        out_features: The width of its output.
        bias: The bias of the layer that it replaces, or None.
        kind: ``"nf4"`` or ``"int8"``.
        compute_dtype: The dtype in which a 4-bit layer multiplies; None for the type of its input.
        stored: The bytes of the packed weight and of its constants where they are known; computed if left out.

    Example:
        >>> layer = QuantizedLinear(256, 256, None, "nf4", torch.bfloat16)
        >>> layer.weight.nbytes, layer.constants.nbytes  # half a byte for a weight; a byte for 64 of them and a little
        (32768, 1040)
    """

    constants: torch.Tensor

    def __init__(  # noqa: PLR0917  (those of nn.Linear, and its own)
        self,
        in_features: int,
        out_features: int,
        bias: nn.Parameter | None,
        kind: str,
        compute_dtype: torch.dtype | None,
        stored: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=False, device="meta")
        packed, constants = stored or _stored_bytes(in_features, out_features, kind)
        self.weight = nn.Parameter(torch.empty(packed, dtype=torch.uint8, device="meta"), requires_grad=False)
        self.register_parameter("bias", bias)
        self.register_buffer("constants", torch.empty(constants, dtype=torch.uint8, device="meta"))
        self.kind = kind
        self.compute_dtype = compute_dtype
        self.adapted = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output's shape and type, with the memory on the way to it."""
        if self.kind == "int8":
            return _multiplied(x, self.bias, self.out_features, keep=True)
        inner = x.to(self.compute_dtype or x.dtype)
        bias = None if self.bias is None else self.bias.to(inner.dtype)
        out = _multiplied(inner, bias, self.out_features, keep=False).to(x.dtype)
        return out.clone() if self.adapted else out  # PEFT clones the output of a 4-bit layer


class _DenseForAMoment(torch.autograd.Function):
    """A product with a weight that is unpacked in the forward pass, and again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, d_out: int, kept: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.kept, ctx.shape, ctx.dtype = kept, (d_out, x.shape[-1]), x.dtype
        return nn.functional.linear(x, x.new_empty(ctx.shape), bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        dense = grad.new_empty(ctx.shape, dtype=ctx.dtype)
        return grad.to(ctx.dtype) @ dense, None, None, None


def _multiplied(x: torch.Tensor, bias: torch.Tensor | None, d_out: int, *, keep: bool) -> torch.Tensor:
    apply: Any = _DenseForAMoment.apply
    out: torch.Tensor = apply(x, bias, d_out, x if keep else None)
    return out


def quantize(model: nn.Module, kind: str, compute_dtype: torch.dtype) -> None:
    """Put a `QuantizedLinear` in the place of every layer that transformers lets bitsandbytes quantise.

    That is every linear layer but the output head, layers tied to others, the last one, and those that the model's
    class keeps in float32.

    Args:
        model: A model on the meta device; it is changed in place.
        kind: ``"nf4"`` or ``"int8"``.
        compute_dtype: The dtype in which 4-bit layers multiply.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model().to("meta")
        >>> quantize(model, "nf4", torch.bfloat16)
        >>> type(model.model.layers[0].self_attn.q_proj).__name__, type(model.lm_head).__name__
        ('QuantizedLinear', 'Linear')
    """
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    left_out = get_keys_to_not_convert(model) if hasattr(model, "get_output_embeddings") else []
    left_out += list(getattr(model, "_keep_in_fp32_modules", None) or [])
    for name, module in list(model.named_modules()):
        linear = is_adaptable(module) and not isinstance(module, (nn.Embedding, QuantizedLinear))
        if linear and should_convert_module(name, left_out):
            d_in, d_out = widths(module)
            bias = getattr(module, "bias", None)
            stand_in = QuantizedLinear(d_in, d_out, bias, kind, compute_dtype)
            model.set_submodule(name, stand_in)


def stand_in_for(module: nn.Module, bias: nn.Parameter | None) -> QuantizedLinear | None:
    """The stand-in for a layer that bitsandbytes has quantised, with its real size in bytes.

    Args:
        module: Any module.
        bias: The bias of the stand-in.

    Returns:
        The stand-in, or None for any other module.

    Example:
        >>> stand_in_for(nn.Linear(4, 4), None) is None
        True
    """
    kind = _KINDS.get(type(module).__name__)
    if kind is None or not type(module).__module__.startswith("bitsandbytes"):
        return None
    layer: Any = module
    state = getattr(layer.weight, "quant_state", None)
    scales = [getattr(owner, "SCB", None) for owner in (layer.weight, getattr(layer, "state", None))]
    tensors = [scale for scale in scales if scale is not None][:1]
    if state is not None:
        tensors += [state.absmax] if state.state2 is None else [state.absmax, state.state2.absmax]
    stored = (layer.weight.nbytes, sum(tensor.nbytes for tensor in tensors)) if tensors else None
    compute_dtype = getattr(layer, "compute_dtype", None)
    return QuantizedLinear(layer.in_features, layer.out_features, bias, kind, compute_dtype, stored)


def _stored_bytes(d_in: int, d_out: int, kind: str) -> tuple[int, int]:
    """The packed weight and its constants, as bitsandbytes stores them; 4 bits are quantised twice, as in QLoRA."""
    n = d_in * d_out
    if kind == "int8":
        return n, 4 * d_out
    blocks = -(-n // _NF4_BLOCK)
    return -(-n // 2), blocks + 4 * -(-blocks // _NF4_GROUP)


def widths(module: Any) -> tuple[int, int]:
    """The widths of a layer's input and output, for any shape of its stored weight.

    Example:
        >>> widths(nn.Linear(3, 5))
        (3, 5)
    """
    if hasattr(module, "num_embeddings"):
        return int(module.num_embeddings), int(module.embedding_dim)
    if hasattr(module, "in_features"):
        return int(module.in_features), int(module.out_features)
    return int(module.weight.shape[0]), int(module.weight.shape[1])
