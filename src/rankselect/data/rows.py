"""Question-answer rows, or texts, from a file, a data set, or Python objects."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from rankselect.data.conversation import Conversation
from rankselect.data.faults import FaultyRows, unicode_fault
from rankselect.data.prompts import PromptTemplate, QuestionAnswer, template_of
from rankselect.data.row_formats import ANSWER, QUESTION, TEXT, RowFormat, no_such_column
from rankselect.data.sources import name_of, read_samples
from rankselect.data.text_turns import unsplit_turns
from rankselect.errors import DataError, RankSelectError, RankSelectWarning, TextsError, with_article

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["digest_of", "load_rows", "load_texts", "questions_of", "rows_of"]

_EXPECTED = "rows with question and answer"


def load_rows(
    source: object,
    *,
    split: str = "train",
    question: str = QUESTION,
    answer: str = ANSWER,
    text: str = TEXT,
    template: PromptTemplate | None = None,
    skip_faulty: bool = False,
    progress: bool = True,
) -> list[QuestionAnswer]:
    r"""Load questions with their answers.

    Without names of columns, the form of each row is recognised: ``question`` and ``answer``; ``prompt`` and
    ``completion``; ``instruction``, ``input`` and ``output`` (Alpaca; the input is added to the question); a list of
    messages in ``messages`` or ``conversations`` (ShareGPT); or a ``text`` with both ("### Instruction: … ###
    Assistant: …"), which is taken apart. Numbers are text.

    Args:
        source: A file in JSON Lines, a JSON array, CSV, TSV or Parquet, each also compressed as .gz; ``"medical-qa"``
            for the rows that come with the library; the name of a data set on the hub, or a folder that `datasets`
            reads, either with ``:split`` or ``:configuration[split]`` at its end; a `datasets.Dataset` or
            `DatasetDict`; a `pandas.DataFrame`; or a list of mappings or of objects with ``question`` and ``answer``.
        split: The split of a data set, if its name does not contain one.
        question: The column of the question.
        answer: The column of the answer.
        text: The column of both in one text.
        template: The form of that text; None for the default `PromptTemplate`.
        skip_faulty: Leave faulty rows out, with a warning that counts them.
        progress: Let `datasets` show its progress bars.

    Returns:
        The rows in their order, white space around questions and answers removed. The system message of a conversation
        is put before each of its questions. Under the chat template, conversations stay whole.

    Raises:
        DataError: If there are no rows, no such file, data set or column, or rows without question or answer; the
            message counts them and names the first five.
        FileFormatError: If a file has another format, or is damaged.
        MissingExtraError: If a data set is given by name and `datasets` is not installed.

    Warns:
        RankSelectWarning: If rows are left out, or if a conversation of several turns becomes several rows.

    Example:
        >>> load_rows([{"text": "### Instruction: What is acne? ### Assistant: A disease of the skin."}])
        [QuestionAnswer(question='What is acne?', answer='A disease of the skin.')]
        >>> load_rows([{"instruction": "Translate into English.", "input": "chat", "output": "cat"}])
        [QuestionAnswer(question='Translate into English.\nchat', answer='cat')]
    """
    name = name_of(source, "the rows")
    form = _form(template, question, answer, text)
    found: list[QuestionAnswer | Conversation] = []
    faulty = FaultyRows(name, _EXPECTED, "load_rows")
    n_read = 0
    for where, sample in read_samples(source, split=split, progress=progress):
        n_read += 1
        try:
            if isinstance(sample, RankSelectError):
                raise sample
            found.append(form.row(sample, where))
        except RankSelectError as error:
            faulty.add(error)
    faulty.settle(n_read, skip=skip_faulty, stacklevel=2)
    if not found:
        raise DataError("at least one question with its answer", f"none in {name}", "Check the source of the rows.")
    unsplit = unsplit_turns(found, form.template)
    if unsplit:
        warnings.warn(
            f"{unsplit:,} of {len(found):,} answers contain words of the template, and may hold further turns: no "
            "words in it say where a question begins.",
            RankSelectWarning,
            stacklevel=2,
        )
    return _as_the_template_takes(found, template)


def rows_of(rows: object, template: PromptTemplate | None = None) -> Sequence[QuestionAnswer]:
    """Rows that a caller passes: a list of `QuestionAnswer` objects, or anything that `load_rows` reads.

    Args:
        rows: Objects with ``question`` and ``answer``, which are not changed; or a source of `load_rows`.
        template: The form of a text with both; None for the default `PromptTemplate`.

    Raises:
        DataError: If they are anything else, or one has a text that no tokenizer takes.

    Example:
        >>> rows_of([{"question": "What is acne?", "answer": "A disease of the skin."}])
        [QuestionAnswer(question='What is acne?', answer='A disease of the skin.')]
    """
    if not _are_rows(rows):
        return load_rows(rows, template=template)
    given = cast("Sequence[QuestionAnswer | Conversation]", rows)
    faulty = FaultyRows("the rows", _EXPECTED, "load_rows")
    for index, row in enumerate(given):
        texts = [m.content for m in row.messages] if isinstance(row, Conversation) else [row.question, row.answer]
        fault = next(filter(None, (unicode_fault(text) for text in texts if isinstance(text, str))), None)
        if fault:
            faulty.add(DataError("text in Unicode", f"{fault} (row {index})", "Repair the row."))
    faulty.settle(len(given), skip=False)
    if any(isinstance(row, Conversation) for row in given):
        return _as_the_template_takes(given, template)
    return cast("Sequence[QuestionAnswer]", given)


def questions_of(questions: Iterable[object], template: PromptTemplate | None = None) -> list[Any]:
    """The questions that a caller passes, as strings or as rows. Other elements of the list are not changed.

    Args:
        questions: Questions, or rows as `rows_of` takes them; their answers may be missing.
        template: The form of a text with both. The chat template keeps conversations.

    Raises:
        DataError: If it is no list, a mapping has no question, or a text is none that a tokenizer takes.

    Example:
        >>> questions_of(["What is acne?", {"question": "What is gout?"}])
        ['What is acne?', 'What is gout?']
    """
    if isinstance(questions, (str, os.PathLike, Mapping, type)) or not isinstance(questions, Iterable):
        raise DataError("a list of questions", _one(questions), "Pass a list, even for one question.")
    form = _form(template)
    faulty = FaultyRows("the questions", "questions", "load_rows")
    given, asked = list(questions), []
    for index, sample in enumerate(given):
        try:
            asked.append(form.asked(sample, f"row {index}"))
        except DataError as error:
            faulty.add(error)
    faulty.settle(len(given), skip=False)
    if _is_chat(template):
        return asked
    shortened = sum(isinstance(each, Conversation) and each.has_several_turns for each in asked)
    if shortened:
        _warn_of_turns(shortened, len(asked), "is asked its last question alone")
    return [_with_system(each, each.question) if isinstance(each, Conversation) else each for each in asked]


def digest_of(rows: Sequence[QuestionAnswer | Conversation]) -> str | None:
    """SHA-256 of rows in their order; None for no rows.

    Example:
        >>> digest_of([QuestionAnswer("What is acne?", "A disease of the skin.")])[:8]
        'feaabc32'
    """
    if not rows:
        return None
    digest = hashlib.sha256()
    for row in rows:
        texts = [m.content for m in row.messages] if isinstance(row, Conversation) else [row.question, row.answer]
        digest.update("\0".join([*texts, ""]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _form(
    template: PromptTemplate | None, question: str = QUESTION, answer: str = ANSWER, text: str = TEXT
) -> RowFormat:
    """Where samples keep their questions and answers. Texts of both are not written with the chat template."""
    written = PromptTemplate() if _is_chat(template) else template_of(template)
    return RowFormat(question, answer, text, written)


def _is_chat(template: PromptTemplate | None) -> bool:
    return bool(getattr(template, "is_chat", False))


def _are_rows(rows: object) -> bool:
    return isinstance(rows, (list, tuple)) and all(
        not isinstance(row, type) and hasattr(row, QUESTION) and hasattr(row, ANSWER) for row in rows
    )


def _as_the_template_takes(
    found: Sequence[QuestionAnswer | Conversation], template: PromptTemplate | None
) -> list[QuestionAnswer]:
    """The rows; conversations as they are under the chat template, otherwise each exchange as a row."""
    if _is_chat(template):
        return cast("list[QuestionAnswer]", list(found))  # a conversation has question and answer, too
    rows = []
    several = 0
    for row in found:
        if isinstance(row, Conversation):
            several += row.has_several_turns
            rows += [QuestionAnswer(_with_system(row, asked), answer) for asked, answer in row.exchanges]
        else:
            rows.append(row)
    if several:
        _warn_of_turns(several, len(found), "became one row for each turn, without the turns before it")
    return rows


def _with_system(row: Conversation, question: str) -> str:
    return f"{row.system}\n{question}" if row.system else question


def _warn_of_turns(count: int, n: int, what: str) -> None:
    warnings.warn(
        f"{count:,} of {n:,} rows hold several turns: each {what}. PromptTemplate.chat keeps turns together.",
        RankSelectWarning,
        stacklevel=4,
    )


def _one(value: object) -> str:
    """A description of an object that was given instead of a list."""
    if isinstance(value, Mapping):
        return f"a mapping of {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"{value!r}, a {type(value).__name__}" if isinstance(value, (str, os.PathLike)) else repr(value)


def load_texts(
    source: object, field: str = TEXT, *, split: str = "train", skip_faulty: bool = False, progress: bool = True
) -> list[str]:
    """Load one text for each sample; empty ones are left out.

    Args:
        source: As `load_rows` takes it: a file, a data set, or a list of mappings.
        field: The field (column) of a sample that holds its text.
        split: The split of a data set, if its name does not contain one.
        skip_faulty: Leave out samples without a text, with a warning that counts them.
        progress: Let `datasets` show its progress bars.

    Raises:
        TextsError: If there is no such file, data set or column, or samples have no text there; the message counts them
            and names the first five.
        FileFormatError: If a file has another format, or is damaged.
        MissingExtraError: If a data set is given by name and `datasets` is not installed.

    Warns:
        RankSelectWarning: If texts are left out.

    Example:
        >>> len(load_texts("medical-qa")), load_texts("medical-qa", "question")[0]
        (1024, 'What does the term acne mean?')
    """
    name = name_of(source, "the samples")
    faulty = FaultyRows(name, f"samples with text in the field {field!r}", "load_texts")
    texts: list[str] = []
    n_read = 0
    try:
        for where, sample in read_samples(source, split=split, columns=(field,), progress=progress):
            n_read += 1
            try:
                texts.append(_text(sample, field, where))
            except RankSelectError as error:
                faulty.add(error)
        faulty.settle(n_read, skip=skip_faulty, stacklevel=2)
    except DataError as error:
        raise TextsError(error.expected, error.got, error.remedy) from error
    kept = [text for text in texts if text.strip()]
    if len(kept) < len(texts):
        warnings.warn(
            f"{len(texts) - len(kept)} of {len(texts)} texts in {name} are empty, and were left out.",
            RankSelectWarning,
            stacklevel=2,
        )
    return kept


def _text(sample: object, field: str, where: str) -> str:
    if isinstance(sample, RankSelectError):
        raise sample
    if not isinstance(sample, Mapping):
        got = f"{with_article(type(sample).__name__)} ({where})"
        raise DataError(f"a mapping with the field {field!r}", got, "Convert each sample to a mapping.")
    if field not in sample:
        raise no_such_column(field, sample, where, "Name the field: load_texts(…, field=NAME).", kind="field")
    text = sample[field]
    if not isinstance(text, str):
        got = f"{with_article(type(text).__name__)} ({where})"
        raise DataError(f"text in the field {field!r}", got, "Name another field: load_texts(…, field=NAME).")
    fault = unicode_fault(text)
    if fault:
        raise DataError(f"text in Unicode in the field {field!r}", f"{fault} ({where})", "Repair the text.")
    return text
