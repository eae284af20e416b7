"""Holds a built PEFT model against the ranks and alphas that were planned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rankselect.errors import PlanMismatchError
from rankselect.models.layers import unwrapped
from rankselect.plan._peft import BuiltLayer, active_adapters, built, lora_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

__all__ = ["verify"]

_SHOWN = 5


def verify(
    peft_model: nn.Module, ranks: Mapping[str, int], alphas: Mapping[str, float], *, rank_stabilized: bool = False
) -> None:
    """Compare every LoRA layer of the active adapter with the plan.

    Args:
        peft_model: A model with LoRA layers.
        ranks: The planned rank of every module that should have an adapter.
        alphas: The planned alpha of the same modules.
        rank_stabilized: Whether the plan demands scales of alpha / sqrt(rank).

    Raises:
        PlanMismatchError: If a module is missing, is one too many, or differs in rank, alpha or scaling.
    """
    layers = lora_layers(peft_model)
    adapter = _active_adapter(layers, peft_model)
    found = {name: layer for name, layer in ((name, built(layer, adapter)) for name, layer in layers.items()) if layer}
    differences = [f"{name} has no adapter" for name in ranks if name not in found]
    differences += [f"{name} has an adapter that was not planned" for name in found if name not in ranks]
    config = getattr(unwrapped(peft_model), "peft_config", {}).get(adapter)
    rslora = bool(getattr(config, "use_rslora", False))
    if rank_stabilized and not rslora:
        differences.append("use_rslora is False, not True")
    for name in ranks.keys() & found.keys():
        differences += _compare(name, found[name], ranks[name], alphas[name], rslora=rslora)
    if differences:
        shown = "; ".join(sorted(differences)[:_SHOWN])
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        count = "1 difference" if len(differences) == 1 else f"{len(differences)} differences"
        raise PlanMismatchError(
            "a PEFT model that is exactly the plan",
            f"{count}: {shown}{more}",
            "Build it with get_peft_model(model, plan.to_lora_config()), and plan on that very model.",
        )


def _active_adapter(layers: Mapping[str, Any], peft_model: nn.Module) -> str:
    active = {adapter for layer in layers.values() for adapter in active_adapters(layer)}
    if len(active) != 1:
        raise PlanMismatchError(
            "a model with LoRA layers and one active adapter",
            f"a {type(peft_model).__name__} with {' and '.join(sorted(active)) or 'none'}",
            "Pass the model that get_peft_model returned, with the planned adapter active.",
        )
    return str(active.pop())


def _compare(name: str, layer: BuiltLayer, rank: int, alpha: float, *, rslora: bool) -> Iterator[str]:
    scaling = alpha / math.sqrt(rank) if rslora else alpha / rank
    if layer.rank != rank:
        yield f"{name} has rank {layer.rank}, not {rank}"
    elif layer.n_rows != rank:
        yield f"{name} has {layer.n_rows} rows in lora_A, not {rank}"
    if not math.isclose(layer.alpha, alpha, rel_tol=1e-9):
        yield f"{name} has alpha {layer.alpha}, not {alpha}"
    elif not math.isclose(layer.scaling, scaling, rel_tol=1e-9):
        yield f"{name} has scaling {layer.scaling}, not {scaling}"
