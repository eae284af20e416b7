"""A tiny model and its texts on disk, and the command line in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from rankselect.cli.app import app
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder with a tiny Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A file with 60 texts in the field "answer"."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    write_jsonl(path, [{"question": "why", "answer": text} for text in tiny_texts(60)])
    return path


@pytest.fixture(scope="session")
def profile(run, model, texts, tmp_path_factory):
    """The profile that `rankselect profile` writes for them."""
    path = tmp_path_factory.mktemp("profiles") / "profile.json"
    result = run("profile", model, "--data", texts, "--field", "answer", "--out", path)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def run():
    """Run a command in this process; `CliRunner` keeps standard output and standard error apart."""

    def invoke(*arguments: object):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def write_jsonl(path: Path, rows: list[object]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
