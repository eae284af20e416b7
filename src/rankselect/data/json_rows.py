"""Rows from JSON: one object a line (JSON Lines), one array of objects, or objects that span several lines."""

from __future__ import annotations

import io
import itertools
import json
import re
from typing import TYPE_CHECKING, Any, TextIO

from rankselect.errors import FileFormatError, with_article

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["json_rows"]

_OBJECT = "a JSON object for each row"
_BETWEEN = re.compile(r"[\s,]*")


def json_rows(file: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    r"""Read the objects of a JSON file.

    Args:
        file: The file.
        path: Its name, for messages.

    Yields:
        The line where an object begins, and the object; for a line that is none, the error.

    Raises:
        FileFormatError: If an array, or an object of several lines, is damaged.

    Example:
        >>> import io, pathlib
        >>> list(json_rows(io.StringIO('[{"a": 1},\n {"a": 2}]'), pathlib.Path("rows.json")))
        [(1, {'a': 1}), (2, {'a': 2})]
    """
    number, first = next(((number, line) for number, line in enumerate(file, start=1) if line.strip()), (0, ""))
    if first.lstrip().startswith("["):
        yield from _values(first + file.read(), path, number)
        return
    lines: Iterable[str] = file
    if first.lstrip().startswith("{") and not _is_json(first):
        rest = file.read()
        if _first_value_ends(first + rest) > len(first):
            yield from _values(first + rest, path, number)
            return
        lines = io.StringIO(rest, newline="")
    for at, line in enumerate(itertools.chain([first], lines), start=number):
        if line and not line.isspace():
            yield at, _row(line, path, at)


def _row(line: str, path: Path, number: int) -> Any:
    """The object of a line, or the error."""
    try:
        return _checked(json.loads(line), path, number)
    except ValueError as error:
        reason = getattr(error, "msg", str(error))
        got = f"text that is not JSON: {reason} ({path}, line {number})"
        return FileFormatError(_OBJECT, got, "Repair the line.")


def _checked(value: Any, path: Path, number: int) -> Any:
    if isinstance(value, dict):
        return value
    return FileFormatError(
        _OBJECT, f"{with_article(type(value).__name__)} ({path}, line {number})", "Write each row as an object."
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _first_value_ends(text: str) -> int:
    """Where the first value of a text ends; 0 if the text does not begin with one."""
    try:
        return json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip()))[1]
    except ValueError:
        return 0


def _values(text: str, path: Path, line: int) -> Iterator[tuple[int, Any]]:
    """The elements of an array, or values one after the other, with the line where each begins."""
    decode = json.JSONDecoder().raw_decode
    at = len(text) - len(text.lstrip())
    is_array = text[at] == "["
    at += is_array
    counted = 0
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # matches nothing, too
        line += text.count("\n", counted, at)
        counted = at
        if text[at : at + 1] in ("]" if is_array else "", ""):
            break
        try:
            value, at = decode(text, at)
        except ValueError as error:
            raise _damaged(path, line, getattr(error, "msg", str(error))) from error
        yield line, _checked(value, path, line)
    if is_array and text[at + 1 :].strip():
        raise _damaged(path, line, "text after the end of the array")
    if is_array and at == len(text):
        raise _damaged(path, line, "the array does not end")


def _damaged(path: Path, line: int, reason: str) -> FileFormatError:
    return FileFormatError(
        "a complete JSON file", f"{path}, which cannot be read from line {line} on ({reason})", "Repair the file there."
    )
