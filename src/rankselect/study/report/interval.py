"""An arm's value with its interval, as figures show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["Interval"]


@final
@dataclass(frozen=True)
class Interval:
    """An arm's value with its interval.

    Attributes:
        arm: The arm's name.
        value: The value.
        low: The lower end of the interval.
        high: Its upper end.
        x: Where it stands on the other axis, if there is one.
    """

    arm: str
    value: float
    low: float
    high: float
    x: float = 0.0
