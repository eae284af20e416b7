"""The prompt template: text and back, stop texts, and templates that are none."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rankselect.data.prompts import PromptTemplate
from rankselect.errors import ArgumentError, DataError

CHATML = PromptTemplate(
    "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>", stop=("<|im_end|>",)
)
TEMPLATES = [
    PromptTemplate(),
    CHATML,
    PromptTemplate("Q: {question}\nA: {answer}"),
    PromptTemplate("{question}\n\n{answer}"),
    PromptTemplate('{"q": "{question}", "a": "{answer}"}'),
]
WORDS = st.text(min_size=1).map(str.strip).filter(bool)


@given(st.sampled_from(TEMPLATES), WORDS, WORDS)
def test_parse_is_the_inverse_of_text(template, question, answer):
    between = template.template.partition("{question}")[2].partition("{answer}")[0]
    assume((question + between).find(between.strip() or between) >= len(question))
    parsed = template.parse(template.text(question, answer))
    assert (parsed.question, parsed.answer) == (question, answer)


@given(st.sampled_from(TEMPLATES), WORDS, WORDS)
def test_text_is_the_prompt_the_gap_the_answer_and_the_ending(template, question, answer):
    text = template.text(question, answer)
    assert text == template.prompt(question) + template.gap + answer + template.ending
    assert template.gap.strip(" ") == ""
    assert not template.prompt(question).endswith(" ")


def test_the_default_is_the_form_of_medquad_phi2():
    template = PromptTemplate()
    assert template.prompt("What is acne?") == "### Instruction: What is acne? ### Assistant:"
    assert template.text("What is acne?", "A disease.") == "### Instruction: What is acne? ### Assistant: A disease."
    assert template.stop == ("### Instruction",)


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("  ### Instruction:What is acne?### Assistant:A disease.\n", "What is acne?", "A disease."),
        ("### Instruction: a ### Assistant: b ### Assistant: c", "a", "b ### Assistant: c"),
        ("### Instruction: a\n\n### Assistant:\nb", "a", "b"),
        ("### Instruction: a ### Assistant:", "a", ""),
    ],
)
def test_white_space_does_not_matter_and_the_first_border_counts(text, question, answer):
    parsed = PromptTemplate().parse(text)
    assert (parsed.question, parsed.answer) == (question, answer)


@pytest.mark.parametrize(
    "text", ["", "What is acne?", "### Instruction: What is acne?", "What is acne? ### Assistant: A disease."]
)
def test_text_of_another_form(text):
    with pytest.raises(DataError, match=r"text of the form '### Instruction: \{question\} ### Assistant: \{answer\}'"):
        PromptTemplate().parse(text)


def test_text_without_the_ending():
    with pytest.raises(DataError, match="Pass the template that the text was written with"):
        CHATML.parse("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb")


def test_a_long_text_is_shortened_in_the_message():
    with pytest.raises(DataError) as caught:
        PromptTemplate().parse("x" * 1000)
    assert len(str(caught.value)) < 300
    for n, shown in ((80, "x" * 80), (81, "x" * 79 + "…")):
        with pytest.raises(DataError, match=f"got '{shown}'"):
            PromptTemplate().parse("x" * n)


def test_stop_texts_follow_from_the_template():
    alpaca = PromptTemplate("Below is a task.\n\n### Instruction:\n{question}\n\n### Response:\n{answer}")
    assert alpaca.stop == ("### Instruction:",)
    assert PromptTemplate("User: {question}\nBot: {answer} END").stop == ("User:", "END")
    assert PromptTemplate("{question} -> {answer}").stop == ()
    assert PromptTemplate("{question} -> {answer}", stop=("stop",)).stop == ("stop",)
    assert PromptTemplate(stop=()).stop == ()


@pytest.mark.parametrize(
    "template",
    ["", "{question}", "{answer}", "{answer} {question}", "{question}{answer}", "{question} {question} {answer}"],
)
def test_a_template_without_its_names(template):
    with pytest.raises(ArgumentError, match="a template with {question}, some words, and {answer}"):
        PromptTemplate(template)


@pytest.mark.parametrize("stop", ["### Instruction", ("a", ""), (" ",), (1,)])
def test_stop_texts_that_are_none(stop):
    with pytest.raises(ArgumentError, match="a tuple of stop texts that are not empty"):
        PromptTemplate(stop=stop)


def test_templates_are_values():
    assert PromptTemplate() == PromptTemplate()
    assert hash(PromptTemplate()) == hash(PromptTemplate())
    assert eval(repr(CHATML)) == CHATML
