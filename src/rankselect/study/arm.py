"""An arm of a study: a name, a strategy that chooses ranks, and the grids of its hyperparameters."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError
from rankselect.study.recorded import recorded_strategy, strategy_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankselect.strategies._base import RankStrategy

__all__ = ["Arm", "grid_from"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


@final
@dataclass(frozen=True, init=False)
class Arm:
    """An arm of a study.

    Args:
        name: Its name in tables and file names: letters, digits, ``-``, ``_`` and ``+``.
        strategy: The strategy that chooses its ranks: an instance, a name as on the command line
            (``"fixed:rank=16"``), or None for the base model without an adapter.
        learning_rates: The grid its learning rate is chosen from; if empty, the study's grid is used.
        alpha_ratios: The grid its alpha ratio is chosen from; if empty, the study's grid is used.

    Raises:
        UnknownNameError: If there is no strategy with this name.
        ArgumentError: If the arm's name contains other characters, or a grid contains a value that is not positive.

    Example:
        >>> Arm("rank-16", "fixed:rank=16", learning_rates=[1e-4, 3e-4])
        Arm(name='rank-16', strategy=Fixed(rank=16), learning_rates=(0.0001, 0.0003), alpha_ratios=())
        >>> Arm("base").strategy is None
        True
    """

    name: str
    strategy: RankStrategy | None
    learning_rates: tuple[float, ...]
    alpha_ratios: tuple[float, ...]

    def __init__(
        self,
        name: str,
        strategy: RankStrategy | str | None = None,
        learning_rates: Iterable[float] = (),
        alpha_ratios: Iterable[float] = (),
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ArgumentError("a name of letters, digits, -, _ and +", repr(name), "Rename the arm.")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "strategy", None if strategy is None else strategy_from(strategy))
        object.__setattr__(self, "learning_rates", grid_from(learning_rates, f"learning rates of {name}"))
        object.__setattr__(self, "alpha_ratios", grid_from(alpha_ratios, f"alpha ratios of {name}"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Arm:
        """Rebuild an arm from `to_dict`. A strategy that is not installed here is kept as its recorded text."""
        text = values["strategy"]
        return cls(**{**values, "strategy": None if text is None else recorded_strategy(text)})

    def to_dict(self) -> dict[str, Any]:
        """The arm in JSON values; the strategy is written as its repr."""
        return {
            "name": self.name,
            "strategy": None if self.strategy is None else repr(self.strategy),
            "learning_rates": list(self.learning_rates),
            "alpha_ratios": list(self.alpha_ratios),
        }


def grid_from(given: Iterable[float], what: str) -> tuple[float, ...]:
    """Return a grid of values as a tuple, after checking that each is positive and finite.

    Raises:
        ArgumentError: If a value is not.

    Example:
        >>> grid_from([1e-4, 3e-4], "learning rates")
        (0.0001, 0.0003)
    """
    values = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
    if not all(map(_is_positive, values)):
        raise ArgumentError(f"a list of positive {what}", repr(given), "Give numbers above 0 in a list.")
    return tuple(value if isinstance(value, int) else float(value) for value in values)


def _is_positive(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf
