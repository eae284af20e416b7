"""Faulty rows: all of them are counted, and the first ones named, in one error or one warning."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, final

from rankselect.errors import DataError, RankSelectWarning

if TYPE_CHECKING:
    from rankselect.errors import RankSelectError

__all__ = ["FaultyRows", "unicode_fault"]

_NAMED = 5
_POSITION = re.compile(r"\d+")


@final
class FaultyRows:
    """Collects the errors of single rows while a source is read.

    Args:
        source: What is read, for the message.
        expected: What every row must be, for faults of different kinds.
        loader: The function that can skip them: ``"load_rows"`` or ``"load_texts"``.

    Example:
        >>> faulty = FaultyRows("rows.jsonl", "rows with question and answer", "load_rows")
        >>> faulty.add(DataError("text as answer", "None (rows.jsonl, line 2)", "Repair the row."))
        >>> faulty.settle(10, skip=False)
        Traceback (most recent call last):
            ...
        rankselect.errors.DataError: expected text as answer, got None (rows.jsonl, line 2). Repair the row. To leave \
such rows out: load_rows(…, skip_faulty=True).
    """

    def __init__(self, source: str, expected: str, loader: str) -> None:
        self._source = source
        self._expected = expected
        self._skip_with = f"{loader}(…, skip_faulty=True)"
        self._errors: list[RankSelectError] = []  # the first ones
        self._count = 0
        self._kinds: set[tuple[type[RankSelectError], str]] = set()

    def add(self, error: RankSelectError) -> None:
        """Count a faulty row."""
        self._count += 1
        self._kinds.add((type(error), error.expected))
        if self._count <= _NAMED:
            self._errors.append(error)

    def settle(self, n_rows: int, *, skip: bool, stacklevel: int = 1) -> None:
        """Raise one error for all faulty rows, or warn of them.

        Args:
            n_rows: How many rows were read, with the faulty ones.
            skip: Warn instead of raising an error. If all rows are faulty, the error is raised all the same.
            stacklevel: Frames between the caller of this method and the line that the warning should show.

        Raises:
            RankSelectError: If rows are faulty; of the class of their errors, if that is the same for all.
        """
        if not self._count:
            return
        if skip and self._count < n_rows:
            warnings.warn(
                f"{self._count:,} of {n_rows:,} rows in {self._source} are faulty, and were left out: "
                f"{self._listed(alike=False)}.",
                RankSelectWarning,
                stacklevel=stacklevel + 1,
            )
            return
        raise self._error(n_rows)

    def _error(self, n_rows: int) -> RankSelectError:
        first = self._errors[0]
        alike = len({expected for _, expected in self._kinds}) == 1
        kinds = {kind for kind, _ in self._kinds}
        kind = kinds.pop() if len(kinds) == 1 else DataError
        expected = first.expected if alike else self._expected
        if self._count == 1:
            got, remedy = first.got, first.remedy
        elif alike and self._count == n_rows and len({_POSITION.sub("", error.got) for error in self._errors}) == 1:
            got, remedy = f"{first.got}, and the same in all {n_rows:,} rows", first.remedy
        else:
            got = f"{self._count:,} faulty rows of {n_rows:,}: {self._listed(alike=alike)}"
            remedy = first.remedy if alike else "Repair the rows."
        if self._count < n_rows:
            remedy = f"{remedy} To leave such rows out: {self._skip_with}."
        return kind(expected, got, remedy)

    def _listed(self, *, alike: bool) -> str:
        named = [error.got if alike else f"{error.got} instead of {error.expected}" for error in self._errors]
        more = self._count - len(named)
        return "; ".join([*named, f"and {more:,} more"] if more else named)


def unicode_fault(text: str) -> str | None:
    r"""What no tokenizer takes in a text, or None.

    A lone surrogate is half of a character of two UTF-16 units; files that are not UTF-8 are read with each wrong
    byte as one.

    Example:
        >>> unicode_fault("naïve 🙂") is None
        True
        >>> unicode_fault("a \ud83d")
        'a lone surrogate (\\ud83d, half of a character)'
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            return f"a byte that is not UTF-8 (0x{code - 0xDC00:02x})"
        return f"a lone surrogate (\\u{code:04x}, half of a character)"
    return None
