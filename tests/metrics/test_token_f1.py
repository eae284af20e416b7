"""Token F1: the numbers of other implementations, and properties of all texts."""

from __future__ import annotations

import json
import string
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.metrics.squad import TokenF1, normalized_tokens, squad_f1, token_f1

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "f1_pairs.json").read_text(encoding="utf-8"))["pairs"]
TEXTS = st.text(st.sampled_from("abtheANT ,.'-é\n1"), max_size=30) | st.text(max_size=30)
WORDS = st.lists(st.sampled_from(["heart", "lung", "fever", "rare", "cell"]), max_size=8)


@pytest.mark.parametrize(("prediction", "reference", "f1"), [row[:3] for row in GOLDEN])
def test_the_numbers_of_questeval_to_the_last_bit(prediction, reference, f1):
    assert squad_f1(prediction, reference) == squad_f1(reference, prediction) == f1
    if set("«“").isdisjoint(reference):  # SQuAD's own rule deletes no punctuation beyond ASCII
        assert token_f1(prediction, reference) == token_f1(reference, prediction) == f1


def test_the_metric_is_the_mean_of_the_pairs():
    predictions, references, f1, _ = zip(*(row for row in GOLDEN if set("«“").isdisjoint(row[1])), strict=True)
    result = TokenF1().evaluate(predictions, references)
    np.testing.assert_array_equal(result.values, f1)
    assert result.mean == pytest.approx(sum(f1) / len(f1), abs=1e-15)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The cat, a dog and an ape", ["cat", "dog", "and", "ape"]),
        ("U.S. well-known it's 3.5", ["us", "wellknown", "its", "35"]),
        ("an-apple Theatre", ["anapple", "theatre"]),
        ("“quoted” x—y ¿qué?", ["quoted", "xy", "qué"]),
        ("l’été d'Ampère", ["lété", "dampère"]),
        ("糖尿病，2型。", ["糖", "尿", "病", "2", "型"]),
        ("インスリンを打つ COVID後", [*"インスリンを打つ", "covid", "後"]),
        ("เบาหวาน", ["เ", "บ", "า", "ห", "ว", "า", "น"]),
        ("ที่นี่", ["ที่", "นี่"]),  # a character keeps its marks
        ("당뇨병은 만성", ["당뇨병은", "만성"]),
        ("«Диабет» — это", ["диабет", "это"]),
        ("سُكَّري، مزمن؟", ["سُكَّري", "مزمن"]),
        ("two\u00a0words\tand\nlines", ["two", "words", "and", "lines"]),
        ("a\u0301 b", ["\u00e1", "b"]),
        (string.punctuation, []),
        ("The a AN", []),
    ],
)
def test_what_counts_as_a_word(text, tokens):
    assert normalized_tokens(text) == tokens


@given(TEXTS, TEXTS)
def test_it_is_symmetric_and_between_0_and_1(one, other):
    assert token_f1(one, other) == token_f1(other, one)
    assert 0 <= token_f1(one, other) <= 1


@given(TEXTS)
def test_a_text_matches_itself(text):
    assert token_f1(text, text) == 1


@given(WORDS, WORDS, st.sampled_from(["", ".", "!?", "'"]), st.sampled_from([" ", " the ", "  A ", "\n"]))
def test_case_punctuation_articles_and_order_do_not_count(one, other, mark, joint):
    plain = token_f1(" ".join(one), " ".join(other))
    changed = joint.join(f"{word.upper()}{mark}" for word in reversed(one))
    assert token_f1(changed, " ".join(other)) == plain


@given(WORDS.filter(bool), WORDS.filter(bool))
def test_it_is_the_harmonic_mean_of_precision_and_recall(one, other):
    same = sum(min(one.count(word), other.count(word)) for word in set(one))
    assert token_f1(" ".join(one), " ".join(other)) == pytest.approx(2 * same / (len(one) + len(other)))


@given(TEXTS, TEXTS)
def test_unicode_forms_are_alike(one, other):
    for form in ("NFC", "NFD"):
        assert token_f1(unicodedata.normalize(form, one), one) == 1
        assert token_f1(unicodedata.normalize(form, one), other) == token_f1(one, other)


@given(st.text(st.characters(max_codepoint=127)), st.text(st.characters(max_codepoint=127)))
def test_ascii_texts_score_as_in_squad(one, other):
    assert token_f1(one, other) == squad_f1(one, other)
