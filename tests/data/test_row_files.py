"""Files as people have them: JSON, tables and Parquet, compressed or not, and every way in which they are damaged."""

from __future__ import annotations

import csv
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankselect.data.prompts import QuestionAnswer
from rankselect.data.rows import load_rows, load_texts
from rankselect.errors import DataError, FileFormatError, MissingExtraError, TextsError

GOUT = {"question": "What is gout?", "answer": "A form of arthritis."}
FLU = {"question": "What is flu?", "answer": 'An "infection",\nof the lungs; and nose'}
ROWS = [QuestionAnswer(**GOUT), QuestionAnswer(**FLU)]
LINES = "\n".join(map(json.dumps, (GOUT, FLU))).encode()


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(delimiter=",", before="", **how):
    import io

    file = io.StringIO(before, newline="")
    file.seek(len(before))
    writer = csv.writer(file, delimiter=delimiter, **how)
    writer.writerows([("answer", "id", "question"), *((row.answer, 1, row.question) for row in ROWS)])
    return file.getvalue().encode()


FILES = {
    "rows.jsonl": LINES,
    "ROWS.JSONL": b"\xef\xbb\xbf" + LINES,
    "rows.ndjson": LINES.replace(b"\n", b"\r\n\r\n"),
    "no_suffix": LINES,
    "utf16.jsonl": LINES.decode().encode("utf-16"),
    "array.json": json.dumps([GOUT, FLU]).encode(),
    "indented.json": b"\n" + json.dumps([GOUT, FLU], indent=2).encode() + b"\n",
    "lines.json": LINES,
    "objects.json": "\n".join(json.dumps(row, indent=2) for row in (GOUT, FLU)).encode(),
    "rows.csv": table(),
    "Rows.Csv": b"\xef\xbb\xbf" + table(lineterminator="\n"),
    "quoted.csv": table(quoting=csv.QUOTE_ALL),
    "rows.TSV": table("\t"),
    "semicolons.csv": table(";"),
    "tabs.csv": table("\t"),
    "excel.csv": table(";", before="sep=;\r\n"),
    "EXCEL.CSV": table("|", before="\r\nSEP=|\r\n"),
    "utf16.csv": table("\t").decode().encode("utf-16"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("end", ["", ".gz", ".GZ"])
def test_each_format_is_read(tmp_path, name, end):
    content = gzip.compress(FILES[name]) if end else FILES[name]
    assert load_rows(written(tmp_path, name + end, content)) == ROWS


@pytest.mark.parametrize("end", ["", ".gz"])
def test_parquet(tmp_path, end):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "rows.parquet"
    pandas.DataFrame([GOUT, FLU]).to_parquet(path)
    if end:
        path = written(tmp_path, "rows.parquet.gz", gzip.compress(path.read_bytes()))
    assert load_rows(path) == ROWS
    pandas.DataFrame([GOUT, {**FLU, "answer": None}]).to_parquet(tmp_path / "faulty.parquet")
    with pytest.raises(DataError, match=r"text as answer, got None \(.*faulty\.parquet, row 1\)"):
        load_rows(tmp_path / "faulty.parquet")
    with pytest.raises(FileFormatError, match=r"a complete Parquet file, got .*cut\.parquet \("):
        load_rows(written(tmp_path, "cut.parquet", (tmp_path / "faulty.parquet").read_bytes()[:-10]))


def test_parquet_needs_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rankselect\[data\]"'):
        load_rows(written(tmp_path, "rows.parquet", b"PAR1PAR1"))


def test_spaces_after_separators_do_not_count(tmp_path):
    content = 'question, answer\nWhat is gout?, "A form, of arthritis."\n'
    assert load_rows(written(tmp_path, "spaces.csv", content))[0].answer == "A form, of arthritis."


def test_fields_of_any_length(tmp_path):
    limit = csv.field_size_limit()
    long = "word " * 60_000
    assert load_rows(written(tmp_path, "long.csv", f"question,answer\nq,{long}"))[0].answer == long.strip()
    assert csv.field_size_limit() == limit


def test_an_index_without_a_name_is_a_column_like_any_other(tmp_path):
    path = written(tmp_path, "pandas.csv", ",question,answer\n0,a,b\n")
    assert load_rows(path) == [QuestionAnswer("a", "b")]


def test_a_table_of_texts_only(tmp_path):
    assert load_texts(written(tmp_path, "texts.csv", "text\na; b\nc\n")) == ["a; b", "c"]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), min_size=1, max_size=5))
