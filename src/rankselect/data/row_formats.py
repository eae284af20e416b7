"""The forms in which people keep questions with answers, and how each becomes a row."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from rankselect.data.chat_format import conversation_of
from rankselect.data.conversation import Conversation, Message
from rankselect.data.prompts import QuestionAnswer
from rankselect.data.text_turns import turns_of
from rankselect.data.values import text_of
from rankselect.errors import DataError, described

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rankselect.data.prompts import PromptTemplate

__all__ = ["ANSWER", "QUESTION", "TEXT", "RowFormat", "no_such_column"]

QUESTION, ANSWER, TEXT = "question", "answer", "text"
"""The usual names of the columns."""

_CHATS = ("messages", "conversations", "conversation")
_PAIRS = (
    (QUESTION, ANSWER),
    ("prompt", "completion"),  # TRL
    ("instruction", "output"),  # Alpaca
    ("prompt", "response"),
    ("instruction", "response"),  # Dolly
)
_CONTEXTS = {"instruction": ("input", "context")}
_SYSTEM = "system"


@final
@dataclass(frozen=True)
class RowFormat:
    r"""Where samples keep their questions and answers.

    If the caller names columns, only these are read. With the usual names, the first of these forms is used that a
    sample has: ``question`` and ``answer``; a list of messages in ``messages`` or ``conversations``; ``prompt`` and
    ``completion``; ``instruction``, ``input`` and ``output``; ``text``.

    Attributes:
        question: The column of the question.
        answer: The column of the answer.
        text: The column of both in one text.
        template: The form of that text.

    Example:
        >>> from rankselect.data.prompts import PromptTemplate
        >>> usual = RowFormat("question", "answer", "text", PromptTemplate())
        >>> usual.row({"instruction": "Translate.", "input": "chat", "output": "cat"}, "row 0").question
        'Translate.\nchat'
    """

    question: str
    answer: str
    text: str
    template: PromptTemplate

    def row(self, sample: Any, where: str) -> QuestionAnswer | Conversation:
        """The question and answer of a sample; its conversation, if it has several turns or a system message.

        Raises:
            DataError: If it has no columns for them, or no text in them.
        """
        if isinstance(sample, Conversation):
            return sample
        if not isinstance(sample, Mapping):
            return _of_object(sample, where)
        has_pair = self.question in sample or self.answer in sample
        if self._names_text and self.text in sample and not (self._names_pair and has_pair):
            return self._taken_apart(sample[self.text], where)
        if self.question in sample and self.answer in sample:
            return self._pair(sample, self.question, self.answer, where)
        if self._names_pair or self._names_text:
            raise self._missing(sample, where)
        return self._of_a_known_form(sample, where)

    def _of_a_known_form(self, sample: Mapping[str, Any], where: str) -> QuestionAnswer | Conversation:
        names = _folded(sample)
        chat = _chat(sample, names)
        if chat is not None:
            return conversation_of(sample[chat], where, system=_system(sample, names, where))
        for question, answer in _PAIRS:
            if question in names and answer in names:
                return self._pair(sample, names[question], names[answer], where)
        if TEXT in names and QUESTION not in names and ANSWER not in names:
            return self._taken_apart(sample[names[TEXT]], where)
        raise self._missing(sample, where)

    def asked(self, sample: Any, where: str) -> Any:
        """The question of a sample, which need not have an answer; a conversation stays one.

        Objects that are no rows are returned unchanged.

        Raises:
            DataError: If a mapping has no question, or a text is none that a tokenizer takes.
        """
        if not isinstance(sample, Mapping):
            asked = sample if isinstance(sample, Conversation) else getattr(sample, QUESTION, sample)
            if isinstance(asked, str) and asked.strip():
                text_of(asked, QUESTION, where, remedy="")
            return asked
        names = _folded(sample)
        chat = _chat(sample, names)
        if QUESTION not in names and chat is not None:
            return conversation_of(sample[chat], where, system=_system(sample, names, where), answered=False)
        for question, _ in _PAIRS:
            if question in names and _is_list(sample[names[question]]):
                return conversation_of(sample[names[question]], where, answered=False)
            if question in names:
                return self._question(sample, names[question], where)
        if TEXT in names:
            found = self._taken_apart(sample[names[TEXT]], where)
            return found.question if isinstance(found, QuestionAnswer) else found
        raise self._missing(sample, where)

    @property
    def _names_pair(self) -> bool:
        return (self.question, self.answer) != (QUESTION, ANSWER)

    @property
    def _names_text(self) -> bool:
        return self.text != TEXT

    def _taken_apart(self, text: object, where: str) -> QuestionAnswer | Conversation:
        return turns_of(text_of(text, TEXT, where, remedy=_other_column(TEXT)), self.template, where)

    def _pair(self, sample: Mapping[str, Any], question: str, answer: str, where: str) -> QuestionAnswer | Conversation:
        if _is_list(sample[question]) and _is_list(sample[answer]):  # TRL's conversational form
            return conversation_of([*sample[question], *sample[answer]], where)
        asked = self._question(sample, question, where)
        answered = text_of(sample[answer], ANSWER, where, remedy=_other_column(ANSWER))
        if question != self.question:
            system = _system(sample, _folded(sample), where)
            if system:
                return Conversation((Message("system", system), Message("user", asked), Message("assistant", answered)))
        return QuestionAnswer(asked, answered)

    def _question(self, sample: Mapping[str, Any], column: str, where: str) -> str:
        """The question, with the input that belongs to it in Alpaca's form."""
        asked = text_of(sample[column], QUESTION, where, remedy=_other_column(QUESTION))
        contexts = _CONTEXTS.get(column.strip().casefold())
        if contexts:
            names = _folded(sample)
            for context in contexts:
                value = sample[names[context]] if context in names and names[context] != self.answer else None
                if value is not None and value != "":
                    return f"{asked}\n{text_of(value, context, where, remedy='Repair the row.')}"
        return asked

    def _missing(self, sample: Mapping[str, Any], where: str) -> DataError:
        in_table = where.partition(", line ")[0].lower().removesuffix(".gz").endswith((".csv", ".tsv", ".tab"))
        hint = " The first line of a table must name its columns." if in_table else ""
        if self._names_text and not self._names_pair:
            return no_such_column(self.text, sample, where, f"Name the column: load_rows(…, text=COLUMN).{hint}")
        for column, other, part in ((self.question, self.answer, QUESTION), (self.answer, self.question, ANSWER)):
            if column not in sample and (self._names_pair or other in sample):
                return no_such_column(column, sample, where, f"Name the column: load_rows(…, {part}=COLUMN).{hint}")
        return DataError(
            "the columns question and answer, text, messages, or those of another form that is known",
            f"{_listed(sample)} ({where})",
            f"Name the columns: load_rows(…, question=COLUMN, answer=COLUMN).{hint}",
        )


