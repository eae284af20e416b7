"""Errors on the terminal: one line on standard error with the remedy, exit code 2, a traceback only under --debug."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rankselect as rs


def test_bad_input_is_one_line_and_exit_code_2(run, model, texts, profile, tmp_path):
    measure, choose = ("profile", model, "--data", texts), ("plan", model, "--strategy")
    out = ("--out", tmp_path / "out.json")
    for arguments, message in [
        ((*measure, *out), "expected a field 'text', got none"),
        ((*measure, *out, "--estimator", "twon"), "Did you mean twonn?"),
        ((*measure, *out, "--estimator", "twonn:method=best"), 'The usual method is "fit"'),
        ((*measure, *out, "--field", "question"), "expected at least"),
        ((*measure, *out, "--field", "answer", "--tolerance", "0"), "a tolerance above 0"),
        ((*measure, "--out", tmp_path / "no" / "p.json"), "mkdir -p"),
        ((*measure, "--out", tmp_path), "which is a folder"),
        ((*measure, *out, "--plot", tmp_path / "p.txt"), "Name it .png, .pdf or .svg"),
        (("profile", tmp_path / "no", "--data", texts, "--field", "answer", *out), "which does not exist"),
        ((*choose, "per-layer"), "Did you mean per-layer-id"),
        ((*choose, "per-layer-id"), "Give --profile FILE; rankselect profile writes it"),
        ((*choose, "per-layer-id", "--profile", tmp_path / "no.json"), "No such file or directory. Check the path"),
        ((*choose, "per-layer-id", "--profile", texts), "is not JSON"),
        ((*choose, "fixed"), "Write fixed:name=value"),
        ((*choose, "fixed:rank=4", "--target-modules", "q_pro"), "Did you mean q_proj"),
        ((*choose, "fixed:rank=4", "--max-rank", "2", "--min-rank", "3"), "a max_rank of at least min_rank"),
        ((*choose, "fixed:rank=3", "--alpha-ratio", "1.5", "--format", "axolotl"), "Use an integer for --alpha-ratio"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert result.stderr.startswith("error: ")
        assert message in result.stderr


def test_a_profile_of_another_model(run, model, tmp_path):
    other = tmp_path / "profile.json"
    rs.IDProfile.from_values({"transformer.h.0": 4.0}).save(other)
    result = run("plan", model, "--strategy", "per-layer-id", "--profile", other)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: expected a profile of this model")


def test_debug_adds_the_traceback(run, model):
    result = run("--debug", "plan", model, "--strategy", "per-layer-id")
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: expected a profile for the strategy per-layer-id")


def raising(error):
    def raises(*args, **kwargs):
        raise error

    return raises


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted.\n"),
        (type("OutOfMemoryError", (RuntimeError,), {})("1 GiB"), 2, "error: out of memory. Use a smaller --batch-size"),
        (PermissionError(13, "Permission denied", "x.jsonl"), 2, "error: cannot use x.jsonl: Permission denied."),
        (ZeroDivisionError("a\nb"), 1, "error: ZeroDivisionError: a b (unexpected: put --debug before the command"),
    ],
)
def test_errors_of_other_libraries(run, monkeypatch, error, code, message):
    monkeypatch.setattr("rankselect.cli.profile.load_texts", raising(error))
    result = run("profile", "model", "--data", "medical-qa")
    assert result.exit_code == code
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1


def test_a_hub_name_without_the_hub():
    """In a separate process, because HF_HUB_OFFLINE is read when the hub's library is imported."""
    script = Path(sys.executable).with_name("rankselect")
    result = subprocess.run(
        [script, "plan", "some-organization/no-such-model", "--strategy", "fixed:rank=4"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "error: expected a model that transformers can load, got some-organization/no-such-model: We couldn't connect "
        "to 'https://huggingface.co' to load the files, and couldn't find them in the cached files. HF_HUB_OFFLINE is "
        "set and the model is not in the cache: unset it, or give a folder.\n"
    )


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_the_remedy_is_one_line(package):
    code = f"import sys; sys.modules[{package!r}] = None; from rankselect.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == (
        f'error: expected the package {package}, got none installed. Run: pip install "rankselect[cli]"\n'
    )


def test_mistakes_in_the_arguments_are_reported_before_torch_is_loaded(texts, tmp_path):
    """All in one separate process, which must not have imported torch even at the end."""
    out, rows, missing = str(tmp_path / "out"), str(texts), "missing.jsonl"
    train, study = ["train", "m", "--out", out], ["study", "m", "--out", out]
    evaluate, profile = ["evaluate", "m", "--data", rows], ["profile", "m", "--out", out]
    mistakes = [
        ([*train, "--data", rows, "--strategy", "nonsense"], "the name of a strategy"),
        ([*train, "--data", rows, "--strategy", "fixed:rank=4,8"], "arguments as name=value"),
        ([*train, "--data", missing], "which does not exist"),
        ([*train, "--data", rows, "--eval-data", "./no/such/folder"], "which does not exist"),
        ([*train, "--data", rows, "--template", "{question}"], "a template with"),
        ([*train, "--data", rows, "--plan", missing], "No such file"),
        ([*train, "--data", rows, "--dtype", "float8"], "Invalid value"),
        ([*study, "--train", rows, "--arm", "one=nonsense"], "the name of a strategy"),
        ([*study, "--train", rows, "--arm", "rank-8"], "an arm as NAME=STRATEGY"),
        ([*study, "--train", rows, "--metric", "nonsense"], "the name of a metric"),
        ([*study, "--train", rows, "--test", missing], "which does not exist"),
        ([*study, "--train", rows, "--seeds", "0"], "Invalid value"),
        ([*study, "--train", rows, "--learning-rates", "fast"], "positive numbers"),
        ([*study, "--train", rows, "--address", "127.0.0.1:1"], "--address with --executor ray"),
        ([*study, "--train", rows, "--judge-url", "http://127.0.0.1:1"], "--judge-url with --judge"),
        ([*evaluate, "--metric", "nonsense"], "the name of a metric"),
        ([*evaluate, "--template", "{question}"], "a template with"),
        (["evaluate", "m", "--data", missing], "which does not exist"),
        ([*profile, "--data", rows, "--estimator", "nonsense"], "the name of an estimator"),
        ([*profile, "--data", missing], "which does not exist"),
        (["plan", "m", "--strategy", "nonsense"], "the name of a strategy"),
        (["plan", "m", "--strategy", "per-layer-id", "--profile", missing], "No such file"),
        (["plan", "m", "--strategy", "fixed:rank=4", "--out", str(tmp_path / "no" / "plan")], "mkdir -p"),
    ]
    code = """
import json, sys
from typer.testing import CliRunner
from rankselect.cli.app import app
said = []
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, arguments)
    said.append((result.exit_code, result.stderr, "torch" in sys.modules))
print(json.dumps(said))
"""
    arguments = json.dumps([arguments for arguments, _ in mistakes])
    found = json.loads(subprocess.check_output([sys.executable, "-c", code, arguments], text=True, cwd=tmp_path))
    for (given, message), (exit_code, stderr, loaded) in zip(mistakes, found, strict=True):
        assert (exit_code, loaded) == (2, False), (given, stderr)
        assert message in stderr, (given, stderr)
    assert not (tmp_path / "out").exists()
