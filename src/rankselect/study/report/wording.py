"""Format numbers for a report."""

from __future__ import annotations

import math

__all__ = ["NOTHING", "count", "duration", "number", "percent", "plural", "short", "signed", "with_interval"]

NOTHING = "\N{EN DASH}"
"""The placeholder for a missing number."""

_MANY_DIGITS = 1e12  # larger numbers are written like 1e+12


def number(value: float | None) -> str:
    """Format a number with three significant digits or so; `NOTHING` if it is missing.

    Example:
        >>> number(0.51234), number(12.345), number(1234.5), number(0.00012), number(5e20), number(None) is NOTHING
        ('0.512', '12.3', '1,234', '0.0001', '5e+20', True)
    """
    if value is None or math.isnan(value):
        return NOTHING
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.1g}"
    if size >= _MANY_DIGITS:
        return f"{value:.3g}"
    return f"{value:,.{3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0}f}"


def signed(value: float | None) -> str:
    """Format a difference, with its sign.

    Example:
        >>> signed(0.0123), signed(-0.5)
        ('+0.012', '-0.500')
    """
    text = number(value)
    return f"+{text}" if value is not None and value > 0 else text


def with_interval(value: float | None, low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Format a number with its interval, or alone if the interval is unknown.

    Example:
        >>> with_interval(0.5, 0.45, 0.55), with_interval(0.5, None, None), with_interval(0.01, -0.02, 0.04, sign=True)
        ('0.500 (0.450 to 0.550)', '0.500', '+0.010 (-0.020 to +0.040)')
    """
    write = signed if sign else number
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return write(value)
    return f"{write(value)} ({write(low)} to {write(high)})"


def percent(part: float, total: float) -> str:
    """Format a share in percent; `NOTHING` if the total is 0.

    Example:
        >>> percent(1_310_720, 2_779_683_840), percent(0, 10)
        ('0.0472 %', '0 %')
    """
    if not total:
        return NOTHING
    return f"{100 * part / total:.3g} %"


def count(value: float) -> str:
    """Format an integer.

    Example:
        >>> count(1310720)
        '1,310,720'
    """
    return f"{value:,.0f}"


def short(value: float) -> str:
    """Format a number for the tick of an axis.

    Example:
        >>> short(1_310_720), short(20_000), short(0.25)
        ('1.31M', '20k', '0.25')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.5g}"


def duration(seconds: float | None) -> str:
    """Format a duration in seconds, minutes or hours.

    Example:
        >>> duration(0.21), duration(75), duration(5400)
        ('0.21 s', '75 s', '1.5 h')
    """
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if seconds < 600:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plural(n: int, what: str) -> str:
    """Format a number of things.

    Example:
        >>> plural(1, "seed"), plural(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
