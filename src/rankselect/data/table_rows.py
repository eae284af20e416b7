"""Rows from tables in text form: CSV and TSV, with quotes, fields of any length, and Excel's sep= line."""

from __future__ import annotations

import csv
import itertools
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from rankselect.errors import FileFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["table_rows"]

_SEPARATORS = ",;\t|"
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_LONGEST_FIELD = 2**31 - 1


def table_rows(file: TextIO, path: Path, *, tabs: bool) -> Iterator[tuple[int, Any]]:
    r"""Read a table whose first line names its columns.

    Spaces after a separator do not count. Where the first line has neither commas (or tabs) nor a line ``sep=;``
    before it, the separator is the most frequent of comma, semicolon, tab and bar.

    Args:
        file: The table, opened with ``newline=""``.
        path: Its name, for messages.
        tabs: Whether tabs separate the fields, rather than commas.

    Yields:
        The line where a row begins, and the row; for one with too many or too few fields, the error.

    Raises:
        FileFormatError: If the first line does not name the columns.

    Example:
        >>> import io, pathlib
        >>> list(table_rows(io.StringIO("sep=;\na; b\n1; 2\n"), pathlib.Path("rows.csv"), tabs=False))
        [(3, {'a': '1', 'b': '2'})]
    """
    skipped, first = next(((number, line) for number, line in enumerate(file) if line.strip()), (0, ""))
    separator = _SEP_LINE.fullmatch(first)
    if separator:
        skipped, first = skipped + 1, next(file, "")
    given = separator.group(1) if separator else _separator(first, "\t" if tabs else ",")
    reader = csv.reader(itertools.chain([first], file), delimiter=given, skipinitialspace=True, strict=True)
    with _fields_of_any_length():
        header: list[str] = []
        while True:
            number = skipped + reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                got = f"quotes that do not fit: {error} ({path}, line {number})"
                yield number, FileFormatError("a table with correct quotes", got, "Repair the quotes there.")
                continue
            if cells is None:
                break
            if not header:
                header = _checked_header(cells, path)
            elif cells:
                yield number, _row(header, cells, path, number)


def _separator(header: str, usual: str) -> str:
    best = max(_SEPARATORS, key=header.count)
    return best if usual not in header and best in header else usual


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _checked_header(cells: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in cells]
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise FileFormatError(
            "a table whose first line names its columns",
            f"{path}, whose first line has {repeated[0]!r} twice",
            "Name the columns in the first line.",
        )
    return names


def _row(header: list[str], cells: list[str], path: Path, number: int) -> Any:
    if len(cells) == len(header):
        return dict(zip(header, cells, strict=True))
    return FileFormatError(
        f"{len(header)} fields in each row, as in the first line",
        f"{len(cells)} ({path}, line {number})",
        "Put fields that contain separators or line breaks into double quotes.",
    )
