"""A third-party package: installed by pip, found by name, used by both commands, and checked for the contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankselect.registry import create
from rankselect.testing import check_estimator, check_metric, check_strategy

PACKAGE = Path(__file__).parent.parent / "plugin_package"
RUN = (sys.executable, "-c", "from rankselect.cli import main; main()")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the package was installed."""
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", folder, PACKAGE], check=True)
    return folder


@pytest.fixture
def found(installed, monkeypatch):
    """Make this process find the package."""
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setenv("COLUMNS", "120")


def test_its_strategy_plans_in_a_process_that_finds_the_package(installed, model):
    result = subprocess.run(
        [*RUN, "plan", model, "--strategy", "every-other:high=6", "--target-modules", "q_proj"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH")]))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["strategy"] == "EveryOther(high=6, low=2)"
    assert [module["rank"] for module in document["modules"]] == [6, 2]


@pytest.mark.usefixtures("found")
def test_its_estimator_measures(run, model, texts, tmp_path):
    out = tmp_path / "profile.json"
    arguments = ("--field", "answer", "--estimator", "participation-ratio", "--out", out)
    result = run("profile", model, "--data", texts, *arguments)
    assert result.exit_code == 0, result.stderr
    assert json.loads(out.read_text())["measurement"]["estimator"] == "ParticipationRatio()"


@pytest.mark.usefixtures("found")
def test_all_are_listed_and_keep_the_contract(run):
    listed = {line.split()[0]: line for line in run("strategies").stdout.splitlines() if line.strip()}
    assert listed["every-other"].split()[-1] == "rankselect-every-other"
    assert "A high and a low rank in turn, layer by layer." in listed["every-other"]
    assert "high=8" in listed["every-other"]
    assert listed["per-layer-id"].split()[-1] == "rankselect"
    assert "participation-ratio" in run("estimators").stdout
    from rankselect_every_other import EveryOther, ParticipationRatio, SimilarLength

    metrics = {line.split()[0]: line for line in run("metrics").stdout.splitlines() if line.strip()}
    assert metrics["similar-length"].split()[-1] == "rankselect-every-other"
    assert metrics["rouge-l"].split()[-1] == "rankselect"
    assert "stemming=False" in metrics["rouge-l"]

    check_strategy(EveryOther())
    check_estimator(ParticipationRatio())
    check_metric(SimilarLength())


@pytest.mark.usefixtures("found")
def test_its_metric_scores_by_name():
    result = create("metric", "similar-length").evaluate(["a rare fever"], ["the heart"])
    assert result.mean == pytest.approx(2 / 3)


@pytest.mark.usefixtures("found")
def test_a_misspelled_name(run, model):
    result = run("plan", model, "--strategy", "everyother")
    assert result.exit_code == 2
    assert "got 'everyother'. Did you mean every-other?" in result.stderr


def test_defaults_that_are_objects_are_abbreviated(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    listed = run("metrics").stdout
    assert "similarity=…" in listed
    assert "<" not in listed


def test_a_broken_plugin_does_not_hide_the_others(run, tmp_path, monkeypatch):
    metadata = tmp_path / "broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[rankselect.strategies]\nbroken = no_such_module:Strategy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    listed = run("strategies").stdout
    assert "cannot be loaded: No module named 'no_such_module'" in listed
    assert "per-layer-id" in listed
