"""Conversations as chat data sets write them: lists of messages, of OpenAI's form or ShareGPT's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from rankselect.data.conversation import Conversation, Message
from rankselect.data.values import text_of
from rankselect.errors import DataError, with_article

__all__ = ["conversation_of"]

_ROLES: Final[dict[str, Literal["system", "user", "assistant"]]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}
_KEYS = (("role", "content"), ("from", "value"))


def conversation_of(messages: Any, where: str, *, system: str = "", answered: bool = True) -> Conversation:
    """Read a list of messages.

    Args:
        messages: Mappings with ``role`` and ``content``, or with ``from`` and ``value``; or a mapping of two such
            lists, as `datasets` may keep them. A content may be a list of parts of text.
        where: The position, for messages.
        system: The text of a system message, used if the messages begin with none.
        answered: Whether the last message must be the assistant's.

    Raises:
        DataError: If it is no such list, a message has another role or no text, or the order is another one.

    Example:
        >>> turns = [{"from": "human", "value": "What is acne?"}, {"from": "gpt", "value": "A disease of the skin."}]
        >>> conversation_of(turns, "row 0").exchanges
        (('What is acne?', 'A disease of the skin.'),)
    """
    if isinstance(messages, Mapping):
        messages = [dict(zip(messages, values, strict=True)) for values in zip(*messages.values(), strict=True)]
    try:
        listed = [] if isinstance(messages, (str, bytes)) else list(messages)
    except TypeError:
        listed = []
    if not listed:
        got = "an empty list" if isinstance(messages, list) else _kind(messages)
        raise DataError("a list of messages", f"{got} ({where})", "Repair the row.")
    read = [_message(message, where) for message in listed]
    if system and read[0].role != "system":
        read.insert(0, Message("system", system))
    try:
        conversation = Conversation(tuple(read))
    except DataError as error:
        raise DataError(error.expected, f"{error.got} ({where})", "Repair the row.") from None
    if answered and not conversation.answer:
        raise DataError(
            "a conversation that ends with an answer", f"a last message of the user ({where})", "Repair the row."
        )
    return conversation


def _message(message: Any, where: str) -> Message:
    if isinstance(message, Mapping):
        for role, content in _KEYS:
            if role in message and content in message:
                return Message(_role(message[role], where), _content(message[content], where))
    found = f"keys {', '.join(map(str, message)) or 'none'}" if isinstance(message, Mapping) else _kind(message)
    raise DataError("messages with role and content, or from and value", f"{found} ({where})", "Repair the row.")


def _role(name: Any, where: str) -> Literal["system", "user", "assistant"]:
    role = _ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise DataError("messages of system, user and assistant", f"one of {name!r} ({where})", "Leave the row out.")
    return role


def _content(content: Any, where: str) -> str:
    if isinstance(content, (list, tuple)):
        parts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise DataError("messages of text only", f"one with other parts ({where})", "Leave the row out.")
        content = "\n".join(parts)
    return text_of(content, "message", where, remedy="Repair the row.")


def _kind(value: object) -> str:
    return "None" if value is None else with_article(type(value).__name__)
