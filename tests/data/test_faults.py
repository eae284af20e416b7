"""Faulty rows: all are counted, five are named, in one error or one warning."""

from __future__ import annotations

import json

import pytest

from rankselect.data.prompts import QuestionAnswer
from rankselect.data.rows import load_rows, load_texts, rows_of
from rankselect.errors import DataError, FileFormatError, RankSelectWarning, TextsError

GOOD = {"question": "a", "answer": "b"}


@pytest.fixture
def faulty(tmp_path):
    """A file with two good rows and seven faulty ones."""
    path = tmp_path / "rows.jsonl"
    lines = [
        GOOD,
        {**GOOD, "answer": None},
        {**GOOD, "answer": ""},
        {"question": "a"},
        GOOD,
        [1],
        {**GOOD, "answer": []},
    ]
    path.write_text("\n".join([*map(json.dumps, lines), "{", json.dumps({**GOOD, "question": "\udead"})]))
    return path


def test_faulty_rows_are_counted_and_five_are_named(faulty):
    with pytest.raises(DataError) as caught:
        load_rows(faulty)
    assert str(caught.value) == (
        f"expected rows with question and answer, got 7 faulty rows of 9: None ({faulty}, line 2) instead of text as "
        f"answer; an empty one ({faulty}, line 3) instead of text as answer; none ({faulty}, line 4, has: question) "
        f"instead of a column 'answer'; a list ({faulty}, line 6) instead of a JSON object for each row; a list "
        f"({faulty}, line 7) instead of text as answer; and 2 more. Repair the rows. To leave such rows out: "
        "load_rows(…, skip_faulty=True)."
    )


def test_faulty_rows_are_left_out_with_a_warning(faulty):
    with pytest.warns(
        RankSelectWarning, match=r"7 of 9 rows in .*rows\.jsonl are faulty, and were left out: None .*2 more"
    ):
        assert load_rows(faulty, skip_faulty=True) == [QuestionAnswer("a", "b")] * 2
    with pytest.warns(RankSelectWarning, match=r"3 of 9 rows in .* are faulty.*line 9"):
        assert len(load_texts(faulty, "question", skip_faulty=True)) == 6


def test_the_same_fault_is_named_once():
    with pytest.raises(
        DataError, match=r"expected text as answer, got 2 faulty rows of 3: None \(row 0\); None \(row 2\)\. "
    ):
        load_rows([{**GOOD, "answer": None}, GOOD, {**GOOD, "answer": None}])


def test_faults_of_a_file_alone_are_a_format_error(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps(GOOD), "[", "3"]))
    with pytest.raises(
        FileFormatError, match=r"a JSON object for each row, got 2 faulty rows of 3: text that is not JSON"
    ):
        load_rows(path)


def test_rows_that_are_all_faulty_are_an_error_whatever_was_asked():
    with pytest.raises(
        DataError, match=r"a column 'answer', got none \(row 0, has: question, reply\)\.[^.]*answer=COLUMN\)\.$"
    ):
        load_rows([{"question": "a", "reply": "b"}], skip_faulty=True)


def test_texts_name_their_own_loader():
    with pytest.raises(
        TextsError, match=r"got None .*load_texts\(…, skip_faulty=True\)|got a NoneType.*load_texts\(…, skip_f"
    ):
        load_texts([{"text": None}, {"text": "a"}])


def test_rows_that_are_handed_over_are_checked_together():
    rows = [QuestionAnswer("a", "b"), QuestionAnswer("\ud83d", "b"), QuestionAnswer("a", "\udc00")]
    with pytest.raises(
        DataError, match=r"text in Unicode, got 2 faulty rows of 3: a lone surrogate \(\\ud83d.*\(row 2\)"
    ):
        rows_of(rows)
