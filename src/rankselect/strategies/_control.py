"""The base class of controls, each of which wraps a strategy and rearranges the ranks of its plan."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rankselect.errors import RankSelectWarning
from rankselect.plan.planned_module import nearest_rank
from rankselect.strategies._base import RankStrategy, strategy
from rankselect.strategies.planning import planned_ranks
from rankselect.strategies.spending import spent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.plan.targets import Target

__all__ = ["Control", "closest_ranks"]


@dataclass(frozen=True)
class Control(RankStrategy):
    """The base of strategies that rearrange the ranks which another strategy's plan would have.

    Subclass it and write `rearranged`. The evidence is that of the wrapped strategy, its ranks are those of its own
    plan within the same bounds, and a control that changes nothing warns.

    Attributes:
        strategy: The wrapped strategy: an instance, or its name as the command line takes it (``"fixed:rank=8"``).

    Raises:
        UnknownNameError: If no strategy of this name is installed.
        ArgumentError: If it is neither a strategy nor a name.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> class Reversed(Control):
        ...     def rearranged(self, targets, ranks):
        ...         return dict(zip(ranks, reversed(ranks.values())))
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 8.0})
        >>> list(Reversed("per-layer-id").plan(tiny_model(), profile, target_modules=["q_proj"]).ranks.values())
        [8, 3]
    """

    strategy: RankStrategy | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", strategy(self.strategy))
        object.__setattr__(self, "evidence", self._wrapped.evidence)  # that of the instance, not of the class

    @abstractmethod
    def rearranged(self, targets: Sequence[Target], ranks: Mapping[str, int]) -> Mapping[str, float]:
        """The control's ranks.

        Args:
            targets: The modules, in model order, with the bounds of the plan.
            ranks: The ranks of the wrapped strategy's plan, ``{full module name: rank}`` in the same order.
        """

    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """The control's ranks for a plan with the targets' bounds."""
        return self._rearranged(targets, self._wrapped.integer_ranks(targets, evidence))

    def integer_ranks(self, targets: Sequence[Target], evidence: Any, parameters: int | None = None) -> dict[str, int]:
        """The control's ranks: those of the wrapped strategy's plan within the same budget, rearranged."""
        rearranged = self._rearranged(targets, self._wrapped.integer_ranks(targets, evidence, parameters))
        ranks = planned_ranks(repr(self), targets, rearranged)
        if parameters is None or sum(target.parameters(ranks[target.name]) for target in targets) <= parameters:
            return ranks
        return spent(repr(self), targets, rearranged, parameters)

    def _rearranged(self, targets: Sequence[Target], ranks: Mapping[str, int]) -> Mapping[str, float]:
        wrapped = self._wrapped
        rearranged = self.rearranged(targets, ranks)
        if rearranged == ranks:
            warnings.warn(
                f"{self!r} gives every module the rank that {wrapped!r} gives it: an arm of it repeats that one.",
                RankSelectWarning,
                stacklevel=5,  # the caller of plan
            )
        return rearranged

    @property
    def _wrapped(self) -> RankStrategy:
        return cast("RankStrategy", self.strategy)


def closest_ranks(targets: Sequence[Target], weights: Sequence[float], parameters: int) -> dict[str, int]:
    """Ranks in proportion to weights, of which the number of trainable parameters is nearest to a given one.

    A rank is scale x weight, rounded and clipped to the target's bounds and size. The parameters grow with the scale,
    in steps, so bisection finds the last scale with fewer of them and the first with as many or more.
    Where ranks of several weights rise in that one step, they rise one weight after the other, the greatest first.
    Of two results that are equally near, the smaller is taken.

    Args:
        targets: The modules, with the bounds of the plan.
        weights: One for each module, finite and at least 0, not all 0.
        parameters: The number to come near to.

    Example:
        >>> from rankselect.plan.targets import Target
        >>> targets = [Target("layers.0.fc1", "layers.0", 64, 64), Target("layers.1.fc1", "layers.1", 64, 64)]
        >>> closest_ranks(targets, [3.0, 1.0], 12 * 128)
        {'layers.0.fc1': 9, 'layers.1.fc1': 3}
    """

    def at(scale: float) -> list[int]:
        pairs = zip(targets, weights, strict=True)
        return [target.clipped(nearest_rank(scale * weight)) for target, weight in pairs]

    def distance(ranks: list[int]) -> int:
        return sum(target.parameters(rank) for target, rank in zip(targets, ranks, strict=True)) - parameters

    highest = max(target.clipped(target.max_rank) for target in targets)
    low, high = 0.0, (highest + 1) / min(weight for weight in weights if weight > 0)
    if distance(at(low)) < 0:
        while low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if distance(at(middle)) < 0 else (low, middle)
    candidates, raised = [at(low)], at(high)
    for least in sorted(set(weights), reverse=True):
        pairs = zip(candidates[0], raised, weights, strict=True)
        candidates.append([after if weight >= least else before for before, after, weight in pairs])
    nearest = min(candidates, key=lambda ranks: abs(distance(ranks)))
    return {target.name: rank for target, rank in zip(targets, nearest, strict=True)}
