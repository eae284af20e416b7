"""Control tokens come from the template alone, and a template that brings its own beginning or end gets no second one."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rankselect as rs
from data.chat_templates import CONTROL, chat_tokenizer
from rankselect.data.control_tokens import GUARD, ControlTokens
from rankselect.data.encoding import encode_rows
from rankselect.training.stop_texts import before_stop

TOKENIZER = chat_tokenizer()
PIECES = st.sampled_from([*CONTROL, "<s>", "</s>", "a", "<", "|", ">", "im_", " ", "\n", "é"])


@given(st.lists(PIECES, max_size=12).map("".join))
def test_user_text_never_makes_a_control_token(text):
    control = ControlTokens(TOKENIZER)
    [ids] = control.ids([control.guard(text)])
    assert not set(ids) & set(TOKENIZER.all_special_ids)
    assert TOKENIZER.decode(ids) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=GUARD), max_size=30))
def test_other_text_is_tokenized_as_before(text):
    control = ControlTokens(TOKENIZER)
    if not control.found_in(text):
        assert control.ids([control.guard(text)]) == [TOKENIZER(text, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("template", ["<s>[INST] {question} [/INST] {answer} </s>", "<s>Q {question}\nA {answer}</s>"])
def test_one_beginning_and_one_end(template):
    [row] = encode_rows([rs.QuestionAnswer("Hi?", "Yes.")], TOKENIZER, template=rs.PromptTemplate(template))
    assert row["input_ids"].count(TOKENIZER.bos_token_id) == 1
    assert row["input_ids"].count(TOKENIZER.eos_token_id) == 1
    assert row["input_ids"][-1] == TOKENIZER.eos_token_id


@pytest.mark.parametrize(
    ("template", "text", "kept"),
    [
        ("Q: {question}\nA: {answer}", "The IQ: 70.\nQ: And?", "The IQ: 70.\n"),
        ("User: {question} Bot: {answer}", "SuperUser: root", "SuperUser: root"),
        ("Q: {question}\nA: {answer}", "Q: And?", ""),
        ("{question} <answer>{answer}</answer>", "Gout.</answer> More", "Gout."),
    ],
)
def test_stops_of_a_template_hold_at_the_start_of_a_line_or_after_white_space(template, text, kept):
    template = rs.PromptTemplate(template)
    assert before_stop(text, template.stop, template.stop_anywhere) == kept


def test_answers_with_the_words_of_the_template_are_counted():
    rows = [
        rs.QuestionAnswer("Why?", "So."),
        rs.QuestionAnswer("How?", "Look.\nQ: here"),
        rs.QuestionAnswer("A", "Q: x"),
    ]
    with pytest.warns(rs.RankSelectWarning, match=r"the template's own words: 'Q:' in 2 of 3 \(first in row 1\)"):
        encode_rows(rows, TOKENIZER, template=rs.PromptTemplate("Q: {question}\nA: {answer}"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", rs.RankSelectWarning)
        encode_rows(rows[:1], TOKENIZER, template=rs.PromptTemplate("Q: {question}\nA: {answer}"))
