"""Data sets by name: what a name says, folders that datasets wrote, and errors that fit a folder or the hub."""

from __future__ import annotations

import json

import pytest

from rankselect.data.data_sets import DataSetName, check_name, load_data_set
from rankselect.data.prompts import QuestionAnswer
from rankselect.data.rows import load_rows
from rankselect.errors import DataError

ROW = {"question": "a", "answer": "b"}


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    """The package, with a cache of its own."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return pytest.importorskip("datasets")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("owner/name", ("owner/name", None, None)),
        ("owner/name:test", ("owner/name", None, "test")),
        ("name:train[10:20]", ("name", None, "train[10:20]")),
        ("name:train[:50%]+train[90%:]", ("name", None, "train[:50%]+train[90%:]")),
        ("name:train[-10%:]", ("name", None, "train[-10%:]")),
        ("name:main[test]", ("name", "main", "test")),
        ("name:en-US.v1_0[train+validation]", ("name", "en-US.v1_0", "train+validation")),
        ("name:2020[train[:100]]", ("name", "2020", "train[:100]")),
        ("C:\\data", ("C:\\data", None, None)),
        ("C:/data:test", ("C:/data", None, "test")),
    ],
)
def test_a_name_says_configuration_and_split(name, parts):
    assert DataSetName.parse(name) == parts


def test_a_folder_with_a_colon_in_its_name(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert DataSetName.parse(str(folder)) == (str(folder), None, None)
    check_name(str(folder))


def test_folders_that_datasets_saved(datasets, tmp_path):
    table = datasets.Dataset.from_list([ROW])
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"dev": table}).save_to_disk(tmp_path / "several")
    assert load_rows(tmp_path / "one") == load_rows(f"{tmp_path / 'several'}:dev") == [QuestionAnswer("a", "b")]
    with pytest.raises(
        DataError,
        match=r"a folder of rows with the split 'train', got .* \(Unknown split 'train'\)\. Its splits: dev\. ",
    ):
        load_rows(tmp_path / "several")


@pytest.mark.parametrize("files", [{}, {"train.xyz": "nothing"}, {"validation.jsonl": json.dumps(ROW)}])
def test_a_folder_without_the_rows_is_not_looked_for_on_the_hub(datasets, tmp_path, files):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(DataError, match="a folder of rows with the split 'train'") as caught:
        load_rows(folder)
    assert "Name a file in it" in str(caught.value)
    assert "connection" not in str(caught.value)


def test_a_configuration_that_is_missing(datasets, monkeypatch):
    def load_dataset(*_, **__):
        message = "Config name is missing.\nPlease pick one among the available configs: ['main', 'socratic']\nExample"
        raise ValueError(message)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        DataError, match=r"Its configurations: 'main', 'socratic'\. A data set on the hub is named OWNER/"
    ):
        load_data_set("openai/gsm8k", "train", progress=True)


@pytest.mark.parametrize("name", ["what is a heart", "a/b/c", "./rows", "../rows:train", "x?y", ""])
def test_what_cannot_be_a_name_is_refused_at_once(name):
    with pytest.raises(DataError, match="a file or folder of rows, or the name of a data set on the hub, got .*which"):
        check_name(name)


def test_a_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW))
    assert load_rows("~/rows.jsonl") == [QuestionAnswer("a", "b")]
