"""A study's results as one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rankselect.study.differences import default_baseline
from rankselect.study.frames import records

if TYPE_CHECKING:
    from rankselect.study.results import StudyResults

__all__ = ["as_document"]


def as_document(results: StudyResults) -> dict[str, Any]:
    """Everything in JSON values; what is missing is None.

    Differences are those against the default baseline, if it has results.
    """
    comparable = default_baseline(results.config["arms"]) in {each.unit.arm for each in results.final}
    return {
        "format": "rankselect.study_results",
        "version": 1,
        "hash": results.hash,
        "verdict": asdict(results.verdict()),
        "summary": records(results.summary),
        "differences": {name: records(results.differences(name)) for name in results.metrics if comparable},
        "rankings": {name: records(table) for name, table in results.rankings.items()},
        "grid": records(results.grid_table),
        "table": records(results.table),
        "failed": [{"unit": each.unit.id, "error": each.error} for each in results.failed],
        "damaged": results.damaged,
    }
