"""A text with question and answer, or with several of them, taken apart with its prompt template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.data.conversation import Conversation, Message
from rankselect.data.prompts import QuestionAnswer
from rankselect.data.values import text_of
from rankselect.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rankselect.data.prompts import PromptTemplate

__all__ = ["turns_of", "unsplit_turns"]


def turns_of(text: str, template: PromptTemplate, where: str) -> QuestionAnswer | Conversation:
    """Find question and answer in a text, or all of its turns.

    The template's words before a question begin a new turn, if the words before an answer follow them.

    Args:
        text: The text.
        template: Its form.
        where: Its position, for messages.

    Raises:
        DataError: If the text has another form, or a question or an answer is empty.

    Example:
        >>> from rankselect.data.prompts import PromptTemplate
        >>> template = PromptTemplate("Q: {question} A: {answer}")
        >>> turns_of("Q: Hi? A: Hello. Q: Well? A: Yes.", template, "row 0").exchanges
        (('Hi?', 'Hello.'), ('Well?', 'Yes.'))
    """
    turns = [_parsed(turn, template, where) for turn in _split(text, template)]
    if len(turns) == 1:
        return turns[0]
    messages = [
        message for turn in turns for message in (Message("user", turn.question), Message("assistant", turn.answer))
    ]
    return Conversation(tuple(messages))


def unsplit_turns(rows: Iterable[object], template: PromptTemplate) -> int:
    """Count answers that may hold further turns, because no words of the template begin a question.

    Args:
        rows: Rows; conversations do not count.
        template: The form of their texts.

    Example:
        >>> from rankselect.data.prompts import PromptTemplate
        >>> template = PromptTemplate("{question} Answer: {answer}")
        >>> unsplit_turns([turns_of("Hi? Answer: Hello. Well? Answer: Yes.", template, "row 0")], template)
        1
    """
    opening, answering = _words_of(template)
    if opening or not answering:
        return 0
    return sum(answering in row.answer for row in rows if isinstance(row, QuestionAnswer))


def _split(text: str, template: PromptTemplate) -> list[str]:
    """The text of each turn."""
    opening, answering = _words_of(template)
    if not opening or text.count(opening) < 2:
        return [text]
    first, *others = text.split(opening)
    turns = [first]
    for other in others:
        if answering in other:
            turns.append(opening + other)
        else:  # the words belong to a question or an answer
            turns[-1] += opening + other
    return turns if turns[0].strip() else turns[1:]


def _words_of(template: PromptTemplate) -> tuple[str, str]:
    """The words before the question, and those between question and answer."""
    opening, _, between = template.prompt("\0").partition("\0")
    return opening.strip(), between.strip()


def _parsed(text: str, template: PromptTemplate, where: str) -> QuestionAnswer:
    try:
        row = template.parse(text)
    except DataError as error:
        raise DataError(error.expected, f"{error.got} ({where})", error.remedy) from error
    return QuestionAnswer(
        text_of(row.question, "question", where, remedy=""), text_of(row.answer, "answer", where, remedy="")
    )
