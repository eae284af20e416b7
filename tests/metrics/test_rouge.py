"""ROUGE-L: the numbers of rouge-score, and the texts that it does not support."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.errors import MetricError, MissingExtraError
from rankselect.metrics.rouge import RougeL

WORDS = st.lists(st.sampled_from(["heart", "lung", "fever", "rare", "cell"]), min_size=1, max_size=8)


def longest_common(one, other):
    lengths = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, word in enumerate(one):
        for j, match in enumerate(other):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if word == match else max(lengths[i][j + 1], lengths[i + 1][j])
    return lengths[-1][-1]


@given(WORDS, WORDS)
def test_it_is_the_f_measure_of_the_longest_common_subsequence(one, other):
    [score] = RougeL().evaluate([" ".join(one)], [" ".join(other)], n_resamples=1).values
    assert score == pytest.approx(2 * longest_common(one, other) / (len(one) + len(other)))


def test_an_example_of_lin():
    """From Lin's paper: "police kill the gunman" and "the gunman kill police" share two and three words in order."""
    reference = "police killed the gunman"
    result = RougeL().evaluate(["police kill the gunman", "the gunman kill police"], [reference] * 2)
    assert result.values.tolist() == [0.75, 0.5]


def test_stemming_joins_forms_of_a_word():
    texts = ["police kill the gunman"], ["police killed the gunman"]
    assert RougeL(stemming=True).evaluate(*texts).mean == 1


def test_an_answer_without_words_scores_0():
    assert RougeL().evaluate(["", "...", ""], ["the heart", "the heart", ""]).values.tolist() == [0, 0, 0]


def test_a_reference_that_rouge_score_cannot_read():
    message = "expected references with letters a to z or digits, got '東京' at index 1. rouge-score ignores all others"
    with pytest.raises(MetricError, match=re.escape(message)):
        RougeL().evaluate(["Kyoto", "東京"], ["Kyoto", "東京"])
    assert RougeL().evaluate(["café 3"], ["café 3"]).mean == 1


def test_without_rouge_score(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(MissingExtraError, match=re.escape('Run: pip install "rankselect[metrics]"')):
        RougeL().evaluate(["a"], ["b"])
