"""Texts to profile a model on: one for each sample of a file, the embedded texts, a data set, or Python objects."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

from rankselect.data.sources import no_such_column, read_samples
from rankselect.errors import DataError, RankSelectWarning, TextsError, with_article

__all__ = ["load_texts"]


def load_texts(source: object, field: str = "text", *, split: str = "train", progress: bool = True) -> list[str]:
    """Load one text for each sample; empty ones are left out.

    Args:
        source: A file in JSON Lines or CSV; ``"medical-qa"`` for the embedded texts; the name of a data set on the hub,
            or a folder that `datasets` reads, either with ``:split`` at its end; a `datasets.Dataset` or `DatasetDict`;
            or a list of mappings.
        field: The field of a sample that holds its text.
        split: Which split of a data set, if its name does not say it.
        progress: Let `datasets` show its progress bars.

    Raises:
        TextsError: If there is no such file, data set or field, or the field does not hold text.
        FileFormatError: If a file is not JSON Lines or CSV; the message has the line number.
        MissingExtraError: If a data set is asked for by name and `datasets` is not installed.

    Warns:
        RankSelectWarning: If texts are empty.

    Example:
        >>> len(load_texts("medical-qa")), load_texts("medical-qa", "question")[0]
        (1024, 'What does the term acne mean?')
    """
    try:
        samples = read_samples(source, split=split, columns=(field,), progress=progress)
        texts = [_text(sample, field, where) for where, sample in samples]
    except DataError as error:
        raise TextsError(error.expected, error.got, error.remedy) from error
    kept = [text for text in texts if text.strip()]
    if len(kept) < len(texts):
        name = str(source) if isinstance(source, (str, os.PathLike)) else "the samples"
        warnings.warn(
            f"{len(texts) - len(kept)} of {len(texts)} texts in {name} are empty, and were left out.",
            RankSelectWarning,
            stacklevel=2,
        )
    return kept


def _text(sample: object, field: str, where: str) -> str:
    if not isinstance(sample, Mapping):
        raise DataError(
            f"a mapping with the field {field!r}",
            f"{with_article(type(sample).__name__)} ({where})",
            "Make one of every sample.",
        )
    if field not in sample:
        raise no_such_column(field, sample, where, "Name the field that holds the text (--field).", kind="field")
    text = sample[field]
    if not isinstance(text, str):
        raise DataError(
            f"text in the field {field!r}",
            f"{with_article(type(text).__name__)} ({where})",
            "Name another field (--field).",
        )
    return text
