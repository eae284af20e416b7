"""The modules that get an adapter: PEFT's `target_modules`, resolved against a real model."""

from __future__ import annotations

import difflib
import logging
import re
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankselect.errors import ModelError, TargetError
from rankselect.models.layers import find_layers, is_adaptable, layer_of, other_towers, unwrapped, widths
from rankselect.plan import _peft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

__all__ = ["Target", "find_targets"]

logger = logging.getLogger(__name__)
_said: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # models whose towers have been reported


@dataclass(frozen=True)
class Target:
    """One module that gets an adapter.

    Attributes:
        name: Its full name in the model.
        layer: The name of the layer that contains it, or None outside every layer (a pooler, an output head).
        d_in: The width of its input.
        d_out: The width of its output.
        at_least: The plan's `min_rank`. A strategy may look at the bounds, and need not: ranks are clipped to them.
        at_most: The plan's `max_rank`, or None if it has none.

    Example:
        >>> target = Target("layers.0.fc1", "layers.0", d_in=64, d_out=256, at_least=4)
        >>> target.max_rank, target.clipped(1), target.clipped(99), target.parameters(rank=8)
        (64, 4, 64, 2560)
    """

    name: str
    layer: str | None
    d_in: int
    d_out: int
    at_least: int = 1
    at_most: int | None = None

    @property
    def max_rank(self) -> int:
        """The smaller width, ``min(d_in, d_out)``; above it a low-rank update is no longer low."""
        return min(self.d_in, self.d_out)

    def within_plan(self, rank: int) -> int:
        """The nearest rank within the bounds of the plan, regardless of the size of the module."""
        rank = max(rank, self.at_least)
        return rank if self.at_most is None else min(rank, self.at_most)

    def clipped(self, rank: int) -> int:
        """The nearest rank that the bounds of the plan allow and the module can have; its size has the last word."""
        return min(self.within_plan(rank), self.max_rank)

    def parameters(self, rank: int) -> int:
        """How many parameters an adapter of this rank trains: A is (rank, d_in), B is (d_out, rank)."""
        return rank * (self.d_in + self.d_out)


def find_targets(model: nn.Module, target_modules: str | Sequence[str] | None = None) -> tuple[Target, ...]:
    """Resolve `target_modules` to the modules of a model.

    Args:
        model: The model as it will be handed to PEFT. Weights are not read: the meta device will do.
        target_modules: As PEFT takes it: a list of names (the end of the full name, at a dot), one regular
            expression (over the full name), ``"all-linear"``, or None for PEFT's default of the model family, and
            where PEFT has none, all linear modules. "All linear" here means those inside the model's layers: PEFT's
            own shorthand also takes poolers and other heads, which no layer's evidence describes. Of a multimodal
            language model, only the modules that run on texts are taken, unless an expression names others, or a
            name matches nothing else.

    Returns:
        The targets in model order, never empty.

    Raises:
        TargetError: If a name or expression matches nothing, or something that LoRA or PEFT cannot adapt.
        ModelError: If the model already carries an adapter.

    Example:
        >>> from torch import nn
        >>> block = lambda: nn.ModuleDict({"q_proj": nn.Linear(4, 4), "fc1": nn.Linear(4, 8)})
        >>> model = nn.ModuleDict({"layers": nn.ModuleList([block(), block()])})
        >>> [target.name for target in find_targets(model, ["fc1"])]
        ['layers.0.fc1', 'layers.1.fc1']
    """
    if unwrapped(model) is not model:
        raise ModelError(
            "the bare model, as it will be handed to PEFT",
            f"one inside a wrapper ({type(model).__name__})",
            "Plan on the base model; merge or unload an adapter that is already there.",
        )
    modules = dict(model.named_modules())
    layers = find_layers(model)
    if _peft.lora_layers(model):
        raise ModelError(
            "a model without adapters", "one with LoRA layers", "Merge or unload them, then plan on the base model."
        )
    if target_modules is None:
        names = _by_default(model, modules) or _all_linear(model, modules, layers)
    elif isinstance(target_modules, str) and target_modules.lower() == "all-linear":
        names = _all_linear(model, modules, layers)
    else:
        names = _named(target_modules, model, modules)
    if not isinstance(target_modules, str) or target_modules.lower() == "all-linear":
        names = _on_texts(names, model)
    return tuple(Target(name, layer_of(name, layers), *widths(modules[name])) for name in names)


