"""Holds a built PEFT model against the ranks and alphas that were planned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rankselect.errors import PlanMismatchError
from rankselect.plan.layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

__all__ = ["verify"]

_SHOWN = 5


def verify(peft_model: nn.Module, ranks: Mapping[str, int], alphas: Mapping[str, float]) -> None:
    """Compare every LoRA layer of the active adapter with the plan.

    Args:
        peft_model: A model with LoRA layers.
        ranks: The planned rank of every module that should have an adapter.
        alphas: The planned alpha of the same modules.

    Raises:
        PlanMismatchError: If a module is missing, is one too many, or differs in rank, alpha or scaling.
    """
    adapter = _active_adapter(peft_model)
    built = {
        name: module
        for name, module in unwrapped(peft_model).named_modules()
        if adapter in getattr(module, "r", ()) and hasattr(module, "scaling")
    }
    differences = [f"{name} has no adapter" for name in ranks if name not in built]
    differences += [f"{name} has an adapter that was not planned" for name in built if name not in ranks]
    config = getattr(peft_model, "peft_config", {}).get(adapter)
    rslora = bool(getattr(config, "use_rslora", False))
    for name in ranks.keys() & built.keys():
        differences += _compare(name, built[name], adapter, ranks[name], alphas[name], rslora=rslora)
    if differences:
        shown = "; ".join(sorted(differences)[:_SHOWN])
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise PlanMismatchError(
            "a PEFT model that is exactly the plan",
            f"{len(differences)} differences: {shown}{more}",
            "Build it with get_peft_model(model, plan.to_lora_config()), and plan on that very model.",
        )


def _active_adapter(peft_model: nn.Module) -> str:
    active = getattr(peft_model, "active_adapters", None)
    if callable(active):  # transformers has a method where PEFT has a property
        try:
            active = active()
        except ValueError:  # transformers, where no adapter was put on
            active = None
    if not active:
        raise PlanMismatchError(
            "a model with an active adapter", type(peft_model).__name__, "Pass what get_peft_model returned."
        )
    return str(active[0])


def _compare(name: str, module: Any, adapter: str, rank: int, alpha: float, *, rslora: bool) -> Iterator[str]:
    scaling = alpha / math.sqrt(rank) if rslora else alpha / rank
    if module.r[adapter] != rank:
        yield f"{name} has rank {module.r[adapter]}, not {rank}"
    elif _rows_of_a(module, adapter) != rank:
        yield f"{name} has {_rows_of_a(module, adapter)} rows in lora_A, not {rank}"
    if not math.isclose(module.lora_alpha[adapter], alpha, rel_tol=1e-9):
        yield f"{name} has alpha {module.lora_alpha[adapter]}, not {alpha}"
    elif not math.isclose(module.scaling[adapter], scaling, rel_tol=1e-9):
        yield f"{name} has scaling {module.scaling[adapter]}, not {scaling}"


def _rows_of_a(module: Any, adapter: str) -> int:
    if adapter in module.lora_A:
        return int(module.lora_A[adapter].weight.shape[0])
    return int(module.lora_embedding_A[adapter].shape[0])
