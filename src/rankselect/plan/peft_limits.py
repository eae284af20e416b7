"""What PEFT itself decides: how target names match, its defaults per model family, and what it refuses to adapt."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from peft import LoraConfig
from peft.tuners import tuners_utils
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

__all__ = ["default_target_modules", "matching", "refused"]


def default_target_modules(model: nn.Module) -> str | Sequence[str] | None:
    """PEFT's own choice for the model family, or None where it has none."""
    model_type = str(getattr(getattr(model, "config", None), "model_type", ""))
    return TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type)


def matching(target_modules: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of the module names that PEFT would adapt, by its own rule, in the order given."""
    config = LoraConfig(target_modules=target_modules if isinstance(target_modules, str) else list(target_modules))
    return [name for name in names if name and tuners_utils.check_target_module_exists(config, name)]


def refused(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Modules that PEFT would not adapt although their kind allows it: ``{name: reason}``.

    Mamba blocks use some linear weights without calling the module; and where transformers 5 fused the experts of a
    mixture into one parameter, PEFT redirects the old names of their linear modules to that parameter, which also
    catches modules that still are linear (a shared expert's, say).
    """
    found: dict[str, str] = {}
    for name in names:
        if _is_incompatible(model, name):
            found[name] = "PEFT refuses it because this model uses its weight without calling it."
        elif _is_redirected(model, name):
            found[name] = "PEFT redirects this name to the fused experts of the layer."
    return found


def _is_incompatible(model: nn.Module, name: str) -> bool:
    check = getattr(tuners_utils, "_check_lora_target_modules_mamba", None)
    if check is None:
        return False
    try:
        check(LoraConfig(), model, name.rsplit(".", 1)[-1])
    except ValueError:
        return True
    return False


def _is_redirected(model: nn.Module, name: str) -> bool:
    try:
        from peft.utils import transformers_weight_conversion as conversion  # noqa: PLC0415  (newer PEFT only)
    except ImportError:
        return False
    if not hasattr(model, "config"):
        return False
    config = LoraConfig(target_modules=[name])
    before = copy.copy(config.target_modules)
    try:
        conversion.convert_peft_config_for_transformers(config, model=model, conversions=None)
    except ValueError:  # a fused parameter that wants all of its old names at once
        return True
    return bool(config.target_modules != before)
