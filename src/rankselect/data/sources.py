"""Samples by name: the rows of a JSON Lines or CSV file, or of a data set from the hub, with where they stand."""

from __future__ import annotations

import csv
import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankselect.errors import DataError, FileFormatError, MissingExtraError, first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["hub_samples", "is_file_name", "no_such_column", "read_samples", "split_of"]

_SUFFIXES = {".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz"}
_JSON_LINES = "a file in JSON Lines (one JSON object a line, UTF-8)"
_CSV = "a CSV file (UTF-8) whose first line names its columns"


def is_file_name(name: str) -> bool:
    """Whether a name means a file (existing, or with the suffix of one) rather than a data set."""
    return Path(name).is_file() or Path(name).suffix in _SUFFIXES


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file row by row: CSV if its name ends in .csv or .tsv, JSON Lines otherwise.

    Args:
        path: The file, in UTF-8, with or without a byte order mark.

    Yields:
        Where the row stands (``"rows.jsonl, line 3"``), and its columns.

    Raises:
        DataError: If there is no such file.
        FileFormatError: If it is not what its name says; the message has the line number.
    """
    if not path.is_file():
        raise DataError("a file of rows", f"{path}, which does not exist", "Check the path.")
    reader = _read_csv if path.suffix in {".csv", ".tsv"} else _read_json_lines
    for number, sample in reader(path):
        yield f"{path}, line {number}", sample


def hub_samples(name: str, split: str, *, progress: bool = True) -> Any:
    """Load a data set from the hub, or from a folder that `datasets` can read.

    Args:
        name: The name or the folder.
        split: The split.
        progress: Let `datasets` show its progress bars.

    Returns:
        The `datasets.Dataset`.

    Raises:
        DataError: If there is no such data set or split.
        MissingExtraError: If `datasets` is not installed.
    """
    try:
        import datasets  # optional
    except ImportError as error:
        raise MissingExtraError("datasets", "data") from error
    if not progress:
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"the name of a .jsonl or .csv file, or a data set with the split {split!r}",
            f"{name} ({first_sentence(error)})",
            "Check name, split and connection, or save the rows as JSON Lines.",
        ) from error


def split_of(name: str, default: str = "train") -> tuple[str, str]:
    """The name of a data set and its split, which may stand after a colon at the name's end.

    Example:
        >>> split_of("owner/set"), split_of("owner/set:train[:90%]")
        (('owner/set', 'train'), ('owner/set', 'train[:90%]'))
    """
    colon = name.find(":", max(name.rfind("/"), name.rfind("\\")) + 1)
    return (name, default) if colon < 0 else (name[:colon], name[colon + 1 :])


def no_such_column(column: str, found: Iterable[str], where: str, remedy: str, *, kind: str = "column") -> DataError:
    """The error for a column that is not there, with near matches.

    Args:
        column: The column that was asked for.
        found: The columns that are there.
        where: In which row or file.
        remedy: How the caller chooses another.
        kind: What columns are called where the caller is.
    """
    names = [str(name)[:40] for name in found]
    near = difflib.get_close_matches(column, names, n=2, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    listed = ", ".join(names) or "none"
    return DataError(f"a {kind} {column!r}", f"none ({where}, has: {listed})", f"{hint}{remedy}")


def _read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                sample = json.loads(line)
                if not isinstance(sample, dict):
                    kind = type(sample).__name__
                    raise FileFormatError(_JSON_LINES, f"{path}, whose line {number} is a {kind}", "Convert the file.")
                yield number, sample
    except UnicodeDecodeError as error:
        raise _not_utf8(_JSON_LINES, path, number, error) from error
    except json.JSONDecodeError as error:
        raise FileFormatError(
            _JSON_LINES, f"{path}, whose line {number} is not JSON ({error.msg})", "Repair or remove the line."
        ) from error


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
            header: list[str] = []
            for cells in reader:
                number = reader.line_num
                if not header:
                    header = _checked_header(cells, path)
                elif cells and len(cells) != len(header):
                    raise FileFormatError(
                        _CSV,
                        f"{path}, whose row that ends in line {number} has {len(cells)} fields, not {len(header)}",
                        "Put fields with commas or line breaks into double quotes.",
                    )
                elif cells:
                    yield number, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise _not_utf8(_CSV, path, number, error) from error
    except csv.Error as error:
        raise FileFormatError(
            _CSV, f"{path}, unreadable after line {number} ({error})", "Repair it, or save the rows as JSON Lines."
        ) from error


def _checked_header(cells: list[str], path: Path) -> list[str]:
    repeated = {name for name in cells if cells.count(name) > 1}
    if repeated or not all(name.strip() for name in cells):
        what = f"names {min(repeated)!r} twice" if repeated else "has an empty name"
        raise FileFormatError(_CSV, f"{path}, whose first line {what}", "Add a line with the names of the columns.")
    return cells


def _not_utf8(wanted: str, path: Path, number: int, error: UnicodeDecodeError) -> FileFormatError:
    return FileFormatError(wanted, f"{path}, not UTF-8 after line {number} ({error.reason})", "Convert the file.")
