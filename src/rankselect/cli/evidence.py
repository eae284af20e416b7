"""The evidence of `rankselect plan`: read from a file, or measured on rows."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import rankselect as rs
from rankselect.cli.console import show, show_progress, stderr
from rankselect.data.prompts import template_named
from rankselect.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rankselect.calibration.evidence import Calibration, Evidence
    from rankselect.strategies._base import RankStrategy

__all__ = ["RowsToMeasure", "evidence_for_plan"]


@final
@dataclass(frozen=True)
class RowsToMeasure:
    """The rows to measure a model on, and how, as they were named on the command line.

    Attributes:
        data: The rows.
        columns: The columns, as `options.columns` gives them.
        template: The text of the template, ``"chat"``, or None.
        system: The system message, for ``"chat"``.
        max_samples: Use a random sample of so many rows.
        batch_size: Rows in a batch.
        loading: Arguments of `load_model`.
        show_progress: Whether to show progress bars in a terminal.
    """

    data: str
    columns: Mapping[str, str]
    template: str | None
    system: str | None
    max_samples: int | None
    batch_size: int
    loading: Mapping[str, Any]
    show_progress: bool

    def calibration(self, model: str, target_modules: str | Sequence[str] | None) -> Calibration:
        """Read the rows, and load the model with its weights."""
        progress = sys.stderr.isatty() and self.show_progress
        show_progress(enabled=progress)
        tokenizer = rs.load_tokenizer(model, trust_remote_code=self.loading["trust_remote_code"])
        template = template_named(self.template, tokenizer, self.system)
        how: dict[str, Any] = {**self.columns, "template": template, "progress": progress}
        rows = rs.load_rows(self.data, **how)
        return rs.Calibration(
            rs.load_model(model, **self.loading),
            tokenizer,
            rows,
            template=template,
            max_samples=self.max_samples,
            batch_size=self.batch_size,
            target_modules=target_modules,
            progress=progress,
        )


def evidence_for_plan(
    strategy: RankStrategy,
    name: str,
    model: str,
    *,
    file: Path | None,
    rows: RowsToMeasure | None,
    save: Path | None,
    target_modules: str | Sequence[str] | None,
) -> Evidence | None:
    """The evidence that a strategy needs: from a file, or measured on rows.

    Args:
        strategy: The strategy.
        name: Its name, for errors.
        model: A folder, or a name on the hub.
        file: A file with evidence, or None.
        rows: The rows to measure it on, or None.
        save: A file to write what was measured to, or None.
        target_modules: The modules of the plan.

    Raises:
        ArgumentError: If there is no evidence and nothing to measure it on, or this kind has no files.
        FileFormatError: If the file is damaged or holds another kind of evidence.
    """
    kind: Any = strategy.evidence
    if file is not None and rows is not None:
        raise ArgumentError("--profile or --data", "both", "Leave out --data to use what was measured before.")
    if kind is None:
        if rows is not None:
            raise ArgumentError("a strategy that measures something on --data", name, "Leave out --data.")
        return None
    has_files = hasattr(kind, "load") and hasattr(kind, "save")
    if not has_files and (file or save):
        raise ArgumentError(
            "a strategy whose evidence has files", f"{name}, which needs {kind.__name__}", "Give --data alone."
        )
    measured: Evidence
    if file is not None:
        measured = kind.load(file)
        return measured
    if rows is None:
        if kind is rs.IDProfile:
            what, remedy = (
                "a profile",
                "Give --profile FILE; rankselect profile writes it. Or give --data.",
            )
        else:
            what, remedy = f"evidence ({kind.__name__})", "Give --data ROWS to measure it on."
        raise ArgumentError(f"{what} for the strategy {name}", "none", remedy)
    measured = kind.measure(rows.calibration(model, target_modules))
    if save is not None:
        kind.save(measured, save)
        show(stderr(), f"Wrote {save}")
    return measured
