"""Samples from any source: a file, the embedded texts, a data set or Python objects, each with its position."""

from __future__ import annotations

import csv
import difflib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankselect.data.medical_qa import medical_qa
from rankselect.errors import DataError, FileFormatError, MissingExtraError, first_sentence, with_article

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["EMBEDDED", "check_name", "no_such_column", "read_samples"]

EMBEDDED = "medical-qa"
"""The name of the questions and answers that come with the library."""

_SUFFIXES = {".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz"}
_JSON_LINES = "a file in JSON Lines (one JSON object a line, UTF-8)"
_CSV = "a CSV file (UTF-8) whose first line names its columns"


def read_samples(
    source: object, *, split: str = "train", columns: Collection[str] | None = None, progress: bool = True
) -> Iterator[tuple[str, Any]]:
    """Read a source sample by sample.

    Args:
        source: A file in JSON Lines or CSV (by the suffix .csv or .tsv); ``"medical-qa"`` for the embedded questions
            and answers; the name of a data set on the hub, or a folder that `datasets` reads, either with ``:split``
            at its end; a `datasets.Dataset` or `DatasetDict`; or any iterable of samples.
        split: The split of a data set, if its name does not contain one.
        columns: The columns to read of a data set that is loaded by name, if it has them; all if left out.
        progress: Let `datasets` show its progress bars.

    Yields:
        The position of the sample (``"rows.jsonl, line 3"``), and the sample: a mapping of columns, or whatever an
        iterable holds.

    Raises:
        DataError: If there is no such file, data set or split.
        FileFormatError: If a file is not UTF-8, JSON Lines or CSV; the message has the line.
        MissingExtraError: If a data set is given by name and `datasets` is not installed.

    Example:
        >>> where, sample = next(read_samples("medical-qa"))
        >>> where, sample["question"]
        ('medical-qa, pair 1', 'What does the term acne mean?')
    """
    if isinstance(source, str) and source == EMBEDDED:
        yield from _embedded()
    elif isinstance(source, (str, os.PathLike)):
        yield from _named(str(source), split, columns, progress=progress)
    elif isinstance(source, Mapping):
        if split not in source or isinstance(source[split], str):
            listed = ", ".join(str(key) for key in source) or "nothing"
            raise DataError(f"a split {split!r}, or a list of rows", f"a mapping of {listed}", "Name it with split=.")
        yield from _numbered(source[split], f"{split}, row")
    elif isinstance(source, Iterable):
        yield from _numbered(source, "row")
    else:
        kinds = "a file name, a data set, or a list of rows (mappings, or objects with .question and .answer)"
        raise DataError(kinds, with_article(type(source).__name__), "Pass one of them.")


def no_such_column(column: str, found: Iterable[str], where: str, remedy: str, *, kind: str = "column") -> DataError:
    """The error for a column that is not there, with near matches.

    Args:
        column: The missing column.
        found: The columns that are there.
        where: In which row or file.
        remedy: How the caller chooses another.
        kind: The word for a column in the message.
    """
    names = [str(name)[:40] for name in found]
    near = difflib.get_close_matches(column, names, n=2, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    listed = ", ".join(names) or "none"
    return DataError(f"a {kind} {column!r}", f"none ({where}, has: {listed})", f"{hint}{remedy}")


def check_name(name: str) -> None:
    """Refuse the name of a file or folder that does not exist, before anything is loaded that takes long.

    A name is that of a file if it has the suffix of one, and a path if it could not be OWNER/NAME on the hub.

    Raises:
        DataError: If it does not exist.

    Example:
        >>> check_name("medical-qa"), check_name("owner/name:test")
        (None, None)
        >>> check_name("rows.jsonl")
        Traceback (most recent call last):
            ...
        rankselect.errors.DataError: expected a file of rows, got rows.jsonl, which does not exist. Check the path.
    """
    folder = _split_of(name, "")[0]
    is_path = Path(name).suffix in _SUFFIXES or name.startswith((".", "/", "~")) or folder.count("/") > 1
    if is_path and not (Path(name).exists() or Path(folder).exists()):
        raise DataError("a file of rows", f"{name}, which does not exist", "Check the path.")


def _numbered(samples: Iterable[Any], label: str) -> Iterator[tuple[str, Any]]:
    for number, sample in enumerate(samples):
        yield f"{label} {number}", sample


def _embedded() -> Iterator[tuple[str, dict[str, str]]]:
    for number, pair in enumerate(medical_qa(), start=1):
        yield f"{EMBEDDED}, pair {number}", {"text": pair.text, "question": pair.question, "answer": pair.answer}


def _named(
    name: str, split: str, columns: Collection[str] | None, *, progress: bool
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    check_name(name)
    path = Path(name)
    if not path.is_file():
        rows = _data_set(*_split_of(name, split), progress=progress)
        wanted = [column for column in rows.column_names if column in (columns or ())]
        yield from _numbered(rows.select_columns(wanted) if wanted else rows, f"{name}, row")
        return
    reader = _read_csv if path.suffix in {".csv", ".tsv"} else _read_json_lines
    for number, sample in reader(path):
        yield f"{path}, line {number}", sample


def _split_of(name: str, default: str) -> tuple[str, str]:
    """The name of a data set and its split, which may follow the name after a colon.

    Example:
        >>> _split_of("owner/set", "train"), _split_of("owner/set:train[:90%]", "train")
        (('owner/set', 'train'), ('owner/set', 'train[:90%]'))
    """
    colon = name.find(":", max(name.rfind("/"), name.rfind("\\")) + 1)
    return (name, default) if colon < 0 else (name[:colon], name[colon + 1 :])


def _data_set(name: str, split: str, *, progress: bool) -> Any:
    """A data set from the hub, or from a folder that `datasets` can read."""
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
