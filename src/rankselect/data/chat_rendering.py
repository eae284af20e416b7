"""Conversations as text, by the chat template of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from jinja2.exceptions import TemplateError

from rankselect.data.control_tokens import ControlTokens
from rankselect.data.conversation import Conversation
from rankselect.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ChatRendering", "chat_source"]

_MARKS = ("\ufdd1", "\ufdd2", "\ufdd3", "\ufdd4")  # characters that no text contains: user, assistant, user, assistant
_SYSTEM_MARK = "\ufdd5"


def chat_source(tokenizer: Any) -> str:
    """The Jinja source of a tokenizer's chat template.

    Raises:
        ArgumentError: If it has none.
    """
    name = getattr(tokenizer, "name_or_path", "") or f"a {type(tokenizer).__name__}"
    try:
        source = tokenizer.get_chat_template() if getattr(tokenizer, "chat_template", None) else None
    except ValueError:  # several templates, none of them the default
        source = None
    if not isinstance(source, str):
        raise ArgumentError(
            "a tokenizer with a chat template",
            f"one without ({name})",
            "Take the tokenizer of a chat model, set tokenizer.chat_template, or write a template with {question} and "
            "{answer}.",
        )
    return source


@final
@dataclass(frozen=True)
class ChatRendering:
    """Writes conversations with a chat template, and finds the assistant's turns in them.

    Attributes:
        tokenizer: Its special tokens are variables of the template.
        source: The template in Jinja.
        system: The system message of conversations without one, or None.

    Raises:
        ArgumentError: If the template does not take the system message, or no conversation of two turns.
    """

    tokenizer: Any = field(repr=False, compare=False)
    source: str
    system: str | None = None

    def __post_init__(self) -> None:
        user, assistant, *_ = self._marked(4)
        if self.system is not None:
            why = self._refusal_of_system(user)
            if why:
                raise ArgumentError(
                    "a chat template that takes a system message",
                    f"one that does not ({why})",
                    "Leave system out, or put its text before the questions.",
                )
        try:
            text = self._rendered([user, assistant], generate=False)
        except TemplateError as error:
            raise ArgumentError("a chat template", f"one that fails ({error})", "Repair the template.") from error
        if not all(mark in text for mark in _MARKS[:2]):
            raise ArgumentError("a chat template that writes question and answer", repr(text), "Repair the template.")

    def _refusal_of_system(self, user: dict[str, str]) -> str:
        """Why the template takes no system message; empty if it does."""
        try:
            text = self._rendered([_message("system", _SYSTEM_MARK), user], generate=True)
        except TemplateError as error:
            return str(error)
        return "" if _SYSTEM_MARK in text else "the template leaves it out"

    def messages(self, row: Any) -> list[dict[str, str]]:
        """The messages of a row, or of a question that is still to be answered.

        A row's own system message is used instead of `system`.
        """
        if isinstance(row, Conversation):
            found = [_message(message.role, message.content) for message in row.messages]
        elif isinstance(row, str):
            found = [_message("user", row)]
        else:
            found = [_message("user", row.question), _message("assistant", row.answer)]
        if self.system is not None and found[0]["role"] != "system":
            found.insert(0, _message("system", self.system))
        return found

    def text(self, messages: Sequence[dict[str, str]], *, generate: bool = False) -> str:
        """Messages as one text; with `generate` up to where the assistant's next turn begins.

        Raises:
            DataError: If the template refuses the messages.
        """
        try:
            return self._rendered(messages, generate=generate)
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise DataError(
                "messages that the chat template takes",
                f"{roles} ({error})",
                "Repair the row, or take a template with {question} and {answer}.",
            ) from error

    def starts(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Where each of the assistant's turns begins in the text of a conversation.

        That is where the text for generation ends. Some templates write earlier turns otherwise than the last one (with
        the system message in the last question); there, the turns are found by what is written around them.

        Raises:
            DataError: If the template writes an answer otherwise than it stands in the row.
        """
        whole = self.text(messages)
        starts = []
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                head = self.text(messages[:index], generate=True)
                starts.append(len(head) if whole.startswith(head) else -1)
        return self._by_surroundings(whole, messages) if -1 in starts else starts

    def _by_surroundings(self, whole: str, messages: Sequence[dict[str, str]]) -> list[int]:
        mark = _MARKS[1]
        marked = [_message("assistant", mark) if each["role"] == "assistant" else each for each in messages]
        starts, position = [], 0
        for literal in self.text(marked).split(mark)[:-1]:
            found = whole.find(literal, position)
            if found < 0:
                raise DataError(
                    "a chat template that writes earlier answers as they are",
                    repr(literal[-40:]),
                    "Split the conversation into rows of one answer.",
                )
            position = found + len(literal)
            starts.append(position)
        return starts

    @cached_property
    def head(self) -> str:
        """The words around a question: from the beginning to the assistant's turn, without the system message."""
        return self._rendered(self._marked(1), generate=True).replace(_MARKS[0], "")

    @cached_property
    def before_answer(self) -> str:
        """The words between question and answer."""
        return self._rendered(self._marked(1), generate=True).partition(_MARKS[0])[2]

    @cached_property
    def after_answers(self) -> tuple[str, ...]:
        """The words after the last answer and, where the template takes several turns, after an earlier one."""
        last = self._rendered(self._marked(2), generate=False).partition(_MARKS[1])[2]
        try:
            several = self._rendered(self._marked(4), generate=False)
        except TemplateError:
            return (last,)
        return (last, several.partition(_MARKS[1])[2].partition(_MARKS[2])[0])

    @cached_property
    def control(self) -> ControlTokens:
        """The control tokens: those of the tokenizer, and what the template writes around its messages."""
        return ControlTokens(self.tokenizer, "".join((self.head, *self.after_answers)))

    @cached_property
    def stop(self) -> tuple[str, ...]:
        """The texts that end an answer: the control token that ends a turn, else the first words after the answer."""
        found = dict.fromkeys(self._end_of_turn(words) for words in self.after_answers)
        return tuple(text for text in found if text)

    def _end_of_turn(self, words: str) -> str:
        control = self.control.found_in(words)
        return control[0] if control else words.strip().partition("\n")[0]

    def _marked(self, n: int) -> list[dict[str, str]]:
        """Messages of marks, user and assistant in turn."""
        return [_message(("user", "assistant")[index % 2], _MARKS[index]) for index in range(n)]

    def _rendered(self, messages: Sequence[dict[str, str]], *, generate: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            list(messages), chat_template=self.source, tokenize=False, add_generation_prompt=generate
        )
        return text


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
