"""The numbers of a made-up study, all of them, as they were when the other tests had checked how they are computed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rankselect.study.analysis.results import StudyResults, as_document
from study.synthetic_study import ARMS, damage, fail, write_synthetic_study

GOLDEN = Path(__file__).parents[2] / "golden" / "study_results.json"


def written(folder):
    """Results of arms with and without an adapter, much luck, seeds that are missing, a judge, and two conditions."""
    arms = tuple(arm for arm in ARMS if arm.name in {"base", "rank-1", "rank-6", "per-layer-id"})
    write_synthetic_study(folder, arms=arms, n_questions=12, seed_spread=0.1, judge=True)
    fail(folder, "final.rank-1.seed2")
    fail(folder, "grid.rank-6.seed0.lr0.001.alpha8")
    damage(folder, "final.rank-6.seed1")
    document = as_document(StudyResults.load(folder))
    del document["hash"]  # of the defaults of a config
    document["damaged"] = sorted(document["damaged"])
    return document


def same(found, expected, where="results"):
    assert type(found) is type(expected) or {type(found), type(expected)} <= {int, float}, where
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name, value in expected.items():
            same(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            same(found[index], value, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-12), where
    else:
        assert found == expected, where


def test_every_number_of_a_study_stays_as_it_is(tmp_path):
    found = json.loads(json.dumps(written(tmp_path / "study")))
    same(found, json.loads(GOLDEN.read_text(encoding="utf-8")))
