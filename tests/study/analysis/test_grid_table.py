"""The grid of each arm, and what is said of units that are missing and of choices at its edge."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rankselect.study.analysis.caveats import study_caveats
from rankselect.study.analysis.frames import frame
from rankselect.study.analysis.grid_table import GRID_COLUMNS, grid_rows
from rankselect.study.run import Unit, UnitResult


def files(rates=(1e-3, 1e-2), ratios=(2, 8), chosen=None, units=(), damaged=()):
    """A study of the base and two arms, the second of which has a grid of its own."""
    arms = [
        {"name": "base", "strategy": None, "learning_rates": [], "alpha_ratios": []},
        {"name": "a", "strategy": "Fixed(rank=8)", "learning_rates": [], "alpha_ratios": []},
        {"name": "b", "strategy": "Fixed(rank=4)", "learning_rates": [5e-3], "alpha_ratios": [4]},
    ]
    config = {"arms": arms, "seeds": [3, 11], "learning_rates": list(rates), "alpha_ratios": list(ratios)}
    return SimpleNamespace(
        head={"config": config}, units=list(units), chosen=chosen or {}, damaged=dict.fromkeys(damaged, "broken")
    )


def point(rate, ratio, **values):
    return UnitResult(Unit("grid", "a", 7, rate, ratio), **values)


def test_a_row_for_each_point_done_failed_or_missing():
    units = [point(1e-3, 2.0, validation_loss=1.5), point(1e-3, 8.0, status="failed", error="Too hot.")]
    rows = list(grid_rows(files(units=units)))
    assert [(row["arm"], row["learning_rate"], row["alpha_ratio"]) for row in rows] == [
        ("a", 1e-3, 2.0), ("a", 1e-3, 8.0), ("a", 1e-2, 2.0), ("a", 1e-2, 8.0), ("b", 5e-3, 4.0),
    ]  # fmt: skip
    assert [(row["status"], row["validation_loss"], row["error"], row["seed"]) for row in rows] == [
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
    assert {row["status"] for row in grid_rows(files(rates, ratios)) if row["arm"] == "a"} == {status}


@pytest.mark.parametrize(
    ("rate", "ratio", "warn"),
    [
        (1e-3, 2.0, "learning rate 0.001 is the least of its grid: widen it; alpha ratio 2 is the least of its grid: widen it"),
        (1e-1, 4.0, "learning rate 0.1 is the greatest of its grid: widen it"),
        (1e-2, 8.0, "alpha ratio 8 is the greatest of its grid: widen it"),
        (1e-2, 4.0, ""),
    ],
)  # fmt: skip
def test_a_choice_at_the_edge_of_its_grid_is_warned_of(rate, ratio, warn):
    chosen = {"a": {"learning_rate": rate, "alpha_ratio": ratio}, "b": {"learning_rate": 5e-3, "alpha_ratio": 4.0}}
    rows = list(grid_rows(files((1e-3, 1e-2, 1e-1), (2, 4, 8), chosen)))
    assert [(row["arm"], row["warn"]) for row in rows if row["chosen"]] == [("a", warn), ("b", "")]
    assert not any(row["warn"] for row in rows if not row["chosen"])


def test_a_grid_of_two_has_edges_only():
    (row,) = [
        row
        for row in grid_rows(files(ratios=(8,), chosen={"a": {"learning_rate": 1e-2, "alpha_ratio": 8.0}}))
        if row["chosen"]
    ]
    assert row["warn"] == "learning rate 0.01 is the greatest of its grid: widen it"


def test_the_caveats_name_what_failed_is_damaged_or_missing():
    final = [UnitResult(Unit("final", arm, seed, 1e-3, 8.0)) for arm, seed in (("base", 3), ("base", 11), ("a", 3))]
    failed = [UnitResult(Unit("final", "b", seed, 1e-3, 8.0), status="failed") for seed in (3, 11)]
    rows = [{"arm": arm, "warn": warn} for arm, warn in (("a", "too narrow"), ("b", "too narrow"), ("c", ""))]
    found = study_caveats(files(units=[*final, *failed], damaged=("one.json", "two.json")), frame(rows, GRID_COLUMNS))
    assert found == [
        "a has results of 1 of 2 seeds.",
        "b has results of 0 of 2 seeds.",
        "2 units failed: final.b.seed3, final.b.seed11.",
        "2 units are damaged: one.json, two.json.",
        "a, b: too narrow.",
    ]
