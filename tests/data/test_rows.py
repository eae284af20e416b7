"""Question-answer rows from every kind of source, and everything that can be wrong with one."""

from __future__ import annotations

import csv
import json
import sys
import warnings
from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.data.medical_qa import medical_qa
from rankselect.data.overlap import warn_of_overlap
from rankselect.data.prompts import PromptTemplate, QuestionAnswer
from rankselect.data.rows import load_rows
from rankselect.errors import DataError, MissingExtraError, RankSelectWarning

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1).map(str.strip).filter(bool)
ROWS = st.lists(st.builds(QuestionAnswer, WORDS, WORDS), min_size=1, max_size=8)
ACNE = {"question": "What is acne?", "answer": "A disease."}


def written(tmp_path, content, name="rows.jsonl"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fails(source, message, error=DataError, **arguments):
    with pytest.raises(error, match=message):
        load_rows(source, **arguments)


@given(ROWS, st.booleans())
def test_json_lines_come_back_as_they_were(tmp_path_factory, rows, ascii_only):
    lines = (json.dumps({"id": 1, "question": r.question, "answer": r.answer}, ensure_ascii=ascii_only) for r in rows)
    path = written(tmp_path_factory.mktemp("rows"), "\n\n".join(lines))
    assert load_rows(path) == load_rows(str(path)) == rows


@given(ROWS, st.sampled_from([(".csv", ","), (".tsv", "\t")]))
def test_csv_comes_back_as_it_was(tmp_path_factory, rows, kind):
    path = tmp_path_factory.mktemp("rows") / f"rows{kind[0]}"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=kind[1])
        writer.writerows([("answer", "id", "question"), *((row.answer, 1, row.question) for row in rows)])
    assert load_rows(path) == rows


def test_python_objects():
    rows = [QuestionAnswer("What is acne?", "A disease.")]
    Pair = namedtuple("Pair", "question answer")
    assert load_rows([ACNE]) == load_rows((ACNE,)) == load_rows(iter([ACNE])) == rows
    assert load_rows([Pair("What is acne?", "A disease.")]) == load_rows(rows) == rows
    assert load_rows([{"q": " What is acne?\n", "a": "A disease."}], question="q", answer="a") == rows


def test_the_embedded_pairs():
    rows = load_rows(medical_qa())
    assert rows[7] == QuestionAnswer(medical_qa()[7].question, medical_qa()[7].answer)
    assert len(rows) == 1024
    assert [PromptTemplate().parse(pair.text) for pair in medical_qa()] == rows


def test_one_text_with_both():
    rows = [QuestionAnswer("What is acne?", "A disease.")]
    assert load_rows([{"text": "### Instruction: What is acne? ### Assistant: A disease."}]) == rows
    chat = PromptTemplate("Q: {question} A: {answer}")
    assert load_rows([{"both": "Q: What is acne? A: A disease."}], text="both", template=chat) == rows


def test_question_and_answer_go_before_a_text():
    assert load_rows([{**ACNE, "text": "of another form"}]) == [QuestionAnswer("What is acne?", "A disease.")]


def test_data_sets_in_memory():
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list([ACNE])
    rows = [QuestionAnswer("What is acne?", "A disease.")]
    assert load_rows(table) == load_rows(datasets.DatasetDict({"train": table})) == rows
    assert load_rows(table.to_iterable_dataset()) == rows
    fails(datasets.DatasetDict({"train": table}), "a split 'test'.*got a mapping of train", split="test")


def test_a_split_of_a_data_set_by_name(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    written(folder, json.dumps({**ACNE, "answer": None}) + "\n", "test.jsonl")
    written(folder, json.dumps(ACNE) + "\n", "validation.jsonl")
    assert load_rows(folder, split="validation") == [QuestionAnswer("What is acne?", "A disease.")]
    fails(
        folder,
        r"a folder of rows with the split 'train', got .*data \(.*Name a file in it .*, or a split that it has: ",
    )
    fails(folder, r"expected text as answer, got None \(.*data, row 0\)", split="test")


def test_a_data_set_that_is_not_there():
    pytest.importorskip("datasets")
    message = r"a data set on the hub with the split 'train', got nobody/nothing, which is no file or folder here \("
    fails("nobody/nothing", message)


def test_data_sets_by_name_need_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    fails("org/name", r'pip install "rankselect\[data\]"', MissingExtraError)


@pytest.mark.parametrize("content", ["", "\n\n", "question,answer\n"])
def test_no_rows(tmp_path, content):
    name = "rows.csv" if content.startswith("q") else "rows.jsonl"
    fails(written(tmp_path, content, name), rf"at least one question with its answer, got none in .*{name}")
    fails([], "at least one question with its answer, got none in the rows")


@pytest.mark.parametrize(("answer", "got"), [("", "an empty one"), (" \n", "an empty one"), (None, "None")])
def test_rows_without_answers(tmp_path, answer, got):
    rows = [ACNE, {**ACNE, "answer": answer}]
    fails(rows, rf"text as answer, got {got} \(row 1\). Repair the row. To leave such rows out: load_rows\(…, skip_f")
    fails(written(tmp_path, "\n".join(map(json.dumps, rows))), rf"got {got} \(.*rows\.jsonl, line 2\)")
    fails([{**ACNE, "question": answer}], rf"text as question, got {got} \(row 0\)")


def test_text_without_an_answer():
    fails([{"text": "### Instruction: What is acne? ### Assistant:"}], r"text as answer, got an empty one \(row 0\)")
    fails([{"text": None}], r"text as text, got None \(row 0\)")


def test_something_else_than_text():
    fails(
        [{**ACNE, "answer": {}}],
        r"text as answer, got a dict \(row 0\). Name another column: load_rows\(…, answer=COLUMN\)",
    )
    fails([{**ACNE, "question": ["What?"]}], r"text as question, got a list \(row 0\)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"answer": "anwser"}, r"a column 'anwser', got none \(row 0, has: question, answer\). Did you mean answer\?"),
        ({"question": "prompt"}, r"a column 'prompt', got none .*\). Name the column: load_rows\(…, question=COLUMN\)"),
    ],
)
def test_a_column_that_does_not_exist(arguments, message):
    fails([ACNE], message, **arguments)


