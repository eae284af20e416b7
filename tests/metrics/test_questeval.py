"""The complete QuestEval: settings, counts, consistency, bad input, and properties that hold for any parts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.errors import ArgumentError, MetricError, UnknownNameError
from rankselect.metrics.questeval import (
    AnswerSelector,
    AnswerSimilarity,
    FoundAnswer,
    QuestEval,
    QuestEvalCloze,
    QuestionAnswerer,
    QuestionGenerator,
    T5QuestionAnswerer,
    T5QuestionGenerator,
)
from rankselect.registry import create
from rankselect.training.generation import GeneratedAnswer


@dataclass(frozen=True)
class Words(AnswerSelector):
    def select(self, texts):
        return [text.split() for text in texts]


@dataclass(frozen=True)
class WhatIs(QuestionGenerator):
    def generate(self, pairs):
        return [f"What is {answer}?" for answer, _ in pairs]


@dataclass(frozen=True)
class Contains(QuestionAnswerer):
    """Finds the word in question if the text has it; otherwise returns the last word with answerability 0.5."""

    def answer(self, pairs):
        found = []
        for question, text in pairs:
            word = question.removeprefix("What is ").removesuffix("?")
            there = word in text.split()
            found.append(FoundAnswer(word, 1.0) if there else FoundAnswer((text.split() or [""])[-1], 0.5))
        return found


@dataclass(frozen=True)
class Wild(AnswerSimilarity):
    """Values on both sides of [0, 1], like those of BERTScore."""

    def compare(self, pairs):
        return [1.5 if found == wanted else -0.5 for found, wanted in pairs]


def toy(**settings):
    given = {"selector": Words(), "generator": WhatIs(), "answerer": Contains(), "similarity": Wild()}
    return QuestEval(**{**given, "progress": False, **settings})


texts = st.lists(st.sampled_from(["heart", "fever", "Zoë", "東京", "…", "a", "un-"]), max_size=6).map(" ".join)


def test_questions_of_both_sides_are_counted_and_averaged():
    (example,) = toy(scores=("f1",)).score(["heart"], references=[["heart fever"]]).examples
    (row,) = example.comparisons
    assert (row.recall, row.precision, row.score) == (0.5, 1.0, 0.75)
    assert (row.n_recall_questions, row.n_precision_questions) == (2, 1)
    assert row.against == "reference 1"


def test_all_scores_are_pooled_after_clipping():
    result = toy().score(["heart"], references=[["heart fever"]])
    assert result.recall == pytest.approx((1 + 0.5 + 1 + 0 + 1 + 0) / 6, abs=1e-15)
    assert result.precision == 1.0


def test_a_score_named_twice_counts_twice():
    result = toy(scores=("f1", "f1", "answerability")).score(["fever"], references=[["heart"]])
    assert result.recall == pytest.approx(0.5 / 3, abs=1e-15)


@pytest.mark.parametrize(("reduction", "score"), [("max", 1.0), ("mean", 0.5), ("min", 0.0)])
def test_the_source_is_one_more_text_to_compare_with(reduction, score):
    result = toy(scores=("f1",), reduction=reduction).score(["heart"], sources=["fever"], references=[["heart"]])
    (example,) = result.examples
    assert [row.against for row in example.comparisons] == ["source", "reference 1"]
    assert (example.score, example.precision, example.recall) == (score, score, score)


def test_a_side_without_questions_scores_zero_and_says_so():
    (example,) = toy(scores=("f1",)).score([" "], references=[["heart"]]).examples
    assert (example.recall, example.precision) == (0.0, 0.0)
    assert (example.comparisons[0].n_recall_questions, example.comparisons[0].n_precision_questions) == (1, 0)


def test_empty_texts_score_zero_and_ask_nothing():
    result = toy().score(["", "heart", ""], references=[["heart"], [""], [""]])
    assert result.values.tolist() == [0, 0, 0]
    assert {example.comparisons[0].n_recall_questions for example in result.examples} == {0}


@dataclass(frozen=True)
class Forgetful(QuestionAnswerer):
    """Answers correctly, but from "own text" only every other word."""

    def answer(self, pairs):
        known = {("What is own?", "own text"): "own", ("What is text?", "own text"): "wrong"}
        return [FoundAnswer(known.get(pair, pair[0].split()[-1].rstrip("?")), 1.0) for pair in pairs]


@pytest.mark.parametrize(("consistency", "recall"), [(False, 1.0), (True, 0.5)])
def test_consistency_weighs_a_question_by_what_its_own_text_answers(consistency, recall):
    metric = toy(answerer=Forgetful(), scores=("answerability",), consistency=consistency)
    result = metric.score(["other"], references=[["own text"]])
    assert (result.recall, result.precision) == (recall, 1.0)


def test_it_is_a_metric():
    result = toy().evaluate(["heart", "fever"], ["heart", "heart"])
    assert result.metric == "questeval"
    assert result.values[0] == 1.0
    assert result.values[1] < 1.0


@dataclass(frozen=True)
class Recording(QuestionAnswerer):
    """Records its inputs."""

    asked: list

    def answer(self, pairs):
        self.asked.extend(pairs)
        return Contains().answer(pairs)


def test_nothing_is_asked_twice():
    asked: list[tuple[str, str]] = []
    toy(answerer=Recording(asked)).score(["heart fever"] * 3, sources=["heart"] * 3, references=[["heart"]] * 3)
    assert sorted(asked) == sorted(set(asked))
    assert len(asked) == 3


@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_scores_are_fractions_and_follow_their_examples(examples, random):
    metric = toy()
    hypotheses, sources, references = zip(*examples, strict=True)
    values = metric.score(hypotheses, sources=sources, references=[[each] for each in references]).values
    assert ((values >= 0) & (values <= 1)).all()
    order = list(range(len(examples)))
    random.shuffle(order)
    shuffled = metric.score(
        [hypotheses[i] for i in order], sources=[sources[i] for i in order], references=[[references[i]] for i in order]
    )
    assert np.array_equal(shuffled.values, values[order])


@given(texts, texts)
def test_exchanging_the_texts_exchanges_precision_and_recall(one, other):
    there = toy().score([one], references=[[other]])
    back = toy().score([other], references=[[one]])
    assert (there.precision, there.recall, there.score) == (back.recall, back.precision, back.score)


@given(texts)
def test_a_text_compared_with_itself_has_equal_precision_and_recall(text):
    result = toy().score([text], sources=[text])
    assert result.precision == result.recall == result.score


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hypotheses": [], "references": []}, "at least one hypothesis, got none"),
        ({"hypotheses": ["a"]}, "sources, references, or both, got neither"),
        ({"hypotheses": "heart", "references": [["a"]]}, "a sequence of texts as hypotheses, got one string"),
        ({"hypotheses": ["a"], "sources": "a"}, "a sequence of texts as sources, got one string"),
        ({"hypotheses": ["a"], "references": "a"}, "a sequence of rows of references, got one string"),
        ({"hypotheses": ["a"], "references": ["a"]}, "references at index 0, got one string"),
        ({"hypotheses": ["a"], "references": [3]}, "references at index 0, got int"),
        ({"hypotheses": 3, "references": [["a"]]}, "a sequence of texts as hypotheses, got int"),
        ({"hypotheses": [None], "references": [["a"]]}, "text in hypotheses, got NoneType at index 0"),
        ({"hypotheses": ["a"], "sources": [b"a"]}, "text in sources, got bytes at index 0"),
        ({"hypotheses": ["a"], "references": [["a", 1]]}, "text in the references at index 0, got int at index 1"),
        ({"hypotheses": ["a"], "references": [[]]}, "at least one reference for each hypothesis, got none"),
        ({"hypotheses": ["a", "b"], "references": [["a"], ["a", "b"]]}, "the same number of references .* got 1 and 2"),
        ({"hypotheses": ["a"], "sources": ["a", "b"]}, "1 sources, one for each hypothesis, got 2"),
        ({"hypotheses": ["a"], "references": [["a"], ["b"]]}, "1 rows of references, one for each hypothesis, got 2"),
    ],
)
def test_malformed_input_is_refused(arguments, message):
    with pytest.raises(MetricError, match=message):
        toy().score(**arguments)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"scores": ()}, ArgumentError, "a tuple of scores"),
        ({"scores": "f1"}, ArgumentError, "a tuple of scores, got 'f1'"),
        ({"scores": ("f2",)}, UnknownNameError, "Did you mean f1"),
        ({"reduction": "maximum"}, UnknownNameError, "the name of a reduction, got 'maximum'"),
    ],
)
def test_unknown_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        QuestEval(**settings)


@dataclass(frozen=True)
class Says(QuestionAnswerer):
    found: tuple

    def answer(self, pairs):
        return list(self.found) * (len(pairs) if len(self.found) == 1 else 1)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((("heart", float("nan")),), r"a finite number from Says, got \('heart', nan\)"),
        (((0.5, "heart"),), "an answer and its answerability from Says, got .0.5, 'heart'."),
        (("heart",), "an answer and its answerability from Says, got 'heart'"),
        ((None,), "an answer and its answerability from Says, got None"),
        (((), ()), "1 answers, one for each input from Says, got 2"),
    ],
)
def test_a_part_that_returns_an_invalid_answer_is_named(found, message):
    with pytest.raises(MetricError, match=message):
        toy(answerer=Says(found)).score(["heart"], references=[["heart"]])


class Generates(QuestionGenerator):
    def generate(self, pairs):
        return [7] * len(pairs)


class Selects(AnswerSelector):
    def select(self, texts):
        return list(texts)


@pytest.mark.parametrize(
    ("part", "message"),
    [({"generator": Generates()}, "a text from Generates, got 7"), ({"selector": Selects()}, "a list of texts from")],
)
def test_other_parts_are_checked_too(part, message):
    with pytest.raises(MetricError, match=message):
        toy(**part).score(["heart"], references=[["heart"]])


def test_the_signature_names_what_scores_depend_on():
    one, other = toy().signature(), toy(scores=("f1",)).signature()
    assert one != other
    assert all(part in one for part in ("questeval", "Words()", "WhatIs()", "Contains()", "Wild()"))


def test_a_part_without_identity_has_no_signature():
    with pytest.raises(ArgumentError, match="Generates, whose repr is an address in memory"):
        toy(generator=Generates()).signature()


def test_models_can_be_named():
    metric = create("metric", "questeval:answerer=models/qa,generator=models/qg")
    assert metric.answerer == T5QuestionAnswerer("models/qa")
    assert metric.generator == T5QuestionGenerator("models/qg")
    assert metric == QuestEval(answerer="models/qa", generator="models/qg")


def test_generated_answers_are_hypotheses():
    written = GeneratedAnswer("Insulin lowers sugar.", seconds=0.1, n_tokens=4, stopped_by="end")
    texts = ["Insulin lowers sugar."]
    assert QuestEvalCloze().score([written], sources=texts).score == QuestEvalCloze().score(texts, sources=texts).score
    assert QuestEvalCloze().evaluate([written], texts).mean == 1


def test_creating_it_by_name_loads_no_library():
    code = (
        "import sys; from rankselect.registry import create; print(create('metric', 'questeval')); "
        "create('metric', 'questeval-cloze'); "
        "assert not {'torch', 'transformers', 'spacy', 'bert_score'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ThomasNLG/t5-qa_squad2neg-en" in done.stdout
