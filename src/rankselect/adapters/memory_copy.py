"""A model without weights: the same modules on the meta device, quantised and adapted as training will have them."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, final

import torch
from peft import inject_adapter_in_model
from torch import nn

from rankselect.errors import ModelError, PlanMismatchError
from rankselect.plan.layers import is_adaptable, unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from rankselect.plan.rank_plan import RankPlan

__all__ = ["QuantizedLinear", "add_adapters", "quantize", "set_checkpointing", "weightless_copy"]

_NF4_BLOCK, _NF4_GROUP = 64, 256  # weights that share an 8-bit constant; constants that share a float32 one


@final
class QuantizedLinear(nn.Linear):
    """Takes the memory that a 4-bit or 8-bit linear layer of bitsandbytes takes, at rest and while it runs.

    It computes nothing; it is for the meta device. Its dense weight exists for the moment of a matrix product, in the
    forward and again in the backward pass. A 4-bit layer keeps nothing else for the backward pass; an 8-bit one keeps
    its input, though it has no use for it.

    Args:
        in_features: The width of its input.
        out_features: The width of its output.
        bias: The bias of the layer that it stands for, or None.
        kind: ``"nf4"`` or ``"int8"``.
        compute_dtype: What a 4-bit layer multiplies in; None for the type of its input.
        stored: The bytes of the packed weight and of its constants where they are known; computed if left out.

    Example:
        >>> layer = QuantizedLinear(256, 256, None, "nf4", torch.bfloat16)
        >>> layer.weight.nbytes, layer.constants.nbytes  # half a byte for a weight; a byte for 64 of them and a little
        (32768, 1040)
    """

    constants: torch.Tensor

    def __init__(  # noqa: PLR0917  (as nn.Linear, and what it adds)
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
        return out.clone() if self.adapted else out  # PEFT clones what a 4-bit layer returns


class _DenseForAMoment(torch.autograd.Function):
    """A product with a weight that is unpacked for it, and unpacked again for the gradient."""

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


def weightless_copy(model: nn.Module) -> nn.Module:
    """The model inside all wrappers, on the meta device and without adapters; none of its weights are copied.

    Tied weights stay tied, every parameter keeps its type, and layers that bitsandbytes has quantised become
    `QuantizedLinear`, with the bytes that theirs really take.
    """
    base = unwrapped(model)
    memo: dict[int, Any] = {}  # deepcopy takes from here what it would otherwise copy
    for tensor in (*base.parameters(), *base.buffers()):
        empty = torch.empty_like(tensor, device="meta", requires_grad=False)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
    for module in base.modules():
        kind = _quantised_kind(module)
        if kind is not None:
            memo[id(module)] = _stand_in(module, kind, memo)
    for module in base.modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            memo[id(module)] = copy.deepcopy(module.base_layer, memo)
    bare = copy.deepcopy(base, memo)
    vars(bare).pop("peft_config", None)
    for module in bare.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                setattr(module, name, value.to("meta"))
        _without_offloading(module)
    return bare


def quantize(model: nn.Module, kind: str, compute_dtype: torch.dtype) -> None:
    """Put a `QuantizedLinear` in the place of every layer that transformers lets bitsandbytes quantise.

    That is every linear layer but the output head, layers tied to others, the last one, and those that the model's
    class keeps in float32.
    """
    from transformers.quantizers.base import get_keys_to_not_convert  # noqa: PLC0415  (slow to import)
    from transformers.quantizers.quantizers_utils import should_convert_module  # noqa: PLC0415

    left_out = get_keys_to_not_convert(model) if hasattr(model, "get_output_embeddings") else []
    left_out += list(getattr(model, "_keep_in_fp32_modules", None) or [])
    for name, module in list(model.named_modules()):
        linear = is_adaptable(module) and not isinstance(module, (nn.Embedding, QuantizedLinear))
        if linear and should_convert_module(name, left_out):
            d_in, d_out = _widths(module)
            bias = getattr(module, "bias", None)
            stand_in = QuantizedLinear(d_in, d_out, bias, kind, compute_dtype)
            model.set_submodule(name, stand_in)


def add_adapters(model: nn.Module, plan: RankPlan, dtype: torch.dtype, dropout: float) -> None:
    """Inject the plan's adapters and make them the only parameters that are trained.

    Raises:
        PlanMismatchError: If the plan is for another model.
    """
    modules = dict(model.named_modules())
    for planned in plan.modules:
        target = planned.target
        module = modules.get(target.name)
        widths = None if module is None or not is_adaptable(module) else _widths(module)
        if widths != (target.d_in, target.d_out):
            raise PlanMismatchError(
                f"a plan for this model ({type(model).__name__})",
                f"one with {target.name}, {target.d_in} to {target.d_out} wide, which is "
                + ("not there" if widths is None else f"{widths[0]} to {widths[1]} wide here"),
                "Plan on this model, or pass the model that the plan was made for.",
            )
        if isinstance(module, QuantizedLinear):
            module.adapted = module.kind == "nf4"
    model.requires_grad_(requires_grad=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inject_adapter_in_model(plan.to_lora_config(lora_dropout=dropout), model, low_cpu_mem_usage=True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def set_checkpointing(model: Any, inside: Callable[[], AbstractContextManager[None]] | None) -> None:
    """Switch gradient checkpointing on, or off.

    The variant is the one that needs no gradients of the inputs. A backward pass runs outside the function modes of
    the forward pass, so `inside` makes the context in which layers are computed again; None switches off.

    Raises:
        ModelError: If it is to be on and the model does not support it.
    """
    if inside is None:
        for module in model.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.gradient_checkpointing = False
        return
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ModelError(
            "a model that supports gradient checkpointing", type(model).__name__, "Set gradient_checkpointing=False."
        )
    contexts = {"context_fn": lambda: (nullcontext(), inside())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the method is about to get another name in transformers
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **contexts})


def _stored_bytes(d_in: int, d_out: int, kind: str) -> tuple[int, int]:
    """The packed weight and its constants, as bitsandbytes stores them; 4 bits are quantised twice, as in QLoRA."""
    n = d_in * d_out
    if kind == "int8":
        return n, 4 * d_out
    blocks = -(-n // _NF4_BLOCK)
    return -(-n // 2), blocks + 4 * -(-blocks // _NF4_GROUP)


def _quantised_kind(module: nn.Module) -> str | None:
    return {"Linear4bit": "nf4", "Linear8bitLt": "int8"}.get(type(module).__name__) if _is_base(module) else None


def _is_base(module: nn.Module) -> bool:
    return hasattr(module, "in_features") and not hasattr(module, "base_layer")


def _stand_in(module: Any, kind: str, memo: dict[int, Any]) -> QuantizedLinear:
    weight = module.weight
    state = getattr(weight, "quant_state", None) or getattr(module, "quant_state", None)
    scales = [getattr(weight, "SCB", None), getattr(getattr(module, "state", None), "SCB", None)]
    tensors = [] if state is None else [state.absmax, *(() if state.state2 is None else (state.state2.absmax,))]
    tensors += [scale for scale in scales if scale is not None][:1]
    stored = (weight.nbytes, sum(tensor.nbytes for tensor in tensors)) if weight.dtype != torch.float32 else None
    bias = None if module.bias is None else memo[id(module.bias)]
    compute_dtype = getattr(module, "compute_dtype", None)
    return QuantizedLinear(module.in_features, module.out_features, bias, kind, compute_dtype, stored)


def _without_offloading(module: Any) -> None:
    """Take off the hooks of accelerate, which would move inputs to the devices of the real weights."""
    if "_hf_hook" in vars(module):
        from accelerate.hooks import remove_hook_from_module  # noqa: PLC0415  (only where it was used)

        remove_hook_from_module(module)


def _widths(module: Any) -> tuple[int, int]:
    if hasattr(module, "num_embeddings"):
        return int(module.num_embeddings), int(module.embedding_dim)
    if hasattr(module, "in_features"):
        return int(module.in_features), int(module.out_features)
    return int(module.weight.shape[0]), int(module.weight.shape[1])
