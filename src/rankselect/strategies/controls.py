"""Controls: plans to compare with that of a strategy, to see whether its ranks make a difference.

A plan may train well because of how many parameters it trains, because it gives different layers different ranks, or
because it gives more to early or late layers. Each control keeps some of these and takes the others away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from rankselect.errors import ArgumentError
from rankselect.strategies._control import Control, closest_ranks
from rankselect.strategies.intrinsic import layer_of_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.plan.targets import Target

__all__ = ["ByType", "SameParameters", "Shuffled", "Tilted"]


@final
@dataclass(frozen=True)
class SameParameters(Control):
    """One rank for every module, with as many trainable parameters as the wrapped strategy's plan.

    Any strategy that gives layers different ranks has to beat it. The rank is the one whose number of
    parameters is nearest to that of the plan, so the two differ by at most half of what one rank costs; modules
    smaller than the rank are clipped to their size, as everywhere, and counted so.

    Attributes:
        strategy: The wrapped strategy: an instance, or its name as the command line takes it.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 9.0})
        >>> set(SameParameters(rs.PerLayerID()).plan(tiny_model(), profile).ranks.values())
        {6}
    """

    def rearranged(self, targets: Sequence[Target], ranks: Mapping[str, int]) -> Mapping[str, float]:
        """The uniform rank, for every target."""
        return closest_ranks(targets, [1.0] * len(targets), _parameters(targets, ranks))


@final
@dataclass(frozen=True)
class Shuffled(Control):
    """The ranks of the wrapped strategy's plan, given to other layers or modules at random.

    It has the same ranks and exactly as many trainable parameters; only which layer or module has which is left to
    chance. If a strategy is no better than this, its evidence did not help.

    Within layers, all modules of a layer move together; where ranks differ inside a layer, each module's goes to the
    module of the same name in the other layer. Layers change places only with layers whose target modules have the
    same names and shapes. Modules outside every layer keep their rank. Within types, each module changes places with
    modules of the same name and shape in any layer, for strategies that look at single modules. With few layers a seed
    may happen to leave everything in its place; a warning says so.

    Attributes:
        strategy: The wrapped strategy: an instance, or its name as the command line takes it.
        seed: Of the permutation, at least 0.
        within: ``"layer"``: whole layers change places. ``"type"``: modules of one type do.

    Raises:
        ArgumentError: If the seed is not an integer of at least 0, or `within` is something else.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 9.0})
        >>> plan = Shuffled("per-layer-id", seed=3).plan(tiny_model(), profile, target_modules=["q_proj"])
        >>> plan.ranks
        {'model.layers.0.self_attn.q_proj': 9, 'model.layers.1.self_attn.q_proj': 3}
    """

    seed: int = 0
    within: Literal["layer", "type"] = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ArgumentError("a seed that is an integer of at least 0", repr(self.seed), "For example seed=1.")
        if self.within not in {"layer", "type"}:
            raise ArgumentError('within "layer" or "type"', repr(self.within), "Say what changes places.")

    def __repr__(self) -> str:
        within = "" if self.within == "layer" else f", within={self.within!r}"  # plans of earlier releases have no name
        return f"Shuffled(strategy={self.strategy!r}, seed={self.seed!r}{within})"

    def rearranged(self, targets: Sequence[Target], ranks: Mapping[str, int]) -> Mapping[str, float]:
        """The same ranks in another order. Layers and modules that change places have the same bounds and sizes."""
        rng = np.random.default_rng(self.seed)
        if self.within == "type":
            givers: dict[str, str] = {}
            for names in _same_types(targets):
                order = rng.permutation(len(names))
                givers.update({name: names[other] for name, other in zip(names, order, strict=True)})
            return {target.name: ranks[givers[target.name]] for target in targets}
        giver = {}
        for layers in _interchangeable(targets):
            order = rng.permutation(len(layers))
            giver.update({layer: layers[other] for layer, other in zip(layers, order, strict=True)})
        return {
            target.name: ranks[giver[target.layer] + target.name[len(target.layer) :] if target.layer else target.name]
            for target in targets
        }


@final
@dataclass(frozen=True)
class ByType(Control):
    """The mean rank of the wrapped strategy's plan for each type of module, with as many trainable parameters.

    A type is a name inside a layer, such as ``mlp.up_proj``. If a strategy is no better than this, it only knows that
    some types need more rank than others, which takes no measurement of single modules. The means are scaled together
    so that the number of parameters comes nearest to that of the plan.

    Attributes:
        strategy: The wrapped strategy: an instance, or its name as the command line takes it.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> class Uneven(rs.RankStrategy):
        ...     def ranks(self, targets, evidence):
        ...         return {target.name: 2 + 2 * index for index, target in enumerate(targets)}
        >>> list(ByType(Uneven()).plan(tiny_model(), target_modules=["q_proj", "k_proj"]).ranks.values())
        [4, 6, 4, 6]
    """

    def rearranged(self, targets: Sequence[Target], ranks: Mapping[str, int]) -> Mapping[str, float]:
        """The mean rank of each target's type."""
        by_type: dict[str, list[int]] = {}
        for target in targets:
            by_type.setdefault(_type_of(target), []).append(ranks[target.name])
        means = {kind: sum(each) / len(each) for kind, each in by_type.items()}
        return closest_ranks(targets, [means[_type_of(target)] for target in targets], _parameters(targets, ranks))


