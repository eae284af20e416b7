"""`rankselect plan --data`: evidence that is measured on rows, kept, and used again."""

from __future__ import annotations

import json

import pytest

import rankselect as rs
from rankselect.testing import tiny_texts


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [json.dumps({"q": f"why {index}", "a": text}) for index, text in enumerate(tiny_texts(12))]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


COLUMNS = ("--question", "q", "--answer", "a")


@pytest.mark.parametrize("strategy", ["gora", "fisher:rank=4", "gradient-spectrum"])
def test_measured_on_rows_as_in_python(run, model, rows, tmp_path, strategy):
    evidence, out = tmp_path / "evidence.json", tmp_path / "plan.json"
    how = ("--strategy", strategy, "--target-modules", "q_proj,down_proj", "--budget", "rank:5")
    measured = ("--data", rows, *COLUMNS, "--template", "Q {question} A {answer}", "--save-evidence", evidence)
    result = run("plan", model, *how, *measured, "--out", out)
    assert result.exit_code == 0, result.output
    loaded, tokenizer = rs.load_model(model), rs.load_tokenizer(model)
    template = rs.PromptTemplate("Q {question} A {answer}")
    read = rs.load_rows(rows, question="q", answer="a")
    calibration = rs.Calibration(loaded, tokenizer, read, template=template, progress=False)
    targets = ["q_proj", "down_proj"]
    expected = rs.strategy(strategy).plan(loaded, calibration, target_modules=targets, budget="rank:5")
    assert rs.RankPlan.load(out).ranks == expected.ranks
    assert json.loads(evidence.read_text())["measurement"]["loss_on"] == "answers"
    again = run("plan", model, *how, "--evidence", evidence)
    assert again.exit_code == 0, again.output
    assert again.stdout == out.read_text()


def test_a_profile_is_measured_on_rows_too(run, model, rows, tmp_path):
    arguments = ("--strategy", "per-layer-id", "--data", rows, *COLUMNS, "--save-evidence", tmp_path / "profile.json")
    result = run("plan", model, *arguments, "--out", tmp_path / "plan.json")
    assert result.exit_code == 0, result.output
    profile = rs.IDProfile.load(tmp_path / "profile.json")
    expected = rs.PerLayerID().plan(rs.load_model(model), profile)
    assert rs.RankPlan.load(tmp_path / "plan.json").ranks == expected.ranks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gora",), "expected evidence (GradientSpectra) for the strategy gora, got none. Give --data ROWS"),
        (("gora", "--evidence", "{profile}"), "rankselect.gradient_spectra"),
        (("gora", "--data", "{rows}", "--evidence", "{profile}"), "expected --profile or --data, got both"),
        (("gora", "--batch-size", 4), "expected --data, the rows to measure on, got --batch-size without it"),
        (("fixed:4", "--data", "{rows}"), "expected a strategy that measures something on --data, got fixed:4"),
        (("gora", "--data", "{rows}"), "question"),
        (("gora", "--data", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_what_cannot_be(run, model, rows, profile, arguments, message):
    filled = [str(each).format(rows=rows, profile=profile) for each in arguments]
    result = run("plan", model, "--strategy", *filled)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
