"""Values of rows as text."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Real

from rankselect.data.faults import unicode_fault
from rankselect.errors import DataError, with_article

__all__ = ["text_of"]

_REPAIR = "Repair the row."


def text_of(value: object, part: str, where: str, *, remedy: str) -> str:
    r"""A value as text, without white space around it. Numbers are text.

    Args:
        value: The value.
        part: What it is, for messages: ``"answer"``.
        where: Its position.
        remedy: What to do if it is of another type.

    Raises:
        DataError: If it is empty, missing, or no text; or if no tokenizer can take it.

    Example:
        >>> text_of(" A disease.\n", "answer", "row 0", remedy=""), text_of(4, "answer", "row 0", remedy="")
        ('A disease.', '4')
    """
    if isinstance(value, str):
        text = value.strip()
        fault = unicode_fault(text)
        if fault:
            how = "Save the file as UTF-8." if fault.startswith("a byte") else _REPAIR
            raise DataError(f"text in Unicode as {part}", f"{fault} ({where})", how)
        if text:
            return text
        raise DataError(f"text as {part}", f"an empty one ({where})", _REPAIR)
    if isinstance(value, (Real, Decimal)) and not isinstance(value, bool):
        if math.isfinite(value):
            return str(value)
        raise DataError(f"text as {part}", f"{value} ({where})", _REPAIR)
    if value is None:
        raise DataError(f"text as {part}", f"None ({where})", _REPAIR)
    raise DataError(f"text as {part}", f"{with_article(type(value).__name__)} ({where})", remedy)
