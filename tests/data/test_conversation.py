"""Conversations: which orders of messages they take, and what they say of themselves."""

from __future__ import annotations

import pytest

from rankselect.data.conversation import Conversation, Message
from rankselect.errors import DataError


def talk(*roles):
    return Conversation(tuple(Message(role, f"{role} {index}") for index, role in enumerate(roles)))


def test_the_parts_of_a_conversation():
    row = talk("system", "user", "assistant", "user", "assistant")
    assert row.system == "system 0"
    assert row.exchanges == (("user 1", "assistant 2"), ("user 3", "assistant 4"))
    assert (row.question, row.answer) == ("user 3", "assistant 4")


def test_one_that_is_not_answered_yet():
    row = talk("user", "assistant", "user")
    assert row.exchanges == (("user 0", "assistant 1"),)
    assert (row.system, row.question, row.answer) == ("", "user 2", "")


@pytest.mark.parametrize(
    "roles",
    [(), ("system",), ("assistant", "user"), ("user", "user"), ("user", "system", "assistant"), ("system",) * 2],
)
def test_another_order_is_refused(roles):
    with pytest.raises(DataError, match=f"user and assistant in turn.*got {', '.join(roles) or 'none'}"):
        talk(*roles)


def test_several_turns():
    assert talk("user", "assistant", "user").has_several_turns
    assert not talk("system", "user", "assistant").has_several_turns
