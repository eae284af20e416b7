"""The only file that uses undocumented parts of PEFT: its matching rule, its refusals, its layers and their names.

`tests/plan/test_peft_door.py` checks that each of these names still has the meaning that this file relies on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar, final

from peft import LoraConfig
from torch import nn

from rankselect.models._transformers import bits_of
from rankselect.models.layers import is_transposed, unwrapped
from rankselect.models.private_names import Library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

__all__ = [
    "ADAPTER",
    "PEFT",
    "PREFIX",
    "BuiltLayer",
    "active_adapters",
    "adapted",
    "built",
    "default_target_modules",
    "factors",
    "is_of_fused_experts",
    "lora_layers",
    "matching",
    "parameter_name",
    "pattern_value",
    "refused",
    "set_factors",
    "target_rule",
    "weight",
]

PEFT = Library("peft", "0.21.2", "plan/_peft.py")
PREFIX, ADAPTER = "base_model.model.", "default"
"""PEFT's prefix for the names of base modules, and its default name of an adapter."""

_REDIRECTS_SINCE = (0, 19)

Value = TypeVar("Value")


# How target modules and patterns match.


def default_target_modules(model: nn.Module) -> str | Sequence[str] | None:
    """PEFT's own choice for the model family, or None if it has none."""
    defaults: Mapping[str, Any] = PEFT.get("peft.utils:TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING")
    return defaults.get(str(getattr(getattr(model, "config", None), "model_type", "")))


def target_rule() -> Callable[[LoraConfig, str], Any]:
    """PEFT's rule: whether a config adapts the module of a name, as a true or false value."""
    rule: Callable[[LoraConfig, str], Any] = PEFT.get(
        "peft.tuners.tuners_utils:check_target_module_exists", "config", "key"
    )
    return rule


def matching(target_modules: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of the module names that PEFT would adapt, by its own rule, in the order given."""
    config, is_target = _config(target_modules), target_rule()
    return [name for name in names if name and is_target(config, name)]


def adapted(target_modules: str | Sequence[str], model: nn.Module) -> list[str]:
    """Like `matching` on the modules of a model, after PEFT rewrote the targets for fused experts."""
    config, is_target = _config(target_modules), target_rule()
    try:
        _redirect(config, model)
    except ValueError:  # a fused parameter that needs all of its old names at once
        return []
    return [name for name, _ in model.named_modules() if name and is_target(config, name)]


def pattern_value(pattern: Mapping[str, Value], name: str, default: Value) -> Value:
    """The value of a `rank_pattern` or an `alpha_pattern` for a module, by PEFT's rule.

    Example:
        >>> pattern_value({"fc1": 4}, "layers.0.fc1", 8), pattern_value({"fc1": 4}, "layers.0.xfc1", 8)
        (4, 8)
    """
    key_of = PEFT.get("peft.utils.other:get_pattern_key", "pattern_keys", "key_to_match")
    return pattern.get(key_of(list(pattern), name), default)


# Modules that PEFT does not adapt, or adapts without effect.


def refused(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Modules that PEFT would not adapt, or not to any effect, although their kind allows it: ``{name: reason}``.

    Some blocks (Mamba's, `torch.nn.MultiheadAttention`) use a linear weight without calling the module, so that an
    adapter on it never runs. Some routers are linear modules that return more than a product. And where transformers 5
    fused the experts of a mixture into one parameter, PEFT redirects the old names of their linear modules to that
    parameter, which also matches modules that are still linear (for example those of a shared expert).
    """
    check = PEFT.get("peft.tuners.tuners_utils:_check_lora_target_modules_mamba", "peft_config", "model", "target_name")
    found: dict[str, str] = {}
    for name in names:
        if _is_never_called(model, name, check):
            found[name] = "This model uses its weight without calling it, so an adapter would never run."
        elif "Router" in type(model.get_submodule(name)).__name__:
            found[name] = "It is a router, whose output an adapter cannot add to."
        elif _is_redirected(model, name):
            found[name] = "PEFT redirects this name to the fused experts of the layer."
    return found


def _is_never_called(model: nn.Module, name: str, check: Callable[[LoraConfig, nn.Module, str], None]) -> bool:
    parent, _, last = name.rpartition(".")
    block = model.get_submodule(parent)
    if isinstance(block, nn.MultiheadAttention) or (last == "dt_proj" and hasattr(block, "A_log")):
        return True
    try:
        check(LoraConfig(), model, last)
    except ValueError:
        return True
    return False


def _is_redirected(model: nn.Module, name: str) -> bool:
    config = _config([name])
    try:
        _redirect(config, model)
    except ValueError:  # a fused parameter that needs all of its old names at once
        return True
    return set(config.target_modules or ()) != {name}


def _redirect(config: LoraConfig, model: nn.Module) -> None:
    """PEFT's changes to a config before it looks for the targets; none before release 0.19."""
    if _installed() < _REDIRECTS_SINCE or not hasattr(model, "config"):
        return
    convert = PEFT.get(
        "peft.utils.transformers_weight_conversion:convert_peft_config_for_transformers",
        "peft_config",
        "model",
        "conversions",
    )
    convert(config, model=model, conversions=None)


def _config(target_modules: str | Sequence[str]) -> LoraConfig:
    return LoraConfig(target_modules=target_modules if isinstance(target_modules, str) else list(target_modules))


def _installed() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version("peft"))[:2])


