"""Texts from JSON Lines, from a data set, and every way in which they can be wrong."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rankselect as rs
from rankselect.data.rows import load_texts

TEXT = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


@given(st.lists(TEXT, max_size=20), st.booleans())
def test_json_lines_come_back_as_they_were(tmp_path_factory, texts, ascii_only):
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    lines = (json.dumps({"text": text}, ensure_ascii=ascii_only) for text in texts)
    path.write_text("\n\n".join(lines), encoding="utf-8", newline="")
    assert load_texts(str(path), "text") == texts


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a"}\n', encoding="utf-8-sig")
    assert load_texts(str(path), "text") == ["a"]


def test_empty_texts_are_left_out_with_a_warning(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a"}\n{"text": " "}\n{"text": ""}\n')
    with pytest.warns(rs.RankSelectWarning, match="2 of 3 texts in .* are empty, and were left out"):
        assert load_texts(str(path), "text") == ["a"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (
            b'{"text": "a"}\n{"text": \n',
            rs.errors.FileFormatError,
            r"text that is not JSON: Expecting value \(.*texts\.jsonl, line 2\)",
        ),
        (b'{"text": "a"}\n\n["a"]\n', rs.errors.FileFormatError, r"a list \(.*line 3\)"),
        (b'[\n{"text": "a"}\n', rs.errors.FileFormatError, r"from line 3 on \(the array does not end\)"),
        (b'{"text": "a"}\n{"text": "\xe4"}\n', rs.errors.TextsError, r"a byte that is not UTF-8 \(0xe4\) \(.*2\)"),
        (
            b'{"text": "a"}\n{"body": "b", "id": 1}\n',
            rs.errors.TextsError,
            r"line 2, has: body, id\).*load_texts\(…, field=NAME\)",
        ),
        (b'{"text": ["a"]}\n', rs.errors.TextsError, r"text in the field 'text', got a list \(.*line 1\)"),
        (b'{"text": null}\n', rs.errors.TextsError, "got a NoneType"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(tmp_path, content, error, message):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(content)
    with pytest.raises(error, match=message):
        load_texts(str(path), "text")


def test_a_csv_file(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text('id,text\n1,"a, b"\n2,c\n')
    assert load_texts(str(path), "text") == ["a, b", "c"]


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.csv"])
def test_a_file_that_does_not_exist(name):
    with pytest.raises(rs.errors.TextsError, match="which does not exist"):
        load_texts(name, "text")


def test_an_unknown_field_of_the_embedded_texts():
    with pytest.raises(rs.errors.TextsError, match="has: text, question, answer"):
        load_texts("medical-qa", "body")


@pytest.fixture
def data_set(tmp_path, monkeypatch):
    """A folder that `datasets` reads as it reads a data set on the hub."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "validation.jsonl").write_text('{"answer": "a", "id": 1}\n{"answer": "b", "id": 2}\n')
    return folder


def test_a_split_of_a_data_set(data_set):
    assert load_texts(f"{data_set}:validation", "answer", progress=False) == ["a", "b"]


@pytest.mark.parametrize(
    ("split", "field", "message"),
    [
        ("", "answer", "a folder of rows with the split 'train', got"),
        (":test", "answer", "a folder of rows with the split 'test', got"),
        (
            ":validation",
            "text",
            r"a field 'text', got none \(.*validation, row 0, has: answer, id\), and the same in all 2 rows",
        ),
        (":validation", "id", r"text in the field 'id', got an int \(.*row 0\)"),
    ],
)
def test_a_data_set_that_does_not_have_it(data_set, split, field, message):
    with pytest.raises(rs.errors.TextsError, match=message):
        load_texts(f"{data_set}{split}", field, progress=False)


def test_data_sets_need_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(rs.errors.MissingExtraError, match=r'pip install "rankselect\[data\]"'):
        load_texts("org/name", "text")


def test_samples_in_memory():
    datasets = pytest.importorskip("datasets")
    samples = [{"text": "a", "id": 1}, {"text": "b", "id": 2}]
    table = datasets.Dataset.from_list(samples)
    assert load_texts(samples) == load_texts(table) == load_texts({"test": table}, split="test") == ["a", "b"]
    with pytest.raises(rs.errors.TextsError, match=r"a mapping with the field 'text', got a str \(row 0\)"):
        load_texts(["a"])
