"""One way to choose ranks, as it takes part in a study."""

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
        strategy: What chooses its ranks: a strategy, its name as the command line takes it (``"fixed:rank=16"``), or
            None for the base model without an adapter.
        learning_rates: The grid its learning rate is chosen from, or empty for the study's.
        alpha_ratios: The grid its alpha ratio is chosen from, or empty for the study's.

    Raises:
        UnknownNameError: If there is no strategy of the name.
        ArgumentError: If the arm's name has other characters, or a grid has values that are not positive.

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
        """The arm that `to_dict` wrote. Of a strategy that is not installed here, only its record is known."""
        text = values["strategy"]
        return cls(**{**values, "strategy": None if text is None else recorded_strategy(text)})

    def to_dict(self) -> dict[str, Any]:
        """The arm in JSON values; a strategy as Python would write it."""
        return {
            "name": self.name,
            "strategy": None if self.strategy is None else repr(self.strategy),
            "learning_rates": list(self.learning_rates),
            "alpha_ratios": list(self.alpha_ratios),
        }


def grid_from(given: Iterable[float], what: str) -> tuple[float, ...]:
    """The values from which one is chosen, each positive and finite.

    Raises:
        ArgumentError: If they are not.

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
