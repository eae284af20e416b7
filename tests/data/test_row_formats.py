"""The forms in which people keep questions with answers: each becomes the row that its words mean."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pytest

from rankselect.data.conversation import Conversation, Message
from rankselect.data.prompts import PromptTemplate, QuestionAnswer
from rankselect.data.rows import load_rows, questions_of, rows_of
from rankselect.errors import DataError, RankSelectWarning

Q, A = "What is gout?", "A form of arthritis."
SEVERAL = ("Hi", "Hello.", Q, A)


def openai(*texts, system=None):
    first = [] if system is None else [{"role": "system", "content": system}]
    return first + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def sharegpt(*texts):
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


class Chat:
    """A template that keeps conversations."""

    is_chat = True


def silent(sample, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_rows([sample], **how)


@pytest.mark.parametrize(
    "sample",
    [
        {"question": Q, "answer": A, "text": "of another form"},
        {"Question": Q, " ANSWER ": A},
        {"prompt": Q, "completion": f" {A}"},
        {"prompt": openai(Q), "completion": openai(Q, A)[1:]},
        {"prompt": Q, "response": A, "id": 3},
        {"instruction": Q, "output": A},
        {"instruction": Q, "input": "", "output": A, "text": "Below is an instruction …"},
        {"instruction": Q, "context": None, "response": A, "category": "open_qa"},
        {"messages": openai(Q, A), "prompt": Q, "prompt_id": "1"},
        {"messages": np.array(openai(Q, A), dtype=object)},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": Q}]}, openai(Q, A)[1]]},
        {"conversations": sharegpt(Q, A), "id": "identity_0"},
        {"conversations": {"from": ["human", "gpt"], "value": [Q, A]}},
        {"text": f"### Instruction: {Q} ### Assistant: {A}"},
    ],
)
def test_forms_of_a_question_with_its_answer(sample):
    assert silent(sample) == [QuestionAnswer(Q, A)]


@pytest.mark.parametrize("names", [("instruction", "input", "output"), ("Instruction", "context", "response")])
def test_the_input_belongs_to_the_question(names):
    sample = dict(zip(names, (Q, "a man of 50", A), strict=True))
    expected = [QuestionAnswer(f"{Q}\na man of 50", A)]
    assert silent(sample) == silent(sample, question=names[0], answer=names[2]) == expected
    assert questions_of([sample]) == [expected[0].question]


def test_a_system_message_stands_before_the_question():
    expected = [QuestionAnswer(f"Be brief.\n{Q}", A)]
    assert silent({"messages": openai(Q, A, system="Be brief.")}) == expected
    assert silent({"conversations": sharegpt(Q, A), "system": "Be brief."}) == expected
    assert silent({"instruction": Q, "input": "", "output": A, "system": "Be brief."}) == expected
    assert silent({"conversations": sharegpt(Q, A), "system": ""}) == [QuestionAnswer(Q, A)]


@pytest.mark.parametrize(
    "sample",
    [
        {"messages": openai(*SEVERAL)},
        {"conversations": sharegpt(*SEVERAL)},
        {"text": f"### Instruction: Hi ### Assistant: Hello. ### Instruction: {Q} ### Assistant: {A}"},
    ],
)
def test_several_turns_become_rows_with_a_warning_or_stay_together(sample):
    with pytest.warns(RankSelectWarning, match="1 of 2 rows hold several turns: each became one row for each turn"):
        assert load_rows([sample, {"question": "a", "answer": "b"}])[:2] == [
            QuestionAnswer("Hi", "Hello."),
            QuestionAnswer(Q, A),
        ]
    [kept] = silent(sample, template=Chat())
    assert isinstance(kept, Conversation)
    assert kept.exchanges == (("Hi", "Hello."), (Q, A))
    assert list(rows_of([kept], Chat())) == [kept]
    with pytest.warns(RankSelectWarning, match="1 of 1 rows hold several turns"):
        assert rows_of([kept])[1] == QuestionAnswer(Q, A)


def test_turns_that_run_into_each_other():
    template = PromptTemplate("### Human: {question}### Assistant: {answer}")
    text = "### Human: Hi?### Assistant: Hello.### Human: What is gout?### Assistant: Arthritis."
    with pytest.warns(RankSelectWarning, match="1 of 1 rows hold several turns"):
        rows = load_rows([{"text": text}], template=template)
    assert rows == [QuestionAnswer("Hi?", "Hello."), QuestionAnswer("What is gout?", "Arthritis.")]


def test_words_of_a_template_without_a_turn_stay_where_they_are():
    template = PromptTemplate("Q: {question}\nA: {answer}")
    assert silent({"text": "Q: a\nA: see Q: b"}, template=template) == [QuestionAnswer("a", "see Q: b")]


def test_turns_that_cannot_be_told_apart_are_warned_of():
    template = PromptTemplate("{question}\n### Response: {answer}")
    texts = [{"text": "a\n### Response: b\nc\n### Response: d"}, {"text": "e\n### Response: f"}]
    with pytest.warns(
        RankSelectWarning, match="1 of 2 answers contain words of the template, and may hold further turns"
    ):
        assert len(load_rows(texts, template=template)) == 2


def test_turns_of_a_template_with_an_ending():
    template = PromptTemplate("<u>{question}</u><a>{answer}</a>")
    text = template.text("one", "two") + template.text("three", "four")
    with pytest.warns(RankSelectWarning, match="several turns"):
        rows = load_rows([{"text": text}], template=template)
    assert rows == [QuestionAnswer("one", "two"), QuestionAnswer("three", "four")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(4, "4"), (-0.5, "-0.5"), (np.int64(7), "7"), (np.float32(1.5), "1.5"), (Decimal("4.50"), "4.50")],
)
def test_numbers_are_text(value, text):
    assert silent({"question": "2 + 2?", "answer": value}) == [QuestionAnswer("2 + 2?", text)]


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (True, "a bool"),
        (np.True_, "a bool"),
        (None, "None"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (" \n", "an empty one"),
        ([], "a list"),
        (b"bytes", "a bytes"),
    ],
)
def test_other_values_are_faulty(value, got):
    with pytest.raises(DataError, match=rf"text as answer, got {got}_? \(row 0\)|got a bool_? \(row 0\)"):
        silent({"question": Q, "answer": value})


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, "the columns question and answer, .*got messages"),
        ([], "a list of messages, got an empty list"),
        ("[]", "a list of messages, got a str"),
        (3, "a list of messages, got an int"),
        (openai(Q), "a conversation that ends with an answer, got a last message of the user"),
        (openai(Q, ""), "text as message, got an empty one"),
        (openai(Q, A)[1:], "messages of user and assistant in turn.*got assistant"),
        (openai(Q, A) + openai(Q, A)[1:], "in turn.*got user, assistant, assistant"),
        ([*openai(Q), {"role": "tool", "content": "3"}], "messages of system, user and assistant, got one of 'tool'"),
        ([{"role": "user", "text": Q}], "messages with role and content, or from and value, got keys role, text"),
        (["hi"], "messages with role and content, or from and value, got a str"),
        ([{"role": "user", "content": [{"type": "image"}]}], "messages of text only, got one with other parts"),
    ],
)
def test_messages_that_are_no_conversation(messages, message):
    with pytest.raises(DataError, match=rf"{message}.* \(row 0\)"):
        silent({"messages": messages})


def test_columns_by_name_are_the_only_ones_that_are_read():
    sample = {"q": Q, "a": A, "question": "x", "answer": "y", "both": f"### Instruction: {Q} ### Assistant: {A}"}
    assert silent(sample, question="q", answer="a") == silent(sample, text="both") == [QuestionAnswer(Q, A)]
    assert silent(sample, question="no", answer="none", text="both") == [QuestionAnswer(Q, A)]
    assert silent(sample, question="q", answer="a", text="both") == [QuestionAnswer(Q, A)]
    with pytest.raises(DataError, match=r"a column 'reply', got none .*load_rows\(…, answer=COLUMN\)"):
        silent({"messages": openai(Q, A), "q": Q}, question="q", answer="reply")
    with pytest.raises(DataError, match=r"a column 'body', got none .*load_rows\(…, text=COLUMN\)"):
        silent({"prompt": Q, "completion": A}, text="body")


def test_questions_of_all_forms():
    assert questions_of([{"prompt": openai(Q)}, {"Question": Q}]) == [Q] * 2
    assert questions_of([{"prompt": Q}, {"messages": openai(Q)}, {"conversations": sharegpt(Q, A)}]) == [Q] * 3
    assert questions_of([{"messages": openai(Q, system="Be brief.")}]) == [f"Be brief.\n{Q}"]
    with pytest.warns(RankSelectWarning, match="1 of 1 rows hold several turns: each is asked its last question alone"):
        assert questions_of([{"messages": openai("Hi", "Hello.", Q)}]) == [Q]
    [kept] = questions_of([{"messages": openai("Hi", "Hello.", Q)}], Chat())
    assert kept == Conversation((Message("user", "Hi"), Message("assistant", "Hello."), Message("user", Q)))
    with pytest.raises(DataError, match=r"got 2 faulty rows of 3: a lone surrogate .*\(row 0\); .*\(row 2\)"):
        questions_of(["a \ud83d", "b", QuestionAnswer("\udfff", "c")])


def test_a_pandas_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([{"prompt": Q, "completion": 4}, {"prompt": "2?", "completion": 5}])
    assert load_rows(frame) == [QuestionAnswer(Q, "4"), QuestionAnswer("2?", "5")]
    frame.loc[1, "completion"] = None
    with pytest.raises(DataError, match=r"text as answer, got None \(row 1\)"):
        load_rows(frame)
