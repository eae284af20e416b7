"""The options for rows: columns by name, faulty rows, data that is not there; remedies in the words of the shell."""

from __future__ import annotations

import json

import pytest

from rankselect.cli.console import in_shell
from rankselect.testing import tiny_texts

ROWS = [{"ask": f"why {index}", "reply": text, "body": text} for index, text in enumerate(tiny_texts(24))]
RANKS = ("--strategy", "fixed:rank=2", "--max-steps", 1)


def write_jsonl(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def rows(tmp_path):
    """A file with columns of other names."""
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, ROWS)
    return path


def failed(result, *messages):
    assert result.exit_code == 2, result.output
    for message in messages:
        assert message in result.stderr
    assert "load_" not in result.stderr
    assert "connection" not in result.stderr


def test_columns_by_name(run, model, rows, tmp_path):
    named = ("--question", "ask", "--answer", "reply")
    out = tmp_path / "run"
    result = run("train", model, "--data", rows, "--eval-data", rows, *named, "--out", out, *RANKS)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "settings.json").read_text())["settings"]["question"] == "ask"
    answers = tmp_path / "answers.jsonl"
    metric = ("--metric", "token-f1", "--max-new-tokens", 2, "--limit", 3, "--out", answers)
    result = run("evaluate", model, "--data", rows, *named, *metric)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["question"] for line in answers.read_text().splitlines()] == ["why 0", "why 1", "why 2"]
    result = run("profile", model, "--data", rows, "--text", "body", "--out", tmp_path / "profile.json")
    assert result.exit_code == 0, result.output


def test_wrong_columns_are_answered_with_options(run, model, rows, tmp_path):
    out = ("--out", tmp_path / "out")
    failed(run("train", model, "--data", rows, *out), "got ask, reply, body", "--question COLUMN --answer COLUMN")
    failed(run("evaluate", model, "--data", rows, "--question", "ask"), "a column 'answer'", "--answer COLUMN.")
    failed(run("profile", model, "--data", rows, *out), "a field 'text'", "Name the field: --text NAME")


def test_faulty_rows_are_left_out_when_asked(run, model, tmp_path):
    path = tmp_path / "faulty.jsonl"
    write_jsonl(path, [*({"question": row["ask"], "answer": row["body"]} for row in ROWS), {"question": "a"}])
    command = ("train", model, "--data", path, "--out", tmp_path / "out", *RANKS)
    failed(run(*command), f"a column 'answer', got none ({path}, line 25", "leave such rows out: --skip-faulty-rows.")
    result = run(*command, "--skip-faulty-rows")
    assert result.exit_code == 0, result.output
    assert "warning: 1 of 25 rows in" in result.stderr


@pytest.mark.parametrize("name", ["nowhere.CSV", "./nowhere", "a/b/c", "no where", "nowhere.jsonl.gz"])
def test_data_that_is_not_there(run, model, tmp_path, name):
    out = ("--out", tmp_path / "out")
    for command in (("train", model, "--data"), ("profile", model, "--data"), ("study", model, "--train")):
        failed(run(*command, name, *out), f"{name}, which does not exist", "Check the path")
    failed(run("evaluate", model, "--data", name), f"{name}, which does not exist", "Check the path")


def test_a_folder_without_rows_is_no_data_set_of_the_hub(run, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    failed(run("train", model, "--data", folder, "--out", tmp_path / "out"), "a folder of rows", "Name a file in it")


def test_columns_of_a_study(run, rows, tmp_path):
    named = ("--question", "ask", "--answer", "wrong")
    result = run("study", "small-phi", "--train", rows, *named, "--out", tmp_path / "study", "--arm", "base")
    failed(result, "a column 'wrong'", "--answer COLUMN")


def test_all_arguments_of_the_loaders_have_an_option():
    text = "load_rows(…, question=COLUMN, answer=COLUMN) load_rows(…, text=COLUMN) load_texts(…, field=NAME)"
    assert in_shell(text) == "--question COLUMN --answer COLUMN --text COLUMN --text NAME"
    assert in_shell("a load_rows without arguments") == "a load_rows without arguments"


def test_a_run_of_an_older_release_is_resumed_although_it_knew_fewer_options(tmp_path, monkeypatch):
    from rankselect.cli.training_run import TrainingRun
    from rankselect.errors import ArgumentError
    from rankselect.models.processes import Processes

    monkeypatch.setattr("rankselect.cli.training_run.last_checkpoint", lambda folder: folder)  # something was trained
    document = {"format": "rankselect.train_settings", "version": 1, "settings": {"data": "rows.jsonl", "seed": 0}}
    (tmp_path / "settings.json").write_text(json.dumps(document))
    now = {"data": "rows.jsonl", "seed": 0, "question": None, "skip_faulty_rows": False, "rows": "5f3a"}
    assert TrainingRun.open(tmp_path, now, resume=True, processes=Processes.current()).resumed
    with pytest.raises(ArgumentError, match="question None then, 'ask' now"):
        TrainingRun.open(tmp_path, {**now, "question": "ask"}, resume=True, processes=Processes.current())
