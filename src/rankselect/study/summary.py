"""One row for each arm: means over seeds, and for scores the interval over seeds and questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankselect.study.differences import CONFIDENCE
from rankselect.study.measurements import UNITS
from rankselect.study.scores import TEST_LOSS, arm_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pandas import DataFrame

    from rankselect.metrics._base import Metric
    from rankselect.study.reading import StudyFiles
    from rankselect.study.unit import UnitResult

__all__ = ["summary_columns", "summary_row"]

_FIRST = ("arm", "strategy", "learning_rate", "alpha_ratio", "seeds", "failed")


def summary_columns(metrics: Iterable[str], conditions: Iterable[str]) -> list[str]:
    """The summary's columns: what does not depend on how answers were generated, then what does."""
    names = list(metrics)
    columns = [*_FIRST, *(name for name in UNITS if not name.startswith("inference"))]
    columns += [f"{TEST_LOSS.name}_low", f"{TEST_LOSS.name}_high"]
    for condition in conditions:
        end = _ending(condition)
        columns += [f"{name}{end}" for name in UNITS if name.startswith("inference")]
        columns += [f"{name}{end}{bound}" for name in names for bound in ("", "_low", "_high")]
    return columns


def summary_row(
    arm: Mapping[str, Any], files: StudyFiles, finals: list[UnitResult], table: DataFrame, metrics: Mapping[str, Metric]
) -> dict[str, Any]:
    """One arm's row.

    Args:
        arm: The arm as the config has it.
        files: The study's files.
        finals: The final units that are done.
        table: The tidy table of them.
        metrics: The study's metrics by name.
    """
    name = arm["name"]
    row: dict[str, Any] = {"arm": name, "strategy": arm["strategy"] or "none", **files.chosen.get(name, {})}
    row["seeds"] = sum(result.unit.arm == name for result in finals)
    row["failed"] = sum(result.unit.arm == name and result.status == "failed" for result in files.units)
    own = table[table["arm"] == name]
    means = own.groupby(["measurement", "condition"], sort=False)["value"].mean()
    for (measurement, condition), value in means.items():
        row[f"{measurement}{_ending(condition)}"] = value
    for metric, condition in [(TEST_LOSS, ""), *((each, one) for each in metrics.values() for one in _conditions(own))]:
        scores = arm_scores(finals, name, metric, condition)
        if scores.by_seed:
            low, high = scores.estimate().interval(CONFIDENCE)
            column = f"{metric.name}{_ending(condition)}"
            row.update({f"{column}_low": low, f"{column}_high": high})
    return row


def _conditions(table: DataFrame) -> list[str]:
    return [condition for condition in table["condition"].unique() if condition]


def _ending(condition: str) -> str:
    """The end of a column's name: dropout off is what answers are generated with, and goes without saying."""
    return "" if condition in {"", "dropout_off"} else f"_{condition}"
