"""The rounding rule of ranks, the same wherever a number becomes one."""

from __future__ import annotations

import math

__all__ = ["nearest_rank"]


def nearest_rank(wish: float) -> int:
    """The nearest whole number, half up.

    Example:
        >>> nearest_rank(2.5), nearest_rank(2.4999), nearest_rank(-0.5)
        (3, 2, 0)
    """
    return math.floor(wish + 0.5)
