"""The base class of rules that say which modules gain more from a rank, and leave the size of the adapter open."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rankselect.errors import ArgumentError, EvidenceError
from rankselect.plan.allocation import allocate
from rankselect.strategies._base import RankStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from rankselect.plan.targets import Target

__all__ = ["RelativeStrategy"]


@dataclass(frozen=True)
class RelativeStrategy(RankStrategy):
    """The base of rules that compare modules. They spend a budget, or as many parameters as a uniform rank has.

    Subclass it and write `gains`.

    Attributes:
        rank: Without a budget, a plan has at most the parameters of this rank in every module.

    Raises:
        ArgumentError: If the rank is below 1.

    Example:
        >>> from rankselect.plan.allocation import gains_of_wishes
        >>> from rankselect.testing import tiny_model
        >>> class LaterIsMore(RelativeStrategy):
        ...     def gains(self, targets, evidence):
        ...         return gains_of_wishes(targets, range(1, len(targets) + 1))
        >>> list(LaterIsMore(rank=6).plan(tiny_model(), target_modules=["q_proj"]).ranks.values())
        [4, 8]
    """

    rank: int = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ArgumentError("an integer rank of at least 1", repr(self.rank), "Common choices are 8, 16 and 64.")

    @abstractmethod
    def gains(self, targets: Sequence[Target], evidence: Any) -> list[NDArray[np.float64]]:
        """The gain per parameter of each module's first, second, … rank, as `allocate` takes them.

        Args:
            targets: The modules, in model order, with the bounds of the plan.
            evidence: An instance of the class in ``evidence``; None if that is None.

        Returns:
            For each target, as many numbers as its maximum rank: finite, not negative, not increasing. For ranks in
            proportion to numbers, there is `gains_of_wishes`.
        """

    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """The ranks of a plan without a budget."""
        return self.integer_ranks(targets, evidence)

    def integer_ranks(self, targets: Sequence[Target], evidence: Any, parameters: int | None = None) -> dict[str, int]:
        """The ranks with the greatest gain, within a budget or the parameters of the uniform rank."""
        gains = self.gains(targets, evidence)
        if not any(values.any() for values in gains):
            raise EvidenceError(
                f"evidence in which some module gains from a rank, for {self!r}",
                f"zeros for all {len(targets)} target modules",
                "Measure it on more rows, or look whether the model was loaded with its weights.",
            )
        if parameters is None:
            parameters = sum(target.parameters(target.clipped(self.rank)) for target in targets)
        return allocate(targets, gains, parameters)
