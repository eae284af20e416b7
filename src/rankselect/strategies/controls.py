"""Controls: strategies that spend another strategy's parameters differently, to see whether its choice matters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from rankselect.errors import ArgumentError
from rankselect.registry import create
from rankselect.strategies._base import RankStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.targets import Target

__all__ = ["SameParameters", "Shuffled", "Tilted"]

_HALVINGS = 60


@dataclass(frozen=True)
class _Control(RankStrategy):
    """What controls share: the strategy they are a control of, and its evidence."""

    strategy: RankStrategy | str

    def __post_init__(self) -> None:
        if isinstance(self.strategy, str):
            object.__setattr__(self, "strategy", create("strategy", self.strategy))
        if not isinstance(self.strategy, RankStrategy):
            raise ArgumentError(
                "a strategy, or the name of one", repr(self.strategy), 'For example PerLayerID() or "per-layer-id".'
            )

    @property
    def evidence(self) -> type[Evidence] | None:  # type: ignore[override]
        """What the strategy needs that this is a control of."""
        return None if isinstance(self.strategy, str) else self.strategy.evidence

    def wrapped(self, targets: Sequence[Target], evidence: Any) -> dict[str, int]:
        """The ranks of that strategy's own plan."""
        if isinstance(self.strategy, str):  # never: __post_init__ has made it
            return {}
        wishes = self.strategy.ranks(targets, evidence)
        return {target.name: possible_rank(target, wishes[target.name]) for target in targets}


@final
@dataclass(frozen=True)
class SameParameters(_Control):
    """One rank for all modules, with as nearly as possible as many trainable parameters as another strategy's plan.

    The control that every rank per layer has to beat: the same parameters, spread evenly.

    Args:
        strategy: The other strategy, or its name as the command line takes it.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3, "model.layers.1": 9})
        >>> set(SameParameters("per-layer-id").plan(tiny_model(), profile).ranks.values())
        {6}
    """

    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """The nearest rank."""
        budget = parameters(targets, self.wrapped(targets, evidence))
        ones = sum(target.parameters(1) for target in targets)
        return dict.fromkeys((target.name for target in targets), max(1.0, budget / ones))


@final
@dataclass(frozen=True)
class Shuffled(_Control):
    """Another strategy's ranks, moved to other layers at random: the same ranks and parameters, without the evidence.

    All modules of a layer move together, and only to layers with modules of the same names and sizes, so that the
    number of trainable parameters stays exactly the same. Modules outside the layers keep their rank.

    Args:
        strategy: The other strategy, or its name as the command line takes it.
        seed: Decides where they go.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3, "model.layers.1": 9})
        >>> Shuffled(rs.PerLayerID(), seed=3).plan(tiny_model(), profile, target_modules=["q_proj"]).ranks
        {'model.layers.0.self_attn.q_proj': 9, 'model.layers.1.self_attn.q_proj': 3}
    """

    seed: int = 0

    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """The wrapped ranks, permuted."""
        ranks: dict[str, float] = dict(self.wrapped(targets, evidence))
        generator = np.random.default_rng(self.seed)
        given = dict(ranks)
        for layers in _alike(targets).values():
            for layer, source in zip(layers, generator.permutation(len(layers)).tolist(), strict=True):
                for target, other in zip(layer, layers[source], strict=True):
                    ranks[target.name] = given[other.name]
        return ranks


@final
@dataclass(frozen=True)
class Tilted(_Control):
    """Ranks that fall or rise evenly over the depth, with the parameters of another strategy's plan.

    Args:
        strategy: The other strategy, or its name as the command line takes it.
        towards: ``"early"`` gives the first layers the most, ``"late"`` the last.
        steepness: How much more than the middle the end gets, as a share: with 0.8 the ranks go from 1.8 to 0.2 times
            that of the middle.

    Raises:
        ArgumentError: If `towards` is another word, or `steepness` is not between 0 and 1.

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
        if self.towards not in ("early", "late"):
            raise ArgumentError("early or late", repr(self.towards), "Say which layers get the most.")
        if not 0 < self.steepness <= 1:
            raise ArgumentError("a steepness above 0 and at most 1", repr(self.steepness), "For example 0.8.")

    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """A line over the depth, as high as the parameters allow."""
        budget = parameters(targets, self.wrapped(targets, evidence))
        depths = _depths(targets)
        sign = 1 if self.towards == "early" else -1

        def line(middle: float) -> dict[str, float]:
            return {
                target.name: middle * (1 + sign * self.steepness * (1 - 2 * depths[target.name])) for target in targets
            }

        return line(_nearest(lambda middle: _cost(targets, line(middle)), budget, max(t.max_rank for t in targets)))


def possible_rank(target: Target, wish: float) -> int:
    """A wish as the rank of a plan: rounded half up, at least 1, at most the module's size."""
    return min(max(math.floor(wish + 0.5), 1), target.max_rank)


def parameters(targets: Sequence[Target], ranks: Mapping[str, int]) -> int:
    """How many parameters adapters of these ranks train."""
    return sum(target.parameters(ranks[target.name]) for target in targets)


def _cost(targets: Sequence[Target], wishes: Mapping[str, float]) -> int:
    return parameters(targets, {target.name: possible_rank(target, wishes[target.name]) for target in targets})


def _nearest(cost: Callable[[float], int], budget: int, greatest: int) -> float:
    """The number whose cost, which grows with it, is nearest to a budget."""
    low, high = 0.0, 2.0 * greatest
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return low if budget - cost(low) <= cost(high) - budget else high


def _depths(targets: Sequence[Target]) -> dict[str, float]:
    """Where each module stands between the first layer (0) and the last (1); outside the layers in the middle."""
    layers = list(dict.fromkeys(target.layer for target in targets if target.layer is not None))
    last = max(len(layers) - 1, 1)
    middle = 0.5
    return {
        target.name: middle if target.layer is None or len(layers) == 1 else layers.index(target.layer) / last
        for target in targets
    }


def _alike(targets: Sequence[Target]) -> dict[tuple[Any, ...], list[list[Target]]]:
    """Layers (as lists of their modules) by the names and sizes of their modules."""
    layers: dict[str, list[Target]] = {}
    for target in targets:
        if target.layer is not None:
            layers.setdefault(target.layer, []).append(target)
    alike: dict[tuple[Any, ...], list[list[Target]]] = {}
    for name, modules in layers.items():
        kind = tuple((module.name.removeprefix(name), module.d_in, module.d_out) for module in modules)
        alike.setdefault(kind, []).append(modules)
    return alike
