"""What PEFT itself decides: how target names match, its defaults per model family, and what it refuses to adapt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft import LoraConfig
from peft.tuners import tuners_utils
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["adapted", "default_target_modules", "matching", "refused"]


def default_target_modules(model: nn.Module) -> str | Sequence[str] | None:
    """PEFT's own choice for the model family, or None where it has none."""
    model_type = str(getattr(getattr(model, "config", None), "model_type", ""))
    return TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type)


def matching(target_modules: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of the module names that PEFT would adapt, by its own rule, in the order given."""
    config = _config(target_modules)
    return [name for name in names if name and tuners_utils.check_target_module_exists(config, name)]


def adapted(target_modules: str | Sequence[str], model: nn.Module) -> list[str]:
    """Like `matching` on the modules of a model, after PEFT rewrote the targets for fused experts."""
    config = _config(target_modules)
    try:
        _rewrite(config, model)
    except ValueError:  # a fused parameter that wants all of its old names at once
        return []
    names = [name for name, _ in model.named_modules()]
    return [name for name in names if name and tuners_utils.check_target_module_exists(config, name)]


def refused(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Modules that PEFT would not adapt, or not to any effect, although their kind allows it: ``{name: reason}``.

    Some blocks (Mamba's, `torch.nn.MultiheadAttention`) use a linear weight without calling the module, so that an
    adapter on it never runs. Some routers are linear modules that return more than a product. And where transformers 5
    fused the experts of a mixture into one parameter, PEFT redirects the old names of their linear modules to that
    parameter, which also catches modules that still are linear (a shared expert's, say).
    """
    found: dict[str, str] = {}
    for name in names:
        if _is_never_called(model, name):
            found[name] = "This model uses its weight without calling it, so an adapter would never run."
        elif "Router" in type(model.get_submodule(name)).__name__:
            found[name] = "It is a router, whose output an adapter cannot add to."
        elif _is_redirected(model, name):
            found[name] = "PEFT redirects this name to the fused experts of the layer."
    return found


def _config(target_modules: str | Sequence[str]) -> LoraConfig:
    return LoraConfig(target_modules=target_modules if isinstance(target_modules, str) else list(target_modules))


def _rewrite(config: LoraConfig, model: nn.Module) -> None:
    """What PEFT does to a config before it looks for the targets."""
    try:
        from peft.utils import transformers_weight_conversion as conversion  # newer PEFT only
    except ImportError:
        return
    if hasattr(model, "config"):
        conversion.convert_peft_config_for_transformers(config, model=model, conversions=None)


def _is_never_called(model: nn.Module, name: str) -> bool:
    parent, _, last = name.rpartition(".")
    block = model.get_submodule(parent)
    if isinstance(block, nn.MultiheadAttention) or (last == "dt_proj" and hasattr(block, "A_log")):
        return True
    check = getattr(tuners_utils, "_check_lora_target_modules_mamba", None)
    try:
        if check is not None:
            check(LoraConfig(), model, last)
    except ValueError:
        return True
    return False


def _is_redirected(model: nn.Module, name: str) -> bool:
    config = _config([name])
    try:
        _rewrite(config, model)
    except ValueError:  # a fused parameter that wants all of its old names at once
        return True
    return set(config.target_modules or ()) != {name}
