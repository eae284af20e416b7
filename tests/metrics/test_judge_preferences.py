"""Verdicts are parsed strictly, and the verdicts in both orders give one outcome."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.metrics.judge.preferences import Comparison, Preference, parse_verdict


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("[[A]]", "first"),
        ("[[B]]", "second"),
        ("[[tie]]", "tie"),
        ("A names the cause.\n\n[[A]]\n", "first"),
        ("Verdict: **[[B]]**.", "second"),
        ("`[[TIE]]`", "tie"),
        ("[[A]] it is, as I said: [[A]]", "first"),
        ("<think>[[A]]? No, rather [[B]].</think>\n[[B]]", "second"),
        ("", "abstained"),
        ("A", "abstained"),
        ("[A]", "abstained"),
        ("[[C]]", "abstained"),
        ("[[A]] is better than [[B]]", "abstained"),
        ("[[A]]\n[[tie]]", "abstained"),
        ("[[A]] because it names the cause and", "abstained"),
        ("I'm sorry, but I cannot compare medical advice.", "abstained"),
        ("<think>Clearly [[A]]", "abstained"),
        ("<think>[[A]]</think>", "abstained"),
        ("Give [[A]], [[B]] or [[tie]]", "abstained"),
    ],
)
def test_replies(reply, choice):
    assert parse_verdict(reply) == choice


@given(st.text(alphabet="[]AaBbtie <>/think.*\n", max_size=40))
def test_any_text_is_read_and_a_choice_always_has_its_mark(text):
    choice = parse_verdict(text)
    mark = {"first": "[[a]]", "second": "[[b]]", "tie": "[[tie]]", "abstained": ""}[choice]
    assert mark in text.lower()


def compared(one, other):
    verdicts = Preference(0, "x", "y", one, ""), Preference(0, "y", "x", other, "")
    comparison = Comparison(0, ("x", "y"), verdicts)
    return comparison.outcome, comparison.winner


@pytest.mark.parametrize(
    ("one", "other", "outcome", "winner"),
    [
        ("first", "second", "won", "x"),
        ("second", "first", "won", "y"),
        ("tie", "tie", "tie", None),
        ("first", "first", "disagreement", None),
        ("second", "second", "disagreement", None),
        ("first", "tie", "disagreement", None),
        ("tie", "first", "disagreement", None),
        ("abstained", "first", "abstained", None),
        ("second", "abstained", "abstained", None),
        ("abstained", "abstained", "abstained", None),
    ],
)
def test_two_orders_make_one_outcome(one, other, outcome, winner):
    assert compared(one, other) == (outcome, winner)


def test_equal_texts_need_no_verdict():
    comparison = Comparison(0, ("x", "y"), ())
    assert (comparison.outcome, comparison.winner) == ("identical", None)
