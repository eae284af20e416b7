"""Sizes in bytes, as people write them and as they read them."""

from __future__ import annotations

import math
import re

from rankselect.errors import ArgumentError

__all__ = ["as_text", "in_bytes"]

_UNITS = {"": 1, "b": 1} | {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)}
_UNITS |= {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def in_bytes(size: float | str, what: str = "size") -> int:
    """Convert a size to bytes.

    Args:
        size: A number of bytes, or a text such as ``"24GB"`` (10⁹ bytes) or ``"24GiB"`` (2³⁰ bytes).
        what: What it is the size of, for errors.

    Raises:
        ArgumentError: If it is not a positive size.

    Example:
        >>> in_bytes("5GB"), in_bytes("1.5 MiB"), in_bytes(2000)
        (5000000000, 1572864, 2000)
    """
    number: float | str = size
    if isinstance(size, str) and (match := _SIZE.fullmatch(size)) and match[2].lower() in _UNITS:
        number = float(match[1]) * _UNITS[match[2].lower()]
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not (math.isfinite(number) and number >= 1):
        raise ArgumentError(f"a {what} in bytes", repr(size), "Give bytes, or a text like '24GB' or '24GiB'.")
    return int(number)


def as_text(n_bytes: float) -> str:
    """Bytes with a unit that leaves at most four digits before the point.

    Example:
        >>> as_text(3 * 2**29), as_text(12)
        ('1.50 GiB', '12 B')
    """
    for unit in ("B", "KiB", "MiB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.2f} GiB"
