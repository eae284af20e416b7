"""What controls share: each wraps a strategy and rearranges the ranks of its plan."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rankselect.errors import ArgumentError, RankSelectWarning
from rankselect.registry import create
from rankselect.strategies._base import RankStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.targets import Target

__all__ = ["Control", "closest_ranks"]


@dataclass(frozen=True)
class Control(RankStrategy):
    """The base of strategies that rearrange the ranks which another strategy's plan would have.

    Subclass it and write `rearranged`. The evidence is that of the wrapped strategy, its ranks are those of its own
    plan within the same bounds, and a control that changes nothing says so.

    Attributes:
        strategy: The wrapped strategy: an instance, or its name as the command line takes it (``"fixed:rank=8"``).

    Raises:
        UnknownNameError: If no strategy of this name is installed.
        ArgumentError: If it is neither a strategy nor a name.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> class Reversed(Control):
        ...     def rearranged(self, targets, ranks, min_rank, max_rank):
        ...         return dict(zip(ranks, reversed(ranks.values())))
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 8.0})
        >>> list(Reversed("per-layer-id").plan(tiny_model(), profile, target_modules=["q_proj"]).ranks.values())
        [8, 3]
    """

    strategy: RankStrategy | str

    def __post_init__(self) -> None:
        given = create("strategy", self.strategy) if isinstance(self.strategy, str) else self.strategy
        if not isinstance(given, RankStrategy):
            got = given.__name__ if isinstance(given, type) else repr(given)
            raise ArgumentError(
                f"a strategy, or the name of one, for {type(self).__name__}",
                got,
                "Wrap an instance, such as PerLayerID(), or a name, such as 'per-layer-id' or 'fixed:rank=8'.",
            )
        object.__setattr__(self, "strategy", given)

    @property
    def evidence(self) -> type[Evidence] | None:  # type: ignore[override]
        """The evidence of the wrapped strategy."""
        return self._wrapped.evidence

    @abstractmethod
    def rearranged(
        self, targets: Sequence[Target], ranks: Mapping[str, int], min_rank: int, max_rank: int | None
    ) -> Mapping[str, float]:
        """The control's ranks.

        Args:
            targets: The modules, in model order.
            ranks: The ranks of the wrapped strategy's plan, ``{full module name: rank}`` in the same order.
            min_rank: The bound of the plan below.
            max_rank: The bound of the plan above, if it has one.
        """

    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """The control's ranks for a plan without bounds."""
        return self.ranks_within(targets, evidence, 1, None)

    def ranks_within(
        self, targets: Sequence[Target], evidence: Any, min_rank: int, max_rank: int | None
    ) -> Mapping[str, float]:
        """The control's ranks for a plan with these bounds."""
        ranks = self._wrapped.planned_ranks(targets, evidence, min_rank=min_rank, max_rank=max_rank)
        rearranged = self.rearranged(targets, ranks, min_rank, max_rank)
        if rearranged == ranks:
            warnings.warn(
                f"{self!r} gives every module the rank that {self._wrapped!r} gives it: an arm of it repeats that one.",
                RankSelectWarning,
                stacklevel=4,  # the caller of plan
            )
        return rearranged

    @property
    def _wrapped(self) -> RankStrategy:
        return cast("RankStrategy", self.strategy)


def closest_ranks(
    targets: Sequence[Target], weights: Sequence[float], parameters: int, min_rank: int, max_rank: int | None
) -> dict[str, int]:
    """Ranks in proportion to weights, of which the number of trainable parameters is nearest to a given one.

    A rank is scale x weight, rounded (half up) and clipped to the bounds and the module's size. The parameters grow
    with the scale, in steps, so bisection finds the last scale with fewer of them and the first with as many or more.
    Where ranks of several weights rise in that one step, they rise one weight after the other, the greatest first.
    Of two results that are equally near, the smaller is taken.

    Args:
        targets: The modules.
        weights: One for each module, finite and at least 0, not all 0.
        parameters: The number to come near to.
        min_rank: No rank is below this.
        max_rank: No rank is above this, nor above the module's size.

    Example:
        >>> from rankselect.plan.targets import Target
        >>> targets = [Target("layers.0.fc1", "layers.0", 64, 64), Target("layers.1.fc1", "layers.1", 64, 64)]
        >>> closest_ranks(targets, [3.0, 1.0], 12 * 128, 1, None)
        {'layers.0.fc1': 9, 'layers.1.fc1': 3}
    """
    limits = [min(target.max_rank, max_rank or target.max_rank) for target in targets]

    def at(scale: float) -> list[int]:
        wishes = (max(math.floor(scale * weight + 0.5), min_rank) for weight in weights)
        return [min(wish, limit) for wish, limit in zip(wishes, limits, strict=True)]

    def distance(ranks: list[int]) -> int:
        return sum(target.parameters(rank) for target, rank in zip(targets, ranks, strict=True)) - parameters

    low, high = 0.0, (max(limits) + 1) / min(weight for weight in weights if weight > 0)
    if distance(at(low)) < 0:
        while low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if distance(at(middle)) < 0 else (low, middle)
    candidates, raised = [at(low)], at(high)
    for least in sorted(set(weights), reverse=True):
        pairs = zip(candidates[0], raised, weights, strict=True)
        candidates.append([after if weight >= least else before for before, after, weight in pairs])
    nearest = min(candidates, key=lambda ranks: abs(distance(ranks)))
    return {target.name: rank for target, rank in zip(targets, nearest, strict=True)}
