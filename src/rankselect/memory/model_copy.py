"""A model without weights: the same modules on the meta device, adapted as training will have them."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from peft import inject_adapter_in_model
from torch import nn

from rankselect.errors import ModelError, PlanMismatchError
from rankselect.memory.quantized import QuantizedLinear, stand_in_for, widths
from rankselect.models._transformers import enable_checkpointing
from rankselect.models.layers import is_adaptable, unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from rankselect.plan.rank_plan import RankPlan

__all__ = ["add_adapters", "set_checkpointing", "weightless_copy"]


def weightless_copy(model: nn.Module) -> nn.Module:
    """The model inside all wrappers, on the meta device and without adapters; none of its weights are copied.

    Tied weights stay tied, every parameter keeps its type, and layers that bitsandbytes has quantised become
    `QuantizedLinear`, with the bytes that theirs really take.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> weightless_copy(tiny_model()).device
        device(type='meta')
    """
    base = unwrapped(model)
    memo: dict[int, Any] = {}  # deepcopy takes from here what it would otherwise copy
    for tensor in (*base.parameters(), *base.buffers()):
        empty = torch.empty_like(tensor, device="meta", requires_grad=False)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
    for module in base.modules():
        stand_in = stand_in_for(module, memo.get(id(getattr(module, "bias", None))))
        if stand_in is not None:
            memo[id(module)] = stand_in
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


def add_adapters(model: nn.Module, plan: RankPlan, dtype: torch.dtype, dropout: float) -> None:
    """Inject the plan's adapters and make them the only parameters that are trained.

    Raises:
        PlanMismatchError: If the plan is for another model.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> plan, bare = rs.Fixed(4).plan(model), weightless_copy(model)
        >>> add_adapters(bare, plan, torch.float32, dropout=0.0)
        >>> plan.verify(bare)
    """
    modules = dict(model.named_modules())
    for planned in plan.modules:
        target = planned.target
        module = modules.get(target.name)
        sizes = None if module is None or not is_adaptable(module) else widths(module)
        if sizes != (target.d_in, target.d_out):
            raise PlanMismatchError(
                f"a plan for this model ({type(model).__name__})",
                f"one with {target.name}, {target.d_in} to {target.d_out} wide, which is "
                + ("not there" if sizes is None else f"{sizes[0]} to {sizes[1]} wide here"),
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

    Example:
        >>> from rankselect.testing import tiny_model
        >>> model = weightless_copy(tiny_model())
        >>> set_checkpointing(model, nullcontext)
        >>> model.model.layers[0].gradient_checkpointing
        True
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
    enable_checkpointing(model, context_fn=lambda: (nullcontext(), inside()))


def _without_offloading(module: Any) -> None:
    """Take off the hooks of accelerate, which would move inputs to the devices of the real weights."""
    if "_hf_hook" in vars(module):
        from accelerate.hooks import remove_hook_from_module  # only where it was used

        remove_hook_from_module(module)
