"""Samples from any source: a file, the embedded texts, a data set or Python objects, each with its position."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankselect.data.data_sets import check_name, load_data_set
from rankselect.data.medical_qa import medical_qa
from rankselect.data.row_files import read_file
from rankselect.errors import DataError, described

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["EMBEDDED", "check_name", "is_frame", "name_of", "read_samples"]

EMBEDDED = "medical-qa"
"""The name of the questions and answers that come with the library."""


def read_samples(
    source: object, *, split: str = "train", columns: Collection[str] | None = None, progress: bool = True
) -> Iterator[tuple[str, Any]]:
    """Read a source sample by sample.

    Args:
        source: A file in JSON Lines, a JSON array, CSV, TSV or Parquet, each also compressed as .gz; ``"medical-qa"``
            for the embedded questions and answers; the name of a data set on the hub, or a folder that `datasets`
            reads, either with ``:split`` or ``:configuration[split]`` at its end; a `datasets.Dataset` or
            `DatasetDict`; a `pandas.DataFrame`; or any iterable of samples.
        split: The split of a data set, if its name does not contain one.
        columns: The columns to read of a data set that is loaded by name, if it has them; all if left out.
        progress: Let `datasets` show its progress bars.

    Yields:
        The position of the sample (``"rows.jsonl, line 3"``), and the sample: a mapping of columns, or whatever an
        iterable holds; for a row of a file that cannot be read, the error.

    Raises:
        DataError: If there is no such file, data set or split.
        FileFormatError: If a file has another format, or nothing more of it can be read.
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
            raise DataError(
                f"a split {split!r}, or a list of rows", f"a mapping of {listed}", "Name the split: split=NAME."
            )
        yield from _numbered(source[split], f"{split}, row")
    elif is_frame(source):
        yield from _numbered(_records(source), "row")
    elif isinstance(source, Iterable) and not isinstance(source, type):
        yield from _numbered(source, "row")
    else:
        kinds = "a file name, a data set, or a list of rows (mappings, or objects with .question and .answer)"
        got = described(source)
        raise DataError(kinds, got, "Pass one of them.")


def name_of(source: object, otherwise: str) -> str:
    """The name of a source that has one, for messages."""
    return str(source) if isinstance(source, (str, os.PathLike)) else otherwise


def _numbered(samples: Iterable[Any], label: str) -> Iterator[tuple[str, Any]]:
    for number, sample in enumerate(samples):
        yield f"{label} {number}", sample


def _embedded() -> Iterator[tuple[str, dict[str, str]]]:
    for number, pair in enumerate(medical_qa(), start=1):
        yield f"{EMBEDDED}, pair {number}", {"text": pair.text, "question": pair.question, "answer": pair.answer}


def _named(name: str, split: str, columns: Collection[str] | None, *, progress: bool) -> Iterator[tuple[str, Any]]:
    check_name(name)
    path = Path(name).expanduser()
    if path.is_file():
        yield from read_file(path)
        return
    rows = load_data_set(name, split, progress=progress)
    wanted = [column for column in rows.column_names if column in (columns or ())]
    yield from _numbered(rows.select_columns(wanted) if wanted else rows, f"{name}, row")


def _records(frame: Any) -> Iterator[dict[str, Any]]:
    """The rows of a `pandas.DataFrame`: whole numbers stay whole beside missing values, which become None."""
    for record in frame.convert_dtypes().to_dict("records"):
        yield {name: None if value is sys.modules["pandas"].NA else value for name, value in record.items()}


def is_frame(source: object) -> bool:
    """Whether it is a `pandas.DataFrame`; pandas need not be installed."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(source, pandas.DataFrame)
