"""One way to choose ranks, as it takes part in a study."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, final

from rankselect.errors import ArgumentError
from rankselect.registry import create
from rankselect.strategies._base import RankStrategy

__all__ = ["Arm"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


@final
@dataclass(frozen=True)
class Arm:
    """An arm of a study.

    Attributes:
        name: Its name in tables and file names: letters, digits, ``-``, ``_`` and ``+``.
        strategy: What chooses its ranks: a strategy, its name as the command line takes it (``"fixed:rank=16"``), or
            None for the base model without an adapter.
        learning_rates: The grid its learning rate is chosen from, or empty for the study's.
        alpha_ratios: The grid its alpha ratio is chosen from, or empty for the study's.

    Raises:
        ArgumentError: If the name is not one, or a grid has values that are not positive.

    Example:
        >>> Arm("rank-16", "fixed:rank=16").made
        Fixed(rank=16)
        >>> Arm("base").made is None
        True
    """

    name: str
    strategy: RankStrategy | str | None = None
    learning_rates: tuple[float, ...] = ()
    alpha_ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ArgumentError("a name of letters, digits, -, _ and +", repr(self.name), "Rename the arm.")
        for grid in (self.learning_rates, self.alpha_ratios):
            if not all(isinstance(value, (int, float)) and value > 0 for value in grid):
                raise ArgumentError(f"positive values in the grids of {self.name}", repr(grid), "For example 3e-4.")

    @property
    def made(self) -> RankStrategy | None:
        """The strategy, made if it was given by name.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        if self.strategy is None or isinstance(self.strategy, RankStrategy):
            return self.strategy
        made: RankStrategy = create("strategy", self.strategy)
        return made

    def to_dict(self) -> dict[str, Any]:
        """The arm in JSON values; a strategy as Python would write it."""
        return {
            "name": self.name,
            "strategy": None if self.strategy is None else repr(self.made),
            "learning_rates": list(self.learning_rates),
            "alpha_ratios": list(self.alpha_ratios),
        }
