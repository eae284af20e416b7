"""The unmerged adapter as PEFT builds it on the base: the model that a merge has to reproduce, without base weights."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

from peft import PeftModel
from torch import nn

from rankselect.errors import AdapterError, first_sentence
from rankselect.models.layers import is_transposed
from rankselect.plan._peft import ADAPTER, is_of_fused_experts, lora_layers, parameter_name, set_factors

if TYPE_CHECKING:
    import torch

    from rankselect.adapters.adapter_folder import AdapterFolder
    from rankselect.adapters.lora_delta import LoraModule
    from rankselect.adapters.merge.base_model import BaseModel

__all__ = ["load_factors", "peft_model"]


def peft_model(adapter: AdapterFolder, base: BaseModel) -> PeftModel:
    """Put the adapter on a copy of the empty base with PEFT, and check that they belong together.

    Args:
        adapter: The adapter.
        base: The base model.

    Returns:
        PEFT's model, all parameters on the meta device.

    Raises:
        AdapterError: If PEFT cannot put it there, a module or full parameter of the adapter is not in the base or has
            another shape, weights for an adapted module are missing, or a module cannot be merged.
    """
    model = copy.deepcopy(base.model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tied weights, which are dealt with
            peft = PeftModel(model, copy.deepcopy(adapter.config), low_cpu_mem_usage=True)
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise AdapterError(
            f"an adapter of {base.name}",
            f"{adapter.path}, which PEFT cannot put on it ({first_sentence(error)})",
            "Give the base model that it was trained on with base (--base).",
        ) from error
    peft.eval()
    layers = lora_layers(peft)
    _check_modules(adapter, base, layers)
    for module in adapter.modules:
        _check_shapes(adapter, base, module, layers[module.name])
    _check_full_parameters(adapter, base, peft)
    return peft


def load_factors(peft: PeftModel, adapter: AdapterFolder) -> None:
    """Give PEFT's layers the adapter's A and B, in float32."""
    layers = lora_layers(peft)
    for module in adapter.modules:
        a, b = (nn.Parameter(factor.float(), requires_grad=False) for factor in adapter.factors(module))
        set_factors(layers[module.name], a, b)


def _check_modules(adapter: AdapterFolder, base: BaseModel, layers: dict[str, Any]) -> None:
    fused = [name for name, layer in layers.items() if is_of_fused_experts(layer)]
    if fused:
        raise AdapterError(
            "an adapter of modules",
            f"one of the fused experts in {fused[0]}",
            "The merge of experts that share one parameter is not supported: use PEFT's merge_and_unload.",
        )
    there = {module.name for module in adapter.modules}
    extra = sorted(there - set(layers))
    if extra:
        raise AdapterError(
            f"an adapter of {base.name}",
            f"weights for {extra[0]} ({len(extra)} such), which the base does not have",
            "Give the base model that it was trained on with base (--base).",
        )
    missing = sorted(set(layers) - there)
    if missing:
        raise AdapterError(
            f"weights for all {len(layers)} modules that target_modules names in {base.name}",
            f"none for {missing[0]} ({len(missing)} such) in {adapter.path}",
            "The adapter is incomplete, or of another base: save it again, or give the right base (--base).",
        )


def _check_shapes(adapter: AdapterFolder, base: BaseModel, module: LoraModule, layer: Any) -> None:
    inner = layer.get_base_layer()
    mergeable = isinstance(inner, (nn.Linear, nn.Embedding)) or is_transposed(inner)
    name = f"{module.name}.weight"
    if not mergeable or isinstance(inner, nn.Embedding) != (module.kind == "embedding"):
        raise AdapterError(
            "an adapter of linear, Conv1D or embedding modules",
            f"{module.name}, a {type(inner).__name__}",
            "Its merge is not supported: use PEFT's merge_and_unload.",
        )
    shape = tuple(inner.weight.shape)
    wanted = (module.d_in, module.d_out) if module.kind == "embedding" else (module.d_out, module.d_in)
    if is_transposed(inner):
        wanted = (module.d_in, module.d_out)
    if shape != wanted:
        raise AdapterError(
            f"an adapter of {base.name}, where {name} is {shape}",
            f"A and B for {wanted} in {adapter.path}",
            "It was trained on another model, or on an enlarged vocabulary: give its own base with base (--base).",
        )
    if name in base.fused or name not in base.keys:
        raise AdapterError(
            "an adapter of modules whose weights are separate tensors in the base's files",
            f"{name}, "
            + ("which transformers builds from other weights" if name in base.fused else "which they do not have"),
            "Load the base with transformers, save it with save_pretrained, and merge onto that.",
        )


def _check_full_parameters(adapter: AdapterFolder, base: BaseModel, peft: PeftModel) -> None:
    parameters: dict[str, torch.Tensor] = base.model.state_dict()
    for name, key in adapter.full_parameters.items():
        shape = adapter.shape(key)
        if name not in parameters or tuple(parameters[name].shape) != shape:
            got = f"{tuple(parameters[name].shape)}" if name in parameters else "missing"
            raise AdapterError(
                f"an adapter of {base.name}, where {name} is {got}",
                f"one of shape {shape} in {adapter.path}",
                "It was trained on another model, or on an enlarged vocabulary: give its own base with base (--base).",
            )
    wanted = {parameter_name(name) for name, _ in peft.named_parameters() if f".modules_to_save.{ADAPTER}." in name}
    missing = sorted(wanted - set(adapter.full_parameters))
    if missing:
        raise AdapterError(
            f"the modules that modules_to_save names ({', '.join(adapter.config.modules_to_save or ())})",
            f"none for {missing[0]} in {adapter.path}",
            "The adapter is incomplete: save it again.",
        )