def test_any_text_comes_back_from_a_quoted_table(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("texts") / "texts.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL).writerows([("text",), *((f"x{t}",) for t in texts)])
    assert load_texts(path) == [f"x{text}" for text in texts]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "question,answer\na,b\na,b,c\n", r"2 fields in each row, .* got 3 \(.*line 3\)\. Put fields that"),
        ("rows.csv", 'question,answer\n"a\nb"\n', r"2 fields in each row, .* got 1 \(.*line 2\)"),
        ("rows.csv", 'question,answer\n"a" b,c\nd,e', r"correct quotes, got quotes that do not fit: .*line 2\)"),
        ("rows.csv", 'question,answer\na,b\n"c,d\n', r"correct quotes, got quotes that do not fit: .*line 3\)"),
        ("rows.csv", "answer,answer\na,b\n", r"rows\.csv, whose first line has 'answer' twice"),
        (
            "rows.jsonl",
            json.dumps(GOUT) + '\n{"question": \n',
            r"not JSON: Expecting value \(.*line 2\)\. Repair the l",
        ),
        ("rows.jsonl", '{"question": \n' + json.dumps(GOUT), r"not JSON: .* \(.*line 1\)"),
        ("rows.jsonl", "3\n" + json.dumps(GOUT), r"a JSON object for each row, got an int \(.*line 1\)"),
        ("rows.json", '["a"]', r"a JSON object for each row, got a str \(.*line 1\)"),
        ("rows.json", '[{"question": "a"},\n{"answer": }]', r"cannot be read from line 2 on \(Expecting value\)"),
        ("rows.json", "[\n" + json.dumps(GOUT), r"from line 2 on \(the array does not end\)"),
        ("rows.json", f"[{json.dumps(GOUT)}]\nx", r"from line 1 on \(text after the end of the array\)"),
        ("rows.xlsx", b"PK\x03\x04...", r"rows\.xlsx, a ZIP archive or an Excel workbook\. Save the rows as CSV or"),
        ("rows.jsonl.gz", gzip.compress(LINES)[:-9], r"a complete \.gz file, got .*\. Copy or download it again"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    with pytest.raises(FileFormatError, match=message):
        load_rows(written(tmp_path, name, content))


def test_files_that_are_not_utf8(tmp_path):
    path = written(tmp_path, "rows.csv", b"question,answer\na,b\nc,\xe4\n")
    with pytest.raises(DataError, match=r"a byte that is not UTF-8 \(0xe4\) \(.*line 3\)\. Save the file as UTF-8"):
        load_rows(path)
    assert load_texts(path, "question") == ["a", "c"]
    with pytest.raises(TextsError, match=r"in the field 'answer', got a byte that is not UTF-8"):
        load_texts(path, "answer")


@pytest.mark.parametrize("content", ["", "\n \n", "[]", "question,answer\n"])
def test_files_without_rows(tmp_path, content):
    path = written(tmp_path, "rows.csv" if content.startswith("q") else "rows.json", content)
    with pytest.raises(DataError, match="at least one question with its answer, got none"):
        load_rows(path)


def test_no_remedy_destroys_a_file(tmp_path):
    for content in ("{", "[{]", "nothing", "1\n2"):
        with pytest.raises(FileFormatError) as caught:
            load_rows(written(tmp_path, "rows.json", content))
        assert not {"remove", "delete", "drop"} & set(caught.value.remedy.lower().split())
