"""Texts by name: a file, the embedded questions and answers, or a data set from the hub."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankselect.data.sources import hub_samples, is_file_name, no_such_column, read_samples, split_of
from rankselect.errors import DataError, RankSelectWarning, TextsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["load_texts"]

_EMBEDDED = "medical-qa"
_REMEDY = "Choose one of them with --field."


def load_texts(data: str, field: str, *, progress: bool = True) -> list[str]:
    """Load one text for each sample; empty ones are left out.

    Args:
        data: A file in JSON Lines or CSV, ``medical-qa`` for the embedded texts, or the name of a data set on the hub
            (or a folder that `datasets` can read), with ``:split`` at its end if the split is not ``train``.
        field: The field of a sample that holds its text.
        progress: Let `datasets` show its progress bars.

    Raises:
        TextsError: If there is no such file, data set or field, or the field does not hold text.
        FileFormatError: If a file is not JSON Lines or CSV; the message has the line number.
        MissingExtraError: If a data set is asked for and `datasets` is not installed.

    Warns:
        RankSelectWarning: If texts are empty.
    """
    try:
        texts = list(_texts(data, field, progress=progress))
    except DataError as error:
        raise TextsError(error.expected, error.got, error.remedy) from error
    kept = [text for text in texts if text.strip()]
    if len(kept) < len(texts):
        warnings.warn(
            f"{len(texts) - len(kept)} of {len(texts)} texts in {data} are empty, and were left out.",
            RankSelectWarning,
            stacklevel=2,
        )
    return kept


def _texts(data: str, field: str, *, progress: bool) -> Iterator[str]:
    if data == _EMBEDDED:
        for number, sample in enumerate(_embedded(), start=1):
            yield _text(sample, field, f"{_EMBEDDED}, pair {number}")
    elif is_file_name(data):
        for where, sample in read_samples(Path(data)):
            yield _text(sample, field, where)
    else:
        rows = hub_samples(*split_of(data), progress=progress)
        if field not in rows.column_names:
            raise no_such_column(field, rows.column_names, data, _REMEDY, kind="field")
        for number, value in enumerate(rows[field]):
            yield _text({field: value}, field, f"{data}, row {number}")


def _embedded() -> Iterator[dict[str, str]]:
    from rankselect.data.medical_qa import medical_qa

    for pair in medical_qa():
        yield {name: getattr(pair, name) for name in ("text", "question", "answer")}


def _text(sample: Mapping[str, Any], field: str, where: str) -> str:
    if field not in sample:
        raise no_such_column(field, sample, where, _REMEDY, kind="field")
    text = sample[field]
    if not isinstance(text, str):
        raise DataError(
            f"text in the field {field!r}", f"a {type(text).__name__} ({where})", "Choose another with --field."
        )
    return text
