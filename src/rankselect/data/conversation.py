"""A conversation of several turns, as chat data sets hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from rankselect.errors import DataError

__all__ = ["Conversation", "Message"]


@final
@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Who says it.
        content: What is said.

    Example:
        >>> Message("user", "What is acne?").content
        'What is acne?'
    """

    role: Literal["system", "user", "assistant"]
    content: str


@final
@dataclass(frozen=True)
class Conversation:
    """Messages in their order: a system message or none, then user and assistant in turn.

    The last message is the assistant's in a row to train on, and the user's in one that is still to be answered.

    Attributes:
        messages: The messages.

    Raises:
        DataError: If the order is another one, or there is no message of the user.

    Example:
        >>> row = Conversation((Message("user", "What is acne?"), Message("assistant", "A disease of the skin.")))
        >>> row.question, row.answer
        ('What is acne?', 'A disease of the skin.')
    """

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        turns = [message.role for message in self._turns]
        expected = [("user", "assistant")[index % 2] for index in range(len(turns))]
        if not turns or turns != expected:
            raise DataError(
                "messages of user and assistant in turn, after at most one system message",
                ", ".join(message.role for message in self.messages) or "none",
                "Repair the conversation.",
            )

    @property
    def system(self) -> str:
        """The text of the system message; empty without one."""
        return self.messages[0].content if len(self._turns) < len(self.messages) else ""

    @property
    def exchanges(self) -> tuple[tuple[str, str], ...]:
        """Each message of the user with the assistant's reply to it. A last message without a reply is left out."""
        turns = [message.content for message in self._turns]
        return tuple(zip(turns[::2], turns[1::2], strict=False))

    @property
    def has_several_turns(self) -> bool:
        """Whether the user speaks more than once."""
        return len(self._turns) > 2

    @property
    def question(self) -> str:
        """The last message of the user."""
        return next(message.content for message in reversed(self.messages) if message.role == "user")

    @property
    def answer(self) -> str:
        """The last message, if it is the assistant's; otherwise empty."""
        last = self.messages[-1]
        return last.content if last.role == "assistant" else ""

    @property
    def _turns(self) -> tuple[Message, ...]:
        """The messages after the system message."""
        starts_with_system = self.messages[:1] and self.messages[0].role == "system"
        return self.messages[1:] if starts_with_system else self.messages
