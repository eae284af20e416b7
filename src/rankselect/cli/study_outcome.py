"""What `rankselect study` says at its end: the arms, the verdict, what failed, and where everything is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from rankselect.cli.console import show, simple_table, stderr
from rankselect.study.analysis.frames import records
from rankselect.study.analysis.verdict import verdict_or_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rankselect.study.analysis.results import StudyResults
    from rankselect.study.analysis.summary import Mean

__all__ = ["show_outcome"]

_NONE = "-"


def show_outcome(results: StudyResults, files: Sequence[Path], *, as_json: bool) -> None:
    """The arms, the verdict, and where everything is; all of it in JSON for machines."""
    console = stderr()
    console.print(_summary(results))
    verdict = verdict_or_error(results.verdict)
    show(console, str(verdict), wrap=True)
    for failed in results.failed:
        show(console, f"{failed.run.id} failed: {failed.error}")
    if results.failed:
        show(console, "The same command tries again what failed.")
    show(console, f"Wrote {', '.join(map(str, files))}")
    if as_json:
        document = {
            "folder": str(results.folder),
            "files": [str(file) for file in files],
            "verdict": {name: getattr(verdict, name) for name in ("arm", "headline", "reasons", "caveats")},
            "summary": records(results.summary),
            "failed": {result.run.id: result.error for result in results.failed},
        }
        typer.echo(json.dumps(document, indent=1))


def _summary(results: StudyResults) -> Any:
    """A row for each arm: its ranks, what it trains, and its scores with intervals."""
    metrics = list(results.metrics)
    table = simple_table("arm", "rank", "trainable", "learning rate", *metrics, numbers=len(metrics) + 3)
    for arm in results.arm_summaries:
        rank, share = arm.mean("rank_mean").value, arm.mean("trainable_percent").value
        own = [_NONE] * 3
        if rank is not None and arm.chosen is not None:
            own = [f"{rank:.3g}", f"{share:.3g} %", f"{arm.chosen.learning_rate:g}"]
        table.add_row(arm.arm, *own, *(_interval(arm.mean(metric, "dropout_off")) for metric in metrics))
    return table


def _interval(mean: Mean) -> str:
    value, low, high = mean
    if value is None:
        return _NONE
    return f"{value:.4g}" if low is None or high is None else f"{value:.4g} ({low:.4g} to {high:.4g})"
