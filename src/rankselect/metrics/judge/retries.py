"""How long to wait before asking an endpoint again."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LONGEST_WAIT", "retry_after", "seconds_to_wait"]

LONGEST_WAIT = 300.0
"""Seconds; an endpoint that asks for more, for example until tomorrow, is not waited for."""

_FIRST_WAIT, _LONGEST_BACKOFF = 1.0, 60.0


def seconds_to_wait(attempt: int, asked: float | None) -> float:
    """The wait after a failed attempt: 1, 2, 4, … up to 60 seconds, and never less than the endpoint asked for.

    Args:
        attempt: How many attempts failed before this one.
        asked: What the endpoint asked for, in seconds, if it did.

    Example:
        >>> seconds_to_wait(3, None), seconds_to_wait(0, 20.0), seconds_to_wait(2, 0.0)
        (8.0, 20.0, 4.0)
    """
    return max(asked or 0.0, min(_FIRST_WAIT * 2.0 ** min(attempt, 10), _LONGEST_BACKOFF))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer's headers ask to wait, if they do: a number, or a date as in HTTP.

    Example:
        >>> retry_after({"retry-after": "2"}), retry_after({"retry-after-ms": "1500"}), retry_after({})
        (2.0, 1.5, None)
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
