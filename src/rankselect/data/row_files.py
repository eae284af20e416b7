"""Files of rows: JSON, tables and Parquet, as they are or compressed with gzip, told apart by content and suffix."""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from rankselect.data.json_rows import json_rows
from rankselect.data.table_rows import table_rows
from rankselect.errors import FileFormatError, MissingExtraError, first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FORMATS", "is_file_name", "read_file"]

FORMATS = "JSON Lines, a JSON array, CSV, TSV or Parquet, each also as .gz"
"""The formats of files, for messages."""

_TABLES = {".csv", ".tsv", ".tab"}
_SUFFIXES = _TABLES | {".jsonl", ".ndjson", ".json", ".txt", ".parquet", ".gz", ".xlsx", ".xls", ".zip"}
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_OTHERS = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x28\xb5\x2f\xfd": "a file compressed with zstd",
    b"BZh": "a file compressed with bzip2",
    b"\xfd7zXZ": "a file compressed with xz",
}
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def is_file_name(name: str) -> bool:
    """Whether a name has the suffix of a file of rows.

    Example:
        >>> is_file_name("ROWS.CSV"), is_file_name("rows.jsonl.gz"), is_file_name("owner/name")
        (True, True, False)
    """
    return Path(name).suffix.lower() in _SUFFIXES


def read_file(path: Path) -> Iterator[tuple[str, Any]]:
    r"""Read a file row by row.

    Parquet and gzip are recognised by their first bytes, tables by their suffix in any case; anything else is JSON.

    Args:
        path: The file.

    Yields:
        The position of a row (``"rows.jsonl, line 3"``), and its columns; for a row that cannot be read, the error.

    Raises:
        FileFormatError: If the file has another format, or is damaged so that nothing more can be read.
        MissingExtraError: If it is Parquet, and pyarrow is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "rows.csv")
        >>> _ = path.write_text("question,answer\nWhat is acne?,A disease of the skin.\n")
        >>> [row for _, row in read_file(path)]
        [{'question': 'What is acne?', 'answer': 'A disease of the skin.'}]
    """
    with _decompressed(path) as file:
        start = file.read(8)
        file.seek(0)
        for magic, kind in _OTHERS.items():
            if start.startswith(magic):
                raise FileFormatError(FORMATS, f"{path}, {kind}", "Save the rows as CSV or JSON Lines.")
        if start.startswith(_PARQUET):
            yield from _parquet_rows(file, path)
            return
        encoding = _ENCODINGS.get(start[:2], "utf-8-sig")
        text = io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline="")
        suffix = _suffix(path)
        rows = table_rows(text, path, tabs=suffix != ".csv") if suffix in _TABLES else json_rows(text, path)
        for number, row in rows:
            yield f"{path}, line {number}", row


def _suffix(path: Path) -> str:
    """The suffix that names the format, in lower case, without .gz."""
    name = Path(path.stem) if path.suffix.lower() == ".gz" else path
    return name.suffix.lower()


@contextmanager
def _decompressed(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as stored:
        compressed = stored.read(2) == _GZIP
        stored.seek(0)
        if not compressed:
            yield stored
            return
        try:
            with gzip.open(stored) as file:
                yield cast("IO[bytes]", file)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise FileFormatError(
                "a complete .gz file", f"{path} ({first_sentence(error)})", "Copy or download it again."
            ) from error


def _parquet_rows(file: IO[bytes], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow as pa  # optional
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data") from error
    number = 0
    try:
        for batch in parquet.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                yield f"{path}, row {number}", row
                number += 1
    except (pa.lib.ArrowException, OSError) as error:
        raise FileFormatError(
            "a complete Parquet file", f"{path} ({first_sentence(error)})", "Copy or download it again."
        ) from error
