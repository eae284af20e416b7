"""The grid of each arm, and what is said of runs that are missing and of choices at its edge."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rankselect.strategies.fixed import Fixed
from rankselect.study.analysis.completeness import GridPoint, grid_points, study_caveats
from rankselect.study.arm import Arm
from rankselect.study.config import Hyperparameters, StudyConfig
from rankselect.study.run import Run, RunResult


def files(rates=(1e-3, 1e-2), ratios=(2.0, 8.0), chosen=None, runs=(), damaged=()):
    """A study of the base and two arms, the second of which has a grid of its own."""
    arms = (Arm("base"), Arm("a", Fixed(8)), Arm("b", Fixed(4), learning_rates=(5e-3,), alpha_ratios=(4.0,)))
    config = StudyConfig("model", "rows.jsonl", arms=arms, seeds=(3, 11), learning_rates=rates, alpha_ratios=ratios)
    chosen = {arm: Hyperparameters(*values) for arm, values in (chosen or {}).items()}
    return SimpleNamespace(config=config, runs=list(runs), chosen=chosen, damaged=dict.fromkeys(damaged, "broken"))


def point(rate, ratio, **values):
    return RunResult(Run("grid", "a", 7, rate, ratio), **values)


def test_a_row_for_each_point_done_failed_or_missing():
    runs = [point(1e-3, 2.0, validation_loss=1.5), point(1e-3, 8.0, status="failed", error="Too hot.")]
    rows = list(grid_points(files(runs=runs)))
    assert [(row.arm, row.learning_rate, row.alpha_ratio) for row in rows] == [
        ("a", 1e-3, 2.0), ("a", 1e-3, 8.0), ("a", 1e-2, 2.0), ("a", 1e-2, 8.0), ("b", 5e-3, 4.0),
    ]  # fmt: skip
    assert [(row.status, row.validation_loss, row.error, row.seed) for row in rows] == [
        ("done", 1.5, "", 7),
        ("failed", None, "Too hot.", 7),
        ("missing", None, "", 3),
        ("missing", None, "", 3),
        ("not tried", None, "", 3),
    ]


@pytest.mark.parametrize(
    ("rates", "ratios", "status"),
    [((1e-3, 1e-2), (2,), "missing"), ((1e-3,), (2, 8), "missing"), ((1e-3,), (2,), "not tried")],
)
def test_what_has_nothing_to_choose_from_is_not_tried(rates, ratios, status):
    assert {row.status for row in grid_points(files(rates, ratios)) if row.arm == "a"} == {status}


@pytest.mark.parametrize(
    ("rate", "ratio", "warn"),
    [
        (1e-3, 2.0, "learning rate 0.001 is the smallest in its grid: extend the grid; alpha ratio 2 is the smallest in its grid: extend the grid"),
        (1e-1, 4.0, "learning rate 0.1 is the largest in its grid: extend the grid"),
        (1e-2, 8.0, "alpha ratio 8 is the largest in its grid: extend the grid"),
        (1e-2, 4.0, ""),
    ],
)  # fmt: skip
def test_a_choice_at_the_edge_of_its_grid_is_warned_of(rate, ratio, warn):
    chosen = {"a": (rate, ratio), "b": (5e-3, 4.0)}
    rows = list(grid_points(files((1e-3, 1e-2, 1e-1), (2, 4, 8), chosen)))
    assert [(row.arm, row.warn) for row in rows if row.chosen] == [("a", warn), ("b", "")]
    assert not any(row.warn for row in rows if not row.chosen)


def test_a_grid_of_two_has_edges_only():
    (row,) = [row for row in grid_points(files(ratios=(8,), chosen={"a": (1e-2, 8.0)})) if row.chosen]
    assert row.warn == "learning rate 0.01 is the largest in its grid: extend the grid"


def test_the_caveats_name_what_failed_is_damaged_or_missing():
    final = [RunResult(Run("final", arm, seed, 1e-3, 8.0)) for arm, seed in (("base", 3), ("base", 11), ("a", 3))]
    failed = [RunResult(Run("final", "b", seed, 1e-3, 8.0), status="failed") for seed in (3, 11)]
    rows = [
        GridPoint(arm, 3, 1e-3, 8.0, "done", 1.0, chosen=True, warn=warn, error="")
        for arm, warn in (("a", "too narrow"), ("b", "too narrow"), ("c", ""))
    ]
    found = study_caveats(files(runs=[*final, *failed], damaged=("one.json", "two.json")), rows)
    assert found == [
        "a has results for 1 of 2 seeds.",
        "b has results for 0 of 2 seeds.",
        "2 runs failed: final.b.seed3, final.b.seed11.",
        "2 run files are damaged: one.json, two.json.",
        "a, b: too narrow.",
    ]
