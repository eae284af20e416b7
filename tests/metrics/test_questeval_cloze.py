"""The rule-based parts: gaps, fillers and spans, and scores that separate equal from different texts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.data.medical_qa import medical_qa
from rankselect.errors import ArgumentError, UnknownNameError
from rankselect.metrics.questeval import ClozeAnswerer, ClozeGenerator, ContentSpans, FoundAnswer, QuestEvalCloze
from rankselect.registry import create

CLOZE = QuestEvalCloze(progress=False)


def score(hypothesis, reference):
    return CLOZE.score([hypothesis], references=[[reference]]).score


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("The doctor saw Marie Curie in Paris.", ["doctor saw", "Marie Curie", "Paris"]),
        ("Type 2 diabetes mellitus needs 3.5 mg.", ["Type 2 diabetes", "mellitus", "3.5 mg"]),
        ("pain, fever; pain", ["pain", "fever"]),
        ("Yes, it is.", ["Yes"]),
        ("It is what it is.", ["It is what it is"]),
        ("?! ... -- «»", []),
        ("", []),
        ("Zoë besucht das Café.", ["Zoë besucht das", "Café"]),
        ("患者は東京にいます。", ["患者は東京にいます"]),
    ],
)
def test_spans_are_runs_of_content_words(text, spans):
    assert ContentSpans().select([text]) == [spans]


def test_a_gap_takes_the_place_of_the_first_such_span():
    text = "Painless swelling is not pain. The pain comes later."
    assert ClozeGenerator().generate([("pain", text)]) == ["Painless swelling is not _____. The pain comes later."]


def test_a_question_shows_twelve_words_on_each_side():
    text = " ".join([*(f"l{i}" for i in range(20)), "answer", *(f"r{i}" for i in range(20))])
    (question,) = ClozeGenerator().generate([("answer", text)])
    assert question.split() == [*(f"l{i}" for i in range(8, 20)), "_____", *(f"r{i}" for i in range(12))]


def test_an_answer_that_is_not_in_the_text_gives_only_a_gap():
    assert ClozeGenerator().generate([("heart", "The fever rose.")]) == ["_____"]


def test_gaps_are_filled_from_the_same_words_in_another_sentence():
    text = "In 1903 the award went to Curie. She was born in Warsaw. She moved to Paris."
    asked = [
        "She came to _____ when she moved.",
        "In that year the award went to _____.",
        "Born in the city of _____, she left.",
    ]
    found = ClozeAnswerer().answer([(question, text) for question in asked])
    assert [each.text for each in found] == ["Paris", "Curie", "Warsaw"]
    assert all(0 < each.answerability < 1 for each in found)


@pytest.mark.parametrize("text", ["The fever rose at night.", "", "…"])
def test_without_a_word_in_common_there_is_no_answer(text):
    assert ClozeAnswerer().answer([("Curie moved to _____ in 1891.", text)]) == [FoundAnswer("", 0.0)]


def test_a_gap_in_the_text_itself_does_no_harm():
    assert score("Name: _____ Age: _____ fever", "Name: _____ Age: _____ fever") == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "Insulin.",
        "Yes.",
        "It is not.",
        "Zoë ate at the « château » in 東京.",
        "患者は東京にいます。",
        "A cold 🤒 lasts a week.",
    ],
)
def test_short_and_foreign_texts_equal_themselves(text):
    assert score(text, text) == 1.0


@pytest.mark.parametrize(("hypothesis", "reference"), [("Insulin.", "Rituximab."), ("…!?", "…!?"), ("", "Insulin.")])
def test_nothing_in_common_scores_zero(hypothesis, reference):
    assert score(hypothesis, reference) == 0.0


def test_a_wrong_fact_costs_more_than_a_rewording():
    right = "Cystic fibrosis is caused by mutations in the CFTR gene on chromosome 7."
    reworded = "Mutations in the CFTR gene on chromosome 7 cause cystic fibrosis."
    wrong = "Cystic fibrosis is caused by bacteria in the drinking water of old houses."
    assert 1 > score(reworded, right) > score(wrong, right) + 0.2


def test_equal_texts_score_near_one_and_others_near_zero():
    answers = [row.answer for row in medical_qa()[:200:5]]
    assert CLOZE.score(answers, references=[[each] for each in answers]).values.min() > 0.9


@pytest.mark.assets
def test_real_answers_score_above_answers_to_other_questions(assets):
    lines = (assets / "data" / "medquad" / "eval.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines][::3]
    others = answers[30:] + answers[:30]
    same = CLOZE.score(answers, references=[[each] for each in answers])
    cut = CLOZE.score([each[:400] for each in answers], references=[[each] for each in answers])
    other = CLOZE.score([each[:400] for each in others], references=[[each] for each in answers])
    assert same.values.min() > 0.95
    assert cut.score > 0.6
    assert other.score < 0.05


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_texts_have_a_score(hypothesis, reference):
    result = QuestEvalCloze(scores=("answerability", "f1"), progress=False).score([hypothesis], sources=[reference])
    assert 0 <= result.score <= 1
    assert result == QuestEvalCloze(scores=("answerability", "f1")).score([hypothesis], sources=[reference])


@given(st.permutations(["fever", "heart", "Zoë", "insulin", "kidney", "liver", "東京"]), st.integers(1, 7))
def test_a_text_of_distinct_words_equals_itself(words, n):
    text = " and ".join(words[:n])
    assert score(text, text) == 1.0


def test_it_has_its_own_name():
    metric = create("metric", "questeval-cloze")
    assert metric == QuestEvalCloze()
    assert metric.evaluate(["fever"], ["fever"]).metric == "questeval-cloze"
    assert metric.score(["fever"], sources=["fever"]).metric == "questeval-cloze"
    assert metric.signature().startswith("questeval-cloze | scores=('f1',)")


def test_it_has_no_bertscore():
    with pytest.raises(UnknownNameError, match="Known: answerability, f1"):
        QuestEvalCloze(scores=("bertscore",))
    with pytest.raises(ArgumentError, match="Choose from answerability, f1"):
        QuestEvalCloze(scores=())