@final
@dataclass(frozen=True)
class Tilted(Control):
    r"""Ranks that fall or rise linearly over depth, with as many trainable parameters as the wrapped strategy's plan.

    The layer at depth :math:`t`, from -1 (the first) to 1 (the last), gets :math:`r\,(1 - s\,t)` if tilted towards
    early layers and :math:`r\,(1 + s\,t)` towards late ones, with s the steepness; r is chosen so that the number
    of parameters comes nearest to that of the plan. All modules of a layer get the same rank. Where a strategy gives
    more to one end of the model, this shows whether the end alone explains the gain, and how much depth matters.

    Depth is the order of the layers in the model, encoder before decoder, and counts layers with target modules only.
    After rounding, ranks of 1 or 2 hardly change. The parameters differ by at most half of what one rank costs in the
    largest layer, unless bounds or the modules' sizes flatten the line.

    Attributes:
        strategy: The wrapped strategy: an instance, or its name as the command line takes it.
        towards: Which layers get more: ``"early"`` or ``"late"``.
        steepness: By which share of the middle's rank the ends differ from it, above 0 and at most 1: at 0.5 one end
            has three times the rank of the other, at 0.8 nine times.

    Raises:
        ArgumentError: If an argument is out of its range.
        TargetError: From `plan`, if a target lies outside the layers.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> plan = Tilted(rs.Fixed(10), towards="late").plan(tiny_model(), target_modules=["q_proj"])
        >>> plan.ranks
        {'model.layers.0.self_attn.q_proj': 2, 'model.layers.1.self_attn.q_proj': 18}
    """

    towards: Literal["early", "late"] = "early"
    steepness: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.towards not in {"early", "late"}:
            raise ArgumentError('towards "early" or "late"', repr(self.towards), "Name the layers that get more.")
        number = isinstance(self.steepness, (int, float)) and not isinstance(self.steepness, bool)
        if not (number and math.isfinite(self.steepness) and 0 < self.steepness <= 1):
            raise ArgumentError(
                "a steepness above 0 and at most 1",
                repr(self.steepness),
                "At 0.5 one end has three times the rank of the other; for no tilt there is SameParameters.",
            )

    def rearranged(self, targets: Sequence[Target], ranks: Mapping[str, int]) -> Mapping[str, float]:
        """The rank of each target's layer on the line."""
        layers = list(dict.fromkeys(layer_of_target(target) for target in targets))
        ends = (1.0, -1.0) if self.towards == "early" else (-1.0, 1.0)
        line = np.linspace(*ends, len(layers)) if len(layers) > 1 else np.zeros(1)
        weight = dict(zip(layers, (1 + self.steepness * line).tolist(), strict=True))
        weights = [weight[layer_of_target(target)] for target in targets]
        return closest_ranks(targets, weights, _parameters(targets, ranks))


def _parameters(targets: Sequence[Target], ranks: Mapping[str, int]) -> int:
    return sum(target.parameters(ranks[target.name]) for target in targets)


def _type_of(target: Target) -> str:
    """The name of a module inside its layer, without numbers: experts of a mixture are of one type."""
    inside = target.name.removeprefix(f"{target.layer}.") if target.layer else target.name
    return ".".join(part for part in inside.split(".") if not part.isdigit())


def _same_types(targets: Sequence[Target]) -> list[list[str]]:
    """The names of modules of one type and shape, in model order."""
    groups: dict[tuple[str, int, int], list[str]] = {}
    for target in targets:
        groups.setdefault((_type_of(target), target.d_in, target.d_out), []).append(target.name)
    return list(groups.values())


def _interchangeable(targets: Sequence[Target]) -> list[list[str]]:
    """The layers, in groups whose target modules have the same names and shapes; in model order."""
    modules: dict[str, list[tuple[str, int, int]]] = {}
    for target in targets:
        if target.layer is not None:
            inside = target.name[len(target.layer) :]
            modules.setdefault(target.layer, []).append((inside, target.d_in, target.d_out))
    groups: dict[tuple[tuple[str, int, int], ...], list[str]] = {}
    for layer, inside_it in modules.items():
        groups.setdefault(tuple(sorted(inside_it)), []).append(layer)
    return list(groups.values())
