"""One rank for every module: the baseline that any other strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError
from rankselect.strategies._base import RankStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.plan.targets import Target

__all__ = ["Fixed"]


@final
@dataclass(frozen=True)
class Fixed(RankStrategy):
    """The same rank everywhere, as PEFT's ``r`` does it.

    Attributes:
        rank: The rank, at least 1. Modules smaller than it are clipped to their size, with a warning.

    Raises:
        ArgumentError: If the rank is below 1.

    References:
        Hu et al., *LoRA: Low-rank adaptation of large language models*, 2021, arXiv:2106.09685.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> set(Fixed(4).plan(tiny_model()).ranks.values())
        {4}
    """

    rank: int

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise ArgumentError("an integer rank of at least 1", repr(self.rank), "Common choices are 8, 16 and 64.")

    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """`rank`, for every target."""
        return {target.name: self.rank for target in targets}