def test_a_column_that_is_missing_in_one_row(tmp_path):
    path = written(tmp_path, json.dumps(ACNE) + '\n{"question": "a", "reply": "b"}\n')
    fails(path, r"a column 'answer', got none \(.*line 2, has: question, reply\)")


def test_only_tables_are_told_of_their_first_line(tmp_path):
    hint = r"load_rows\(…, answer=COLUMN\)\. The first line of a table must name its columns\."
    fails(written(tmp_path, "question\treply\na\tb\n", "rows.tsv"), hint)
    fails([{"question": "a"}], r"load_rows\(…, answer=COLUMN\)\.$")


def test_at_most_two_near_names_and_the_beginning_of_long_ones():
    row = {"answer1": "a", "answer2": "b", "answer3": "c", "question": "d", "x" * 50: "e"}
    fails([row], rf"has: .*, {'x' * 40}\)\. Did you mean answer\d or answer\d\? Name the column: load_rows")
    fails([{"question": "a", "awnr": "b"}], r"Did you mean awnr\? ")
    fails([{}], r"the columns question and answer, text, messages, .* got none \(row 0\)\. Name the columns: load_rows")


def test_where_a_row_stands_is_said_of_splits_and_of_texts():
    fails({"train": [ACNE, {**ACNE, "answer": ""}]}, r"got an empty one \(train, row 1\)")
    fails({}, "got a mapping of nothing")
    fails([{"text": "### Instruction: ### Assistant: b"}], r"text as question, got an empty one \(row 0\)")
    half = namedtuple("Half", "question")
    fails([half("a")], r"got a Half \(row 0\)")


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.csv"])
def test_a_file_that_does_not_exist(name):
    fails(name, f"a file of rows, got {name}, which does not exist")


def test_text_that_does_not_parse():
    rows = [{"text": "### Instruction: a ### Assistant: b"}, {"text": "just a text"}]
    fails(rows, r"text of the form '### Instruction.*got 'just a text' \(row 1\). Pass the template")


@pytest.mark.parametrize("source", [3, None, [3], ["a text"], {"question": "a", "answer": "b"}])
def test_a_source_of_another_kind(source):
    fails(source, r"got (3|None|'a text'|a mapping of question, answer)")


def test_questions_that_are_trained_on_too():
    train = [QuestionAnswer("What is acne?", "a"), QuestionAnswer("What is gout?", "b")]
    evaluation = [QuestionAnswer(" what IS\tacne? ", "c"), QuestionAnswer("What is flu?", "d")]
    with pytest.warns(RankSelectWarning, match=r"1 of 2 evaluation questions .* ' what IS\\tacne\? '"):
        warn_of_overlap(train, evaluation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_overlap(train, evaluation[1:])


@pytest.mark.assets
def test_medquad(assets):
    folder = assets / "data" / "medquad"
    rows = {split: load_rows(folder / f"{split}.jsonl") for split in ("train", "eval")}
    assert {split: len(found) for split, found in rows.items()} == {"train": 1000, "eval": 200}
    texts = [json.loads(line)["text"] for line in (folder / "eval.jsonl").read_text("utf-8").splitlines()]
    assert load_rows([{"text": text} for text in texts]) == rows["eval"]


def test_names_that_the_command_line_takes(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert load_rows("medical-qa") == load_rows(medical_qa())
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("test", "train"):
        written(folder, json.dumps({**ACNE, "question": split}) + "\n", f"{split}.jsonl")
    asked = {name: load_rows(f"{folder}{name}", split="test", progress=False)[0].question for name in ("", ":train")}
    assert asked == {"": "test", ":train": "train"}
