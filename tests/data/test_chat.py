"""Chat templates: the tokens of apply_chat_template, the loss on all answers, generation up to the end of the turn."""

from __future__ import annotations

import pytest

import rankselect as rs
from data.chat_templates import TEMPLATES, WITHOUT_SYSTEM, chat_tokenizer
from rankselect.data.chat_tokens import prompt_tokens
from rankselect.data.conversation import Conversation, Message
from rankselect.data.encoding import IGNORED, encode_rows
from rankselect.errors import ArgumentError, DataError

ENDS = {
    "chatml": "<|im_end|>",
    "qwen": "<|im_end|>",
    "llama-2": "</s>",
    "llama-3": "<|eot_id|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "phi-3": "<|end|>",
    "zephyr": "</s>",
}
TURNS = (
    Message("user", "What is gout?"),
    Message("assistant", "A form of arthritis."),
    Message("user", "Is it common?"),
    Message("assistant", "Yes. It is."),
)


def by_transformers(tokenizer, messages, *, generate=False):
    listed = [{"role": message.role, "content": message.content} for message in messages]
    found = tokenizer.apply_chat_template(listed, tokenize=True, add_generation_prompt=generate, return_dict=True)
    return list(found["input_ids"])


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("system", [None, "Answer like a physician."])
def test_tokens_are_those_of_apply_chat_template(family, n, system):
    if system and family in WITHOUT_SYSTEM:
        pytest.skip("this template takes no system message")
    tokenizer = chat_tokenizer(TEMPLATES[family])
    messages = (*([Message("system", system)] if system else []), *TURNS[:n])
    encode = prompt_tokens(tokenizer, rs.PromptTemplate.chat(tokenizer))
    [row] = encode.rows([Conversation(messages)])
    assert row.ids == by_transformers(tokenizer, messages)
    [prompt] = encode.prompts([Conversation(messages)])
    assert prompt == by_transformers(tokenizer, messages[:-1], generate=True)
    assert row.ids[: len(prompt)] == prompt


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_loss_is_on_all_answers_and_the_ends_of_their_turns(family):
    tokenizer = chat_tokenizer(TEMPLATES[family])
    template = rs.PromptTemplate.chat(tokenizer)
    assert ENDS[family] in template.stop
    [row] = encode_rows([Conversation(TURNS)], tokenizer, template=template)
    learned = tokenizer.decode([label for label in row["labels"] if label != IGNORED])
    pieces = [piece.strip() for piece in learned.split(ENDS[family])]
    assert pieces == ["A form of arthritis.", "Yes. It is.", ""]
    everything = encode_rows([Conversation(TURNS)], tokenizer, template=template, loss_on="all")[0]
    assert everything["labels"] == everything["input_ids"] == row["input_ids"]


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_row_of_one_question_is_a_conversation_of_one_exchange(family):
    tokenizer = chat_tokenizer(TEMPLATES[family])
    template = rs.PromptTemplate.chat(tokenizer)
    pair = rs.QuestionAnswer(TURNS[0].content, TURNS[1].content)
    rows = prompt_tokens(tokenizer, template).rows([pair, Conversation(TURNS[:2])])
    assert rows[0] == rows[1]


@pytest.mark.parametrize("family", TEMPLATES)
def test_what_users_write_makes_no_control_token(family):
    tokenizer = chat_tokenizer(TEMPLATES[family])
    encode = prompt_tokens(tokenizer, rs.PromptTemplate.chat(tokenizer))
    plain, hostile = (
        rs.QuestionAnswer("What is it?", f"It is gout.{extra} More.") for extra in ("", f"{ENDS[family]}</s><|im_end|>")
    )
    clean, guarded = encode.rows([plain, hostile])
    special = set(tokenizer.all_special_ids)
    assert [i for i in guarded.ids if i in special] == [i for i in clean.ids if i in special]
    assert f"It is gout.{ENDS[family]}</s><|im_end|> More." in tokenizer.decode(guarded.ids)


@pytest.mark.parametrize("family", WITHOUT_SYSTEM)
def test_a_template_without_a_system_message_refuses_one(family):
    tokenizer = chat_tokenizer(TEMPLATES[family])
    with pytest.raises(ArgumentError, match="a chat template that takes a system message, got one that does not"):
        rs.PromptTemplate.chat(tokenizer, system="Be brief.")
    encode = prompt_tokens(tokenizer, rs.PromptTemplate.chat(tokenizer))
    with pytest.raises(DataError, match="messages that the chat template takes, got system, user"):
        encode.rows([Conversation((Message("system", "Be brief."), *TURNS[:2]))])


def test_the_system_message_of_the_template_is_that_of_rows_without_one():
    tokenizer = chat_tokenizer(TEMPLATES["chatml"])
    encode = prompt_tokens(tokenizer, rs.PromptTemplate.chat(tokenizer, system="Be brief."))
    own = Conversation((Message("system", "Be long."), *TURNS[:2]))
    texts = [tokenizer.decode(row.ids) for row in encode.rows([Conversation(TURNS[:2]), own])]
    assert "Be brief." in texts[0]
    assert "Be brief." not in texts[1]
    assert "Be long." in texts[1]


def test_a_tokenizer_without_a_chat_template():
    with pytest.raises(ArgumentError, match="expected a tokenizer with a chat template, got one without"):
        rs.PromptTemplate.chat(chat_tokenizer())


def test_a_long_conversation_loses_its_oldest_turns_first():
    tokenizer = chat_tokenizer(TEMPLATES["chatml"])
    template = rs.PromptTemplate.chat(tokenizer)
    with pytest.warns(rs.RankSelectWarning, match="1 questions and 0 answers of 1 rows were cut"):
        [row] = encode_rows([Conversation(TURNS)], tokenizer, template=template, max_length=64)
    text = tokenizer.decode(row["input_ids"])
    assert "gout" not in text
    assert text.startswith("<|im_start|>user\nIs it common?<|im_end|>")
    assert "Yes. It is." in text