def _on_texts(names: list[str], model: nn.Module) -> list[str]:
    """The modules that run on texts, if there are any; those in towers for images, audio or video are left out."""
    towers = other_towers(model)
    kept = [name for name in names if not name.startswith(tuple(f"{tower}." for tower in towers))]
    if kept and len(kept) < len(names) and model not in _said:
        _said.add(model)
        logger.warning(
            "Left out of the target modules, because they do not run on texts: %d modules of %s.",
            len(names) - len(kept),
            ", ".join(towers),
        )
    return kept or names


def _named(wanted: str | Sequence[str], model: nn.Module, modules: dict[str, nn.Module]) -> list[str]:
    """The modules that the caller named. Every entry must match, and all modules that it matches must be adaptable."""
    if isinstance(wanted, str):
        _check_expression(wanted)
    for entry in [wanted] if isinstance(wanted, str) else wanted:
        if not _peft.matching(entry if isinstance(wanted, str) else [entry], list(modules)):
            raise _nothing_matches(entry, modules)
    names = _peft.matching(wanted, list(modules))
    if not names:
        raise TargetError("at least one target module", "an empty list", "Name modules, or leave it at None.")
    for name in names:
        if not is_adaptable(modules[name]):
            raise TargetError(
                "target_modules that are linear, Conv1D or embedding modules",
                f"{name}, a {type(modules[name]).__name__}",
                "Name the modules inside it, for example by their last part.",
            )
    refused = _peft.refused(model, names)
    if refused:
        name, reason = next(iter(refused.items()))
        raise TargetError(
            "target_modules that PEFT can adapt in this model",
            f"{name} ({len(refused)} such in all)",
            f"{reason} Leave them out of target_modules.",
        )
    return names


def _by_default(model: nn.Module, modules: dict[str, nn.Module]) -> list[str]:
    """PEFT's default names for the model family, where they fit this model; else nothing."""
    default = _peft.default_target_modules(model)
    if default is None:
        return []
    names = [name for name in _peft.matching(default, list(modules)) if is_adaptable(modules[name])]
    refused = _peft.refused(model, names)
    return [name for name in names if name not in refused]


def _check_expression(wanted: str) -> None:
    try:
        re.compile(wanted)
    except re.error as error:
        raise TargetError(
            "a regular expression where target_modules is a string", f"{wanted!r} ({error})", "Or pass a list of names."
        ) from error


def _nothing_matches(entry: str, modules: dict[str, nn.Module]) -> TargetError:
    endings = sorted({name.rsplit(".", 1)[-1] for name, module in modules.items() if is_adaptable(module)})
    near = difflib.get_close_matches(entry.rsplit(".", 1)[-1], endings, n=3)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    if entry in endings:  # a bare string
        hint = f"A string is one regular expression over the full name; write [{entry!r}]. "
    return TargetError(
        "target_modules that name modules of this model",
        f"{entry!r}, which matches no module",
        f"{hint}Modules that LoRA can adapt here end in: {', '.join(endings) or 'none'}.",
    )


def _all_linear(model: nn.Module, modules: dict[str, nn.Module], layers: dict[str, nn.Module]) -> list[str]:
    linear = [
        name for name, module in modules.items() if is_adaptable(module) and not hasattr(module, "num_embeddings")
    ]
    inside = [name for name in linear if layer_of(name, layers) is not None]
    refused = _peft.refused(model, inside)
    left_out = [name for name in linear if name not in set(inside)] + list(refused)
    if left_out:
        logger.info("Left out of the target modules, outside the layers or refused by PEFT: %s", ", ".join(left_out))
    names = [name for name in inside if name not in refused]
    if not names:
        raise TargetError(
            "a model with linear modules inside a list of layers",
            f"{type(model).__name__}, where none was found",
            "Name the modules yourself with target_modules.",
        )
    return names
