"""Texts by name: a JSON Lines file, the embedded questions and answers, or a data set from the hub."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankselect.errors import FileFormatError, MissingExtraError, RankSelectWarning, TextsError, first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["load_texts"]

_EMBEDDED = "medical-qa"
_SUFFIXES = {".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz"}


def load_texts(data: str, field: str, *, progress: bool = True) -> list[str]:
    """Load one text for each sample; empty ones are left out.

    Args:
        data: A file in JSON Lines, ``medical-qa`` for the embedded texts, or the name of a data set on the hub (or a
            folder that `datasets` can read), with ``:split`` at its end if the split is not ``train``.
        field: The field of a sample that holds its text.
        progress: Let `datasets` show its progress bars.

    Raises:
        TextsError: If there is no such file, data set or field, or the field does not hold text.
        FileFormatError: If a file is not JSON Lines; the message has the line number.
        MissingExtraError: If a data set is asked for and `datasets` is not installed.

    Warns:
        RankSelectWarning: If texts are empty.
    """
    path = Path(data)
    if data == _EMBEDDED:
        texts = _embedded(field)
    elif path.is_file() or path.suffix in _SUFFIXES:
        texts = list(_texts_of_file(path, field))
    else:
        texts = _texts_of_dataset(data, field, progress=progress)
    kept = [text for text in texts if text.strip()]
    if len(kept) < len(texts):
        warnings.warn(
            f"{len(texts) - len(kept)} of {len(texts)} texts in {data} are empty, and were left out.",
            RankSelectWarning,
            stacklevel=2,
        )
    return kept


def _embedded(field: str) -> list[str]:
    from rankselect.embedded.medical_qa import medical_qa  # noqa: PLC0415  (its package loads torch)

    samples = ({name: getattr(pair, name) for name in ("text", "question", "answer")} for pair in medical_qa())
    return [_text(sample, field, f"{_EMBEDDED}, pair {number}") for number, sample in enumerate(samples, start=1)]


def _texts_of_file(path: Path, field: str) -> Iterator[str]:
    for number, sample in _samples(path):
        yield _text(sample, field, f"{path}, line {number}")


def _samples(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise TextsError("a file with texts", f"{path}, which does not exist", "Check the path.")
    wanted = "a file in JSON Lines (one JSON object a line, UTF-8)"
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                sample = json.loads(line)
                if not isinstance(sample, dict):
                    kind = type(sample).__name__
                    raise FileFormatError(wanted, f"{path}, whose line {number} is a {kind}", "Convert the file.")
                yield number, sample
    except UnicodeDecodeError as error:
        raise FileFormatError(wanted, f"{path}, not UTF-8 after line {number}", "Convert the file.") from error
    except json.JSONDecodeError as error:
        raise FileFormatError(
            wanted, f"{path}, whose line {number} is not JSON ({error.msg})", "Repair or remove the line."
        ) from error


def _texts_of_dataset(data: str, field: str, *, progress: bool) -> list[str]:
    try:
        import datasets  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise MissingExtraError("datasets", "data") from error
    if not progress:
        datasets.disable_progress_bars()
    name, colon, split = data.rpartition(":")
    if not colon or "/" in split or "\\" in split:
        name, split = data, "train"
    try:
        rows = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise TextsError(
            f"the name of a .jsonl file, {_EMBEDDED}, or a data set with the split {split!r}",
            f"{data} ({first_sentence(error)})",
            "Check name, split and connection, or save the texts as JSON Lines.",
        ) from error
    if field not in rows.column_names:
        raise _no_such_field(field, rows.column_names, data)
    return [_text({field: value}, field, f"{data}, row {number}") for number, value in enumerate(rows[field])]


def _text(sample: dict[str, Any], field: str, where: str) -> str:
    if field not in sample:
        raise _no_such_field(field, sample, where)
    text = sample[field]
    if not isinstance(text, str):
        raise TextsError(
            f"text in the field {field!r}", f"a {type(text).__name__} ({where})", "Choose another with --field."
        )
    return text


def _no_such_field(field: str, found: Iterable[str], where: str) -> TextsError:
    names = ", ".join(found) or "none"
    return TextsError(f"a field {field!r}", f"none ({where}, has: {names})", "Choose one of them with --field.")
