"""Question-answer rows from a file, a data set, or Python objects."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rankselect.data.prompts import PromptTemplate
from rankselect.data.question_answer import QuestionAnswer
from rankselect.data.sources import hub_samples, is_file_name, no_such_column, read_samples
from rankselect.errors import DataError, RankSelectWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["load_rows", "warn_of_overlap"]


_KINDS = "a file name, a data set, or a list of rows (mappings, or objects with .question and .answer)"


def load_rows(
    source: object,
    *,
    split: str = "train",
    question: str = "question",
    answer: str = "answer",
    text: str = "text",
    template: PromptTemplate | None = None,
) -> list[QuestionAnswer]:
    """Load questions with their answers.

    Rows have a column for the question and one for the answer. Where there is neither, but a column with both in one
    text ("### Instruction: … ### Assistant: …", as in MedQuAD-phi2), that text is taken apart.

    Args:
        source: A file in JSON Lines or CSV (by the suffix .csv or .tsv); the name of a data set on the hub, or a
            folder that `datasets` reads; a `datasets.Dataset` or `DatasetDict`; or a list of mappings or of objects
            with ``question`` and ``answer``.
        split: Which split of a data set.
        question: The column of the question.
        answer: The column of the answer.
        text: The column of both, read where there is neither of the other two.
        template: The form of that text; None for the default `PromptTemplate`.

    Returns:
        The rows in their order, white space around questions and answers removed.

    Raises:
        DataError: If there are no rows, no such file, data set or column, or a row without question or answer; the
            message names the row.
        FileFormatError: If a file is not UTF-8, JSON Lines or CSV; the message has the line.
        MissingExtraError: If a data set is asked for by name and `datasets` is not installed.

    Example:
        >>> load_rows([{"text": "### Instruction: What is acne? ### Assistant: A disease of the skin."}])
        [QuestionAnswer(question='What is acne?', answer='A disease of the skin.')]
    """
    name = str(source) if isinstance(source, (str, os.PathLike)) else "the rows"
    columns = _Columns(question, answer, text, template or PromptTemplate())
    rows = [columns.row(sample, where) for where, sample in _samples(source, split)]
    if not rows:
        raise DataError("at least one question with its answer", f"none in {name}", "Check the source of the rows.")
    return rows


def warn_of_overlap(train: Iterable[QuestionAnswer], evaluation: Iterable[QuestionAnswer]) -> None:
    """Warn of evaluation questions that stand in the training data too.

    Questions are equal if they are so without regard to case and white space.

    Args:
        train: The rows that are trained on.
        evaluation: The rows that are evaluated.

    Warns:
        RankSelectWarning: If there are such questions: how many, and the first.

    Example:
        >>> import warnings
        >>> rows = [QuestionAnswer("What is acne?", "A disease.")]
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_overlap(rows, rows)
        >>> print(caught[0].message)
        1 of 1 evaluation questions stand in the training data too, for example 'What is acne?'; scores flatter.
    """
    known = {_normalised(row.question) for row in train}
    questions = [row.question for row in evaluation]
    shared = [question for question in questions if _normalised(question) in known]
    if shared:
        warnings.warn(
            f"{len(shared)} of {len(questions)} evaluation questions stand in the training data too, for example "
            f"{shared[0]!r}; scores flatter.",
            RankSelectWarning,
            stacklevel=2,
        )


def _normalised(question: str) -> str:
    return " ".join(question.split()).casefold()


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
                raise DataError(_KINDS, f"a {type(sample).__name__} ({where})", "Make a mapping of every row.")
            sample = {self.question: sample.question, self.answer: sample.answer}
        if self.text in sample and self.question not in sample and self.answer not in sample:
            return self._parsed(sample[self.text], where)
        question = self._value(sample, self.question, "question", where)
        return QuestionAnswer(question, self._value(sample, self.answer, "answer", where))

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
            raise no_such_column(column, sample, where, f"Name the column with {part}=.{hint}")
        return _words(sample[column], part, where)


def _words(value: object, part: str, where: str) -> str:
    """The text without white space around it, which must leave something."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, str) or value is None:
        got = "None" if value is None else "an empty one"
        raise DataError(f"every row with its {part}", f"{got} ({where})", "Repair or drop the row.")
    raise DataError(f"text as {part}", f"a {type(value).__name__} ({where})", f"Name another column with {part}=.")


def _samples(source: Any, split: str) -> Iterator[tuple[str, Any]]:
    """The samples of any source, with where each stands."""
    if isinstance(source, (str, os.PathLike)):
        name = str(source)
        if is_file_name(name):
            yield from read_samples(Path(name))
            return
        yield from _numbered(hub_samples(name, split), f"{name}, row")
    elif isinstance(source, Mapping):
        if split not in source or isinstance(source[split], str):
            listed = ", ".join(str(key) for key in source) or "nothing"
            raise DataError(f"a split {split!r}, or a list of rows", f"a mapping of {listed}", "Name it with split=.")
        yield from _numbered(source[split], f"{split}, row")
    elif isinstance(source, Iterable):
        yield from _numbered(source, "row")
    else:
        raise DataError(_KINDS, f"a {type(source).__name__}", "Pass one of them.")


def _numbered(samples: Iterable[Any], label: str) -> Iterator[tuple[str, Any]]:
    for number, sample in enumerate(samples):
        yield f"{label} {number}", sample
