"""46 recorded cases of QuestEval 0.2.4: the inputs and results of every part, and the scores."""

from __future__ import annotations

import json
import lzma
from dataclasses import dataclass
from pathlib import Path

import pytest
import spacy

from rankselect.errors import MetricError
from rankselect.metrics.questeval import (
    AnswerSelector,
    AnswerSimilarity,
    FoundAnswer,
    QuestEval,
    QuestionAnswerer,
    QuestionGenerator,
)
from rankselect.metrics.questeval.spacy_selector import first_sentences, pseudo_sentences

GOLDEN = Path(__file__).parents[1] / "golden" / "questeval.json.xz"
CASES = {case["id"]: case for case in json.loads(lzma.decompress(GOLDEN.read_bytes()))["cases"]}
SCORES = {
    "f1": ("f1",),
    "answerability": ("answerability",),
    "answerability+f1": ("answerability", "f1"),
    "answerability+bertscore_stub+f1": ("answerability", "bertscore", "f1"),
}

# Input that the original silently ignored is an error here; without it, the scores are the same.
IGNORED = {
    "corpus_ragged_refs": "references",
    "corpus_none_in_sources": "sources",
    "corpus_empty_refs_with_src": "references",
}
REFUSED = {
    "corpus_ragged_refs_no_src": "the same number of references for each hypothesis, got 1 and 2",
    "corpus_nothing": "expected sources, references, or both, got neither",
    "corpus_empty_refs_no_src": "at least one reference for each hypothesis, got none",
    "corpus_empty_lists": "at least one hypothesis, got none",
    "corpus_len_mismatch": "2 sources, one for each hypothesis, got 1",
}


class Recorded:
    """Looks results up in the recorded cases."""

    def __init__(self, case, call, keys):
        self._table = {tuple(row[key] for key in keys): row["out"] for row in case["calls"] if row["call"] == call}

    def __call__(self, *key):
        return self._table[key]


@dataclass(frozen=True)
class RecordedSelector(AnswerSelector):
    case: dict

    def select(self, texts):
        recorded = Recorded(self.case, "select_answers", ("answer_type", "text"))
        types = self.case["config"].get("answer_types", ["NER", "NOUN"])
        return [[answer for each in types for answer in recorded(each, text)] for text in texts]


@dataclass(frozen=True)
class RecordedGenerator(QuestionGenerator):
    case: dict

    def generate(self, pairs):
        recorded = Recorded(self.case, "generate_question", ("answer", "context"))
        return [recorded(*pair) for pair in pairs]


@dataclass(frozen=True)
class RecordedAnswerer(QuestionAnswerer):
    case: dict

    def answer(self, pairs):
        recorded = Recorded(self.case, "answer_question", ("question", "context"))
        return [FoundAnswer(text, score) for score, text in (recorded(*pair) for pair in pairs)]


@dataclass(frozen=True)
class RecordedSimilarity(AnswerSimilarity):
    case: dict

    def compare(self, pairs):
        recorded = Recorded(self.case, "similarity", ("pred", "gold"))
        return [recorded(*pair) for pair in pairs]


def metric_of(case, variant):
    return QuestEval(
        selector=RecordedSelector(case),
        generator=RecordedGenerator(case),
        answerer=RecordedAnswerer(case),
        similarity=RecordedSimilarity(case),
        scores=SCORES[variant],
        reduction=case["config"].get("reduction_multi_refs", "max"),
        progress=False,
    )


def arguments_of(case):
    given = {"sources": case["args"]["sources"], "references": case["args"]["list_references"]}
    if case["config"].get("src_preproc_pipe") == "lower":  # the metric expects sources that are already preprocessed
        given["sources"] = [text.lower() for text in given["sources"]]
    return given


@pytest.mark.parametrize("variant", SCORES)
@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_every_score_is_the_original_s_to_the_last_digit(name, variant):
    case = CASES[name]
    given = arguments_of(case)
    if name in IGNORED:
        del given[IGNORED[name]]
    result = metric_of(case, variant).score(case["args"]["hypothesis"], **given)
    expected = case["expected"][variant]
    assert result.score == expected["corpus_score"]
    assert result.values.tolist() == expected["ex_level_scores"]
    for example, rows in zip(result.examples, expected["comparisons"], strict=True):
        for comparison, row in zip(example.comparisons, rows, strict=True):
            found = (comparison.recall, comparison.precision, comparison.score)
            assert found == tuple(row[side] or 0 for side in ("recall", "precision", "score"))


def test_the_replay_reaches_all_cases():
    assert len(CASES) == 46
    assert set(IGNORED) | set(REFUSED) <= set(CASES)
    n_scores = sum(
        len(CASES[name]["expected"][v]["ex_level_scores"]) for name in CASES if name not in REFUSED for v in SCORES
    )
    assert n_scores > 200


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_original_could_not_score_is_refused(name):
    case = CASES[name]
    with pytest.raises(MetricError, match=REFUSED[name]):
        metric_of(case, "f1").score(case["args"]["hypothesis"], **arguments_of(case))


@pytest.mark.parametrize("name", IGNORED)
def test_what_the_original_ignored_in_silence_is_refused(name):
    case = CASES[name]
    with pytest.raises(MetricError, match=IGNORED[name]):
        metric_of(case, "f1").score(case["args"]["hypothesis"], **arguments_of(case))


def test_every_recorded_text_is_split_into_the_original_s_pseudo_sentences():
    tokenizer = spacy.blank("en")
    calls = [call for case in CASES.values() for call in case["calls"]]
    splits = [call for call in calls if call["call"] == "split_sentences"]
    limits = [call for call in calls if call["call"] == "limit_text"]
    assert splits
    assert limits
    for call in splits:
        assert list(pseudo_sentences(tokenizer(call["text"]))) == call["out"]
    for call in limits:
        assert first_sentences(tokenizer(call["text"]), call["limit_sent"]) == call["out"]
