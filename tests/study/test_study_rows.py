"""The rows of a study: the embedded ones in three parts, a test that is held out, and samples of them."""

from __future__ import annotations

import json

import pytest

import rankselect as rs
from rankselect.data.medical_qa import medical_qa
from rankselect.data.overlap import comparable
from rankselect.errors import DataError
from rankselect.study import folder
from rankselect.study.arm import Arm
from rankselect.study.config import StudyConfig
from rankselect.study.rows import embedded_rows, study_rows

CONDITION = {pair.question: pair.condition for pair in medical_qa()}
ORDER = sorted(set(CONDITION.values()))


def config(train="medical-qa", test="medical-qa", **values):
    return StudyConfig("small-phi", str(train), test, arms=(Arm("base"),), **values)


def conditions(rows):
    return sorted({CONDITION[row.question] for row in rows})


def written(path, questions):
    lines = [json.dumps({"question": each, "answer": f"to {each} {index}"}) for index, each in enumerate(questions)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_every_fifth_condition_is_the_test_and_every_second_of_the_others_the_base():
    parts = {part: embedded_rows(part) for part in ("base", "train", "test")}
    others = [each for index, each in enumerate(ORDER) if index % 5]
    assert conditions(parts["test"]) == ORDER[::5]
    assert conditions(parts["base"]) == others[::2]
    assert conditions(parts["train"]) == others[1::2]
    assert sum(map(len, parts.values())) == len(medical_qa())


@pytest.mark.parametrize("test", ["medical-qa", None])
def test_the_embedded_rows_are_trained_and_scored_on_in_parts(test):
    rows = study_rows(config(test=test))
    assert [(row.question, row.answer) for row in rows.test] == [
        (row.question, row.answer) for row in embedded_rows("test")
    ]
    assert {row.question for row in (*rows.train, *rows.validation)} == {row.question for row in embedded_rows("train")}
    assert len(rows.validation) == round(0.1 * len(embedded_rows("train")))


def test_a_tenth_of_the_questions_is_held_out_each_with_all_its_rows(tmp_path):
    questions = [f"why {index % 20}" for index in range(60)]
    rows = study_rows(config(written(tmp_path / "rows.jsonl", questions), None))
    held_out = {row.question for row in rows.test}
    assert (len(held_out), len(rows.test)) == (2, 6)
    assert not held_out & {row.question for row in (*rows.train, *rows.validation)}
    assert (len(rows.train), len(rows.validation)) == (48, 6)
    assert not {row.question for row in rows.train} & {row.question for row in rows.validation}
    assert [row.answer for row in rows.test] == sorted(
        (row.answer for row in rows.test), key=lambda each: int(each.split()[-1])
    )


def test_at_least_one_question_is_held_out_and_one_row_chosen_on(tmp_path):
    rows = study_rows(config(written(tmp_path / "rows.jsonl", ["a", "b", "c"]), None))
    assert (len(rows.train), len(rows.validation), len(rows.test)) == (1, 1, 1)
    with pytest.raises(DataError, match="at least 2 different questions, to hold one out, got 1"):
        study_rows(config(written(tmp_path / "one.jsonl", ["a", "a"]), None))
    with pytest.raises(DataError, match="at least 2 different questions for training and validation, got 1"):
        study_rows(config(written(tmp_path / "two.jsonl", ["a", "b"]), None))


def test_samples_keep_the_order_and_are_always_the_same(tmp_path):
    source = written(tmp_path / "rows.jsonl", [f"why {index}" for index in range(40)])
    test = written(tmp_path / "test.jsonl", [f"how {index}" for index in range(9)])
    rows = study_rows(config(source, str(test), n_train=20, n_test=4))
    for part, n in ((rows.train, 18), (rows.validation, 2), (rows.test, 4)):
        numbers = [int(row.question.split()[-1]) for row in part]
        assert (len(part), numbers) == (n, sorted(numbers))
    assert study_rows(config(source, str(test), n_train=20, n_test=4)) == rows
    whole = study_rows(config(source, str(test), n_train=40, n_test=9))
    assert (
        whole == study_rows(config(source, str(test))) == study_rows(config(source, str(test), n_train=99, n_test=99))
    )


def test_the_gpus_of_a_machine_are_named(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    for n, said in ((0, "no GPU"), (1, "GPU 0"), (2, "GPU 0, GPU 1")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda n=n: n)
        assert folder._gpus() == said


FORMS = (str, str.upper, lambda text: f"  {text}  ", lambda text: f"{text}?", lambda text: text.replace(" ", "\n"))


@pytest.mark.parametrize("change", FORMS)
def test_no_question_stands_on_two_sides_in_whatever_form(tmp_path, change):
    questions = [f"why caf\u00e9 {index}" for index in range(50)]
    rows = study_rows(config(written(tmp_path / "rows.jsonl", [*questions, *map(change, questions)]), None))
    sides = [{comparable(row.question) for row in side} for side in (rows.train, rows.validation, rows.test)]
    assert [len(side) for side in sides] == [40, 5, 5]
    assert len(set.union(*sides)) == 50


@pytest.mark.parametrize("change", FORMS)
def test_questions_of_the_test_leave_the_training_rows(tmp_path, change):
    questions = [f"why {index}" for index in range(50)]
    train, test = written(tmp_path / "train.jsonl", questions), tmp_path / "test.jsonl"
    given = config(train, written(test, [change(each) for each in questions[:10]]))
    with pytest.warns(rs.RankSelectWarning, match="10 of 10 evaluation questions"):
        rows = study_rows(given)
    assert len(rows.train) + len(rows.validation) == 40
    assert not {comparable(row.question) for row in (*rows.train, *rows.validation)} & {
        comparable(q) for q in questions[:10]
    }
    with (
        pytest.warns(rs.RankSelectWarning, match="50 of 50"),
        pytest.raises(
            DataError, match="questions are not in the test, got 50 rows, all of them with a question of the test"
        ),
    ):
        study_rows(config(train, train))