# The layers that PEFT builds.


@final
@dataclass(frozen=True)
class BuiltLayer:
    """One adapter of a LoRA layer, as it was built.

    Attributes:
        rank: Its rank.
        alpha: Its alpha.
        scaling: The factor of its update.
        n_rows: The number of rows of A, which is the rank.
    """

    rank: int
    alpha: float
    scaling: float
    n_rows: int


def lora_layers(model: nn.Module) -> dict[str, Any]:
    """PEFT's LoRA layers, under the names of the modules that they adapt."""
    kind = PEFT.get("peft.tuners.lora.layer:LoraLayer")
    return {name: layer for name, layer in unwrapped(model).named_modules() if isinstance(layer, kind)}


def active_adapters(layer: Any) -> set[str]:
    """The names of the adapters that a LoRA layer adds."""
    return set(PEFT.attribute(layer, "active_adapters"))


def built(layer: Any, adapter: str) -> BuiltLayer | None:
    """The factors of an adapter in a LoRA layer, or None if the adapter has none there."""
    ranks = PEFT.attribute(layer, "r")
    if adapter not in ranks:
        return None
    linear, embedding = PEFT.attribute(layer, "lora_A"), PEFT.attribute(layer, "lora_embedding_A")
    a = linear[adapter].weight if adapter in linear else embedding[adapter]
    alphas, scalings = PEFT.attribute(layer, "lora_alpha"), PEFT.attribute(layer, "scaling")
    return BuiltLayer(int(ranks[adapter]), alphas[adapter], scalings[adapter], int(a.shape[0]))


def factors(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, d_in) and B (d_out, r) of the default adapter in a LoRA layer."""
    embedding = PEFT.attribute(layer, "lora_embedding_A")
    if ADAPTER in embedding:
        return embedding[ADAPTER], PEFT.attribute(layer, "lora_embedding_B")[ADAPTER]
    return PEFT.attribute(layer, "lora_A")[ADAPTER].weight, PEFT.attribute(layer, "lora_B")[ADAPTER].weight


def set_factors(layer: Any, a: nn.Parameter, b: nn.Parameter) -> None:
    """Give a LoRA layer these A and B."""
    if ADAPTER in PEFT.attribute(layer, "lora_embedding_A"):
        layer.lora_embedding_A[ADAPTER] = a
        PEFT.attribute(layer, "lora_embedding_B")[ADAPTER] = b
    else:
        PEFT.attribute(layer, "lora_A")[ADAPTER].weight = a
        PEFT.attribute(layer, "lora_B")[ADAPTER].weight = b


def weight(module: Any) -> torch.Tensor:
    """The weight with which a base module computes, (d_out, d_in), of whatever storage; an embedding's is (dim, words).

    Example:
        >>> tuple(weight(nn.Linear(3, 5)).shape), tuple(weight(nn.Embedding(7, 2)).shape)
        ((5, 3), (2, 7))
    """
    dequantized = PEFT.get("peft.utils.integrations:dequantize_module_weight", "module")
    found: torch.Tensor = (dequantized(module) if bits_of(module) else module.weight).detach()
    return found.T if is_transposed(module) or hasattr(module, "num_embeddings") else found


def is_of_fused_experts(layer: Any) -> bool:
    """Whether a LoRA layer adapts one parameter that holds the weights of several experts."""
    return isinstance(layer, PEFT.get("peft.tuners.lora.layer:ParamWrapper"))


def parameter_name(name: str) -> str:
    """The name that a parameter of PEFT's model has in the base.

    Example:
        >>> parameter_name("base_model.model.lm_head.modules_to_save.default.weight")
        'lm_head.weight'
    """
    name = name.removeprefix(PREFIX).replace(".base_layer.", ".")
    return name.replace(f".modules_to_save.{ADAPTER}.", ".").replace(".original_module.", ".")
