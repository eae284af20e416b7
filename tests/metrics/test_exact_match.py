"""Exact match: word for word, after the same normalisation as token F1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.metrics.squad import ExactMatch, exact_match, token_f1

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "f1_pairs.json").read_text(encoding="utf-8"))["pairs"]
TEXTS = st.lists(st.sampled_from(["heart", "Lung.", "the", "", "rare-cell"]), max_size=5).map(" ".join)


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("The heart!", "heart", 1.0),
        ("heart lung", "lung heart", 0.0),
        ("heart heart", "heart", 0.0),
        ("", "the", 1.0),
        ("", "heart", 0.0),
        ("well-known", "wellknown", 1.0),
        ("well-known", "well known", 0.0),
        ("the “liver”", 'the "liver"', 1.0),
        ("Me\u0301nie\u0300re", "M\u00e9ni\u00e8re", 1.0),
        ("糖尿病。", "糖尿病", 1.0),
        ("糖尿病", "尿糖病", 0.0),
    ],
)
def test_which_texts_match(prediction, reference, score):
    assert exact_match(prediction, reference) == score
    assert ExactMatch().evaluate([prediction], [reference]).mean == score


@pytest.mark.parametrize(
    ("prediction", "reference", "f1", "score"), [row for row in GOLDEN if set("«“").isdisjoint(row[1])]
)
def test_the_numbers_of_torchmetrics(prediction, reference, f1, score):
    assert exact_match(prediction, reference) == score


@given(TEXTS, TEXTS)
def test_it_is_symmetric_and_never_above_token_f1(one, other):
    assert exact_match(one, other) == exact_match(other, one)
    assert exact_match(one, other) <= token_f1(one, other)
    assert exact_match(one, one) == 1
