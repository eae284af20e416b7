"""The command line's errors for models that it cannot load; loading itself is tested in tests/models."""

from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def damaged(model, tmp_path):
    """A copy of the model to damage."""
    return shutil.copytree(model, tmp_path / "model")


def test_an_unknown_model_type(run, damaged):
    path = damaged / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "llama99"}))
    result = run("plan", damaged, "--strategy", "fixed:rank=4")
    assert result.exit_code == 2
    assert "`llama99`" in result.stderr
    assert "--trust-remote-code" in result.stderr


def test_a_folder_that_does_not_exist(run, tmp_path):
    result = run("plan", tmp_path / "nowhere", "--strategy", "fixed:rank=4")
    assert result.exit_code == 2
    assert "nowhere, which does not exist. Check the path." in result.stderr.replace("\n", " ")
