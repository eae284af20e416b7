"""Question-answer rows, or texts, from a file, a data set, or Python objects."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from rankselect.data.prompts import PromptTemplate, QuestionAnswer
from rankselect.data.sources import no_such_column, read_samples
from rankselect.errors import DataError, RankSelectWarning, TextsError, with_article

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["load_rows", "load_texts", "questions_of", "rows_of"]


def load_rows(
    source: object,
    *,
    split: str = "train",
    question: str = "question",
    answer: str = "answer",
    text: str = "text",
    template: PromptTemplate | None = None,
    progress: bool = True,
) -> list[QuestionAnswer]:
    """Load questions with their answers.

    Rows have a column for the question and one for the answer. Where there is neither, but a column with both in one
    text ("### Instruction: … ### Assistant: …", as in MedQuAD-phi2), that text is taken apart.

    Args:
        source: A file in JSON Lines or CSV (by the suffix .csv or .tsv); ``"medical-qa"`` for the rows that come with
            the library; the name of a data set on the hub, or a folder that `datasets` reads, either with ``:split``
            at its end; a `datasets.Dataset` or `DatasetDict`; or a list of mappings or of objects with ``question``
            and ``answer``.
        split: The split of a data set, if its name does not contain one.
        question: The column of the question.
        answer: The column of the answer.
        text: The column of both, read where there is neither of the other two.
        template: The form of that text; None for the default `PromptTemplate`.
        progress: Let `datasets` show its progress bars.

    Returns:
        The rows in their order, white space around questions and answers removed.

    Raises:
        DataError: If there are no rows, no such file, data set or column, or a row without question or answer; the
            message names the row.
        FileFormatError: If a file is not UTF-8, JSON Lines or CSV; the message has the line.
        MissingExtraError: If a data set is given by name and `datasets` is not installed.

    Example:
        >>> load_rows([{"text": "### Instruction: What is acne? ### Assistant: A disease of the skin."}])
        [QuestionAnswer(question='What is acne?', answer='A disease of the skin.')]
    """
    name = str(source) if isinstance(source, (str, os.PathLike)) else "the rows"
    columns = _Columns(question, answer, text, template or PromptTemplate())
    rows = [columns.row(sample, where) for where, sample in read_samples(source, split=split, progress=progress)]
    if not rows:
        raise DataError("at least one question with its answer", f"none in {name}", "Check the source of the rows.")
    return rows


def rows_of(rows: Iterable[object], template: PromptTemplate | None = None) -> Sequence[QuestionAnswer]:
    """Rows that a caller passes: `QuestionAnswer` objects, or mappings as `load_rows` reads them.

    Args:
        rows: Objects with ``question`` and ``answer``, or mappings with these columns, or with a ``text`` of both.
        template: The form of such a text; None for the default `PromptTemplate`.

    Raises:
        DataError: If they are anything else: the name of a file, texts, mappings with other columns.

    Example:
        >>> rows_of([{"question": "What is acne?", "answer": "A disease of the skin."}])
        [QuestionAnswer(question='What is acne?', answer='A disease of the skin.')]
    """
    if isinstance(rows, (str, os.PathLike, Mapping)) or not isinstance(rows, Iterable):
        raise DataError("a list of rows with question and answer", _one(rows), "Pass what load_rows returns.")
    if isinstance(rows, (list, tuple)) and all(hasattr(row, "question") and hasattr(row, "answer") for row in rows):
        return rows
    return load_rows(rows, template=template)


def questions_of(questions: Iterable[object], template: PromptTemplate | None = None) -> list[Any]:
    """The questions that a caller passes, as strings or as rows. Other elements of the list are not changed.

    Args:
        questions: Questions, or rows as `rows_of` takes them; their answers may be missing.
        template: The form of a text with both.

    Raises:
        DataError: If it is no list, or a mapping has no question.

    Example:
        >>> questions_of(["What is acne?", {"question": "What is gout?"}])
        ['What is acne?', 'What is gout?']
    """
    if isinstance(questions, (str, os.PathLike, Mapping)) or not isinstance(questions, Iterable):
        raise DataError("a list of questions", _one(questions), "Pass a list, even for one question.")
    columns = _Columns("question", "answer", "text", template or PromptTemplate())
    return [columns.asked(sample, f"row {number}") for number, sample in enumerate(questions)]


def _one(value: object) -> str:
    """A description of an object that was given instead of a list."""
    if isinstance(value, Mapping):
        return f"a mapping of {', '.join(map(str, value)) or 'nothing'}"
    return f"{value!r}, a {type(value).__name__}" if isinstance(value, (str, os.PathLike)) else repr(value)


@final
@dataclass(frozen=True)
class _Columns:
    """Which columns of a sample hold the question and the answer."""

    question: str
    answer: str
    text: str
    template: PromptTemplate

    def row(self, sample: Any, where: str) -> QuestionAnswer:
        if not isinstance(sample, Mapping):
            if not (hasattr(sample, "question") and hasattr(sample, "answer")):
                got = f"{with_article(type(sample).__name__)} ({where})"
                raise DataError(
                    "a mapping or an object with question and answer", got, "Convert each row to a mapping."
                )
            sample = {self.question: sample.question, self.answer: sample.answer}
        if self.text in sample and self.question not in sample and self.answer not in sample:
            return self._parsed(sample[self.text], where)
        question = self._value(sample, self.question, "question", where)
        return QuestionAnswer(question, self._value(sample, self.answer, "answer", where))

    def asked(self, sample: Any, where: str) -> Any:
        """The question of a sample, which need not have an answer. Objects that are not rows are returned unchanged."""
        if not isinstance(sample, Mapping):
            return getattr(sample, "question", sample)
        if self.text in sample and self.question not in sample:
            return self._parsed(sample[self.text], where).question
        return self._value(sample, self.question, "question", where)

    def _parsed(self, text: object, where: str) -> QuestionAnswer:
        try:
            row = self.template.parse(_words(text, "text", where))
        except DataError as error:
            if where in error.got:
                raise
            raise DataError(error.expected, f"{error.got} ({where})", error.remedy) from error
        return QuestionAnswer(_words(row.question, "question", where), _words(row.answer, "answer", where))

    def _value(self, sample: Mapping[str, Any], column: str, part: str, where: str) -> str:
        if column not in sample:
            is_csv = where.partition(", line ")[0].endswith((".csv", ".tsv"))
            hint = " The first line of a CSV file must hold the names." if is_csv else ""
            raise no_such_column(column, sample, where, f"Name the column: load_rows(…, {part}=COLUMN).{hint}")
        return _words(sample[column], part, where)


def _words(value: object, part: str, where: str) -> str:
    """The text without white space around it, which must leave something."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, str) or value is None:
        got = "None" if value is None else "an empty one"
        raise DataError(f"every row with its {part}", f"{got} ({where})", "Repair or drop the row.")
    got = f"{with_article(type(value).__name__)} ({where})"
    raise DataError(f"text as {part}", got, f"Name another column: load_rows(…, {part}=COLUMN).")


def load_texts(source: object, field: str = "text", *, split: str = "train", progress: bool = True) -> list[str]:
    """Load one text for each sample; empty ones are left out.

    Args:
        source: A file in JSON Lines or CSV; ``"medical-qa"`` for the embedded texts; the name of a data set on the hub,
            or a folder that `datasets` reads, either with ``:split`` at its end; a `datasets.Dataset` or `DatasetDict`;
            or a list of mappings.
        field: The field of a sample that holds its text.
        split: The split of a data set, if its name does not contain one.
        progress: Let `datasets` show its progress bars.

    Raises:
        TextsError: If there is no such file, data set or field, or the field does not hold text.
        FileFormatError: If a file is not JSON Lines or CSV; the message has the line number.
        MissingExtraError: If a data set is given by name and `datasets` is not installed.

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
            "Convert each sample to a mapping.",
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
