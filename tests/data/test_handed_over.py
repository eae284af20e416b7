"""Rows that are handed over as Python objects: mappings work, and anything else is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rankselect.data.datasets import training_data
from rankselect.data.encoding import AnswerCollator, encode_rows
from rankselect.data.medical_qa import medical_qa
from rankselect.data.prompts import PromptTemplate, QuestionAnswer
from rankselect.data.rows import questions_of, rows_of
from rankselect.errors import ArgumentError, DataError, RankSelectWarning
from rankselect.testing import tiny_model, tiny_tokenizer

ROWS = [QuestionAnswer("what is a heart", "an organ"), QuestionAnswer("what is a fever", "heat")]
MAPPINGS = [{"question": row.question, "answer": row.answer, "id": 1} for row in ROWS]
TEMPLATE = PromptTemplate("Q: {question}\nA: {answer}")
TEXTS = [{"text": TEMPLATE.text(row.question, row.answer)} for row in ROWS]


def as_trained(train, evaluation=None, tokenizer=None, **arguments):
    how = {"model": tiny_model(), "template": TEMPLATE, "max_length": 64, "loss_on": "answer", **arguments}
    return training_data(train, evaluation, tokenizer or tiny_tokenizer(), **how)


def data_set(rows):
    return pytest.importorskip("datasets").Dataset.from_list(rows)


def test_rows_stay_what_they_are():
    assert rows_of(ROWS) is ROWS
    assert rows_of(medical_qa()) is medical_qa()
    assert rows_of([QuestionAnswer(" spaces stay ", "")]) == [QuestionAnswer(" spaces stay ", "")]


def test_mappings_become_rows():
    assert rows_of(MAPPINGS) == rows_of(iter(MAPPINGS)) == rows_of(data_set(MAPPINGS)) == ROWS
    assert rows_of([ROWS[0], MAPPINGS[1]]) == ROWS
    assert rows_of(TEXTS, TEMPLATE) == ROWS
    with pytest.raises(DataError, match="a data set, or a list of rows .*, got 3"):
        rows_of(3)


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        ("train.jsonl", "a file of rows, got train.jsonl, which does not exist"),
        (Path("train.jsonl"), "a file of rows, got train.jsonl, which does not exist"),
        ("what is a heart", "what is a heart, which does not exist and is no such name"),
        (QuestionAnswer, "got the class QuestionAnswer"),
        ([QuestionAnswer], r"got the class QuestionAnswer \(row 0\)"),
        (MAPPINGS[0], "a mapping of question, answer, id"),
        (["what is a heart"], r"got 'what is a heart' \(row 0\)"),
        ([ROWS[0], "what is a heart"], r"got 'what is a heart' \(row 1\)"),
        ([{"prompt": "a", "chosen": "b"}], r"the columns question and answer.*got prompt, chosen \(row 0\)"),
        ([{"question": "a", "reply": "b"}], r"a column 'answer', .*Name the column: load_rows\(…, answer=COLUMN\)"),
        ([{"question": "a", "answer": True}], r"text as answer, got a bool \(row 0\)"),
        ([QuestionAnswer("a", "b \ud83d")], r"text in Unicode, got a lone surrogate \(\\ud83d, .*\(row 0\)"),
    ],
)
def test_what_is_no_row_is_refused(rows, got):
    with pytest.raises(DataError, match=got):
        rows_of(rows)
    with pytest.raises(DataError, match=got):
        encode_rows(rows, tiny_tokenizer())
    with pytest.raises(DataError, match=got):
        as_trained(rows)
    if not isinstance(rows, dict):  # a mapping of several to evaluate on is one that Trainer takes
        with pytest.raises(DataError, match=got):
            as_trained(ROWS, rows)


def test_questions_are_strings_or_those_of_rows():
    questions = [row.question for row in ROWS]
    assert questions_of(questions) == questions_of(tuple(questions)) == questions
    assert questions_of(ROWS) == questions_of(MAPPINGS) == questions_of(TEXTS, TEMPLATE) == questions
    assert questions_of([{"question": questions[0]}, questions[1]]) == questions
    assert questions_of([None, 3]) == [None, 3]  # for the caller, who says what is wrong with them
    with pytest.raises(DataError, match="a list of questions, got a mapping of question, answer, id"):
        questions_of(MAPPINGS[0])
    with pytest.raises(DataError, match=r"the columns question and answer, .*got q \(row 1\)"):
        questions_of(["a", {"q": "b"}])


@pytest.mark.parametrize("form", [MAPPINGS, tuple(MAPPINGS), TEXTS])
def test_a_trainer_takes_mappings_as_it_takes_rows(form):
    rows, mappings = as_trained(ROWS), as_trained(form, data_set(list(form)[:1]))
    assert list(mappings.train) == list(rows.train)
    assert list(mappings.evaluation) == [rows.train[0]]
    assert mappings.rows == rows.rows == tuple(ROWS)
    assert isinstance(mappings.collator, AnswerCollator)


def test_several_datasets_to_evaluate_on():
    with pytest.warns(RankSelectWarning, match="1 of 1 evaluation questions"):
        data = as_trained(MAPPINGS, {"seen": MAPPINGS[:1], "tokens": [{"input_ids": [1, 2]}]})
    assert list(data.evaluation["seen"]) == [data.train[0]]
    assert data.evaluation["tokens"] == [{"input_ids": [1, 2]}]


def test_what_the_model_takes_passes_through():
    class Tokens(torch.utils.data.Dataset):
        def __getitem__(self, index):
            raise AssertionError("read before training")

    tokens = [{"question": "kept beside its tokens", "input_ids": [1, 2], "labels": [1, 2]}]
    embedded = [{"inputs_embeds": torch.zeros(2, 32)}]
    for dataset in (tokens, embedded, data_set(tokens), Tokens()):
        data = as_trained(dataset, dataset)
        assert data.train is dataset
        assert data.evaluation is dataset
        assert data.collator is None
        assert data.rows == ()


def test_a_collator_of_the_callers_own_gets_what_it_was_given():
    for dataset in (MAPPINGS, ["a text"], data_set(MAPPINGS)):
        assert as_trained(dataset, collated=True).train is dataset
    assert list(as_trained(ROWS, collated=True).train) == list(as_trained(ROWS).train)


def test_rows_need_a_tokenizer():
    with pytest.raises(ArgumentError, match="a tokenizer for question-answer rows, got none"):
        training_data(MAPPINGS, None, None, model=tiny_model(), template=TEMPLATE, max_length=64, loss_on="all")


def test_a_trainer_reads_what_load_rows_reads(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\n" + "".join(f"{row.question},{row.answer}\n" for row in ROWS))
    chat = [[{"from": "human", "value": row.question}, {"from": "gpt", "value": row.answer}] for row in ROWS]
    expected = list(as_trained(ROWS).train)
    assert list(as_trained(path).train) == list(as_trained(str(path)).train) == expected
    assert list(as_trained([{"conversations": turns} for turns in chat]).train) == expected
    assert list(as_trained(data_set([{"conversations": turns} for turns in chat])).train) == expected
    assert list(as_trained({"train": MAPPINGS}).train) == expected
    assert list(as_trained(pytest.importorskip("pandas").DataFrame(MAPPINGS)).train) == expected


@pytest.mark.parametrize("dataset", [3, QuestionAnswer, object()])
def test_what_no_trainer_can_read_is_refused_when_it_is_handed_over(dataset):
    with pytest.raises(DataError, match="a file name, a data set, or a list of rows"):
        as_trained(dataset)