def no_such_column(column: str, found: Iterable[str], where: str, remedy: str, *, kind: str = "column") -> DataError:
    """The error for a column that is not there, with near matches.

    Args:
        column: The missing column.
        found: The columns that are there.
        where: In which row.
        remedy: How the caller chooses another.
        kind: The word for a column in the message.
    """
    near = difflib.get_close_matches(column, [str(name)[:40] for name in found], n=2, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return DataError(f"a {kind} {column!r}", f"none ({where}, has: {_listed(found)})", f"{hint}{remedy}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(str(name)[:40] for name in names) or "none"


def _other_column(part: str) -> str:
    return f"Name another column: load_rows(…, {part}=COLUMN)."


def _folded(sample: Mapping[str, Any]) -> dict[str, str]:
    """The names of the columns, by their form in lower case."""
    return {str(name).strip().casefold(): name for name in sample}


def _chat(sample: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    """The column with a list of messages, if there is one."""
    return next((names[name] for name in _CHATS if name in names and sample[names[name]] is not None), None)


def _system(sample: Mapping[str, Any], names: Mapping[str, str], where: str) -> str:
    """The text of the column for a system message; empty without one."""
    value = sample[names[_SYSTEM]] if _SYSTEM in names else None
    return text_of(value, _SYSTEM, where, remedy="Repair the row.") if isinstance(value, str) and value.strip() else ""


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) or type(value).__name__ == "ndarray"


def _of_object(sample: Any, where: str) -> QuestionAnswer:
    if not (hasattr(sample, QUESTION) and hasattr(sample, ANSWER)):
        got = described(sample)
        raise DataError(
            "a mapping or an object with question and answer", f"{got} ({where})", "Convert each row to a mapping."
        )
    return QuestionAnswer(
        text_of(sample.question, QUESTION, where, remedy="Repair the row."),
        text_of(sample.answer, ANSWER, where, remedy="Repair the row."),
    )
