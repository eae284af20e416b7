"""Summary of each arm in one row: means over seeds of all measurements, and intervals of the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

from rankselect.study.analysis.differences import CONFIDENCE
from rankselect.study.analysis.measurements import UNITS
from rankselect.study.analysis.scores import TEST_LOSS, arm_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rankselect.metrics._base import Metric
    from rankselect.study.analysis.measurements import Measured
    from rankselect.study.arm import Arm
    from rankselect.study.config import Hyperparameters
    from rankselect.study.folder import StudyFiles
    from rankselect.study.run import Run, RunResult

__all__ = ["ArmSummary", "Mean", "arm_summary", "summary_columns"]

_FIRST = ("arm", "strategy", "learning_rate", "alpha_ratio", "seeds", "failed")


@final
class Mean(NamedTuple):
    """A mean over seeds with its interval.

    Attributes:
        value: The mean; None if nothing was measured.
        low: The lower end of the 95 % interval over seeds and questions; None if there is none.
        high: The upper end.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None


@final
@dataclass(frozen=True)
class ArmSummary:
    """The summary of an arm.

    Attributes:
        arm: The arm's name.
        strategy: The repr of its strategy; ``"none"`` for the base model.
        chosen: The hyperparameters chosen from its grid; None before the choice.
        seeds: The number of seeds with results.
        failed: The number of failed runs, including grid runs.
        means: ``{(measurement, condition): mean}`` of all measurements.

    Example:
        >>> arm = ArmSummary("rank-8", "Fixed(rank=8)", None, 3, 0, {("token-f1", "dropout_off"): Mean(0.5, 0.4, 0.6)})
        >>> arm.mean("token-f1", "dropout_off").low, arm.mean("training_seconds").value
        (0.4, None)
        >>> arm.to_row()["token-f1_low"]
        0.4
    """

    arm: str
    strategy: str
    chosen: Hyperparameters | None
    seeds: int
    failed: int
    means: Mapping[tuple[str, str], Mean]

    def mean(self, measurement: str, condition: str = "") -> Mean:
        """The mean of a measurement, under a condition if it depends on how answers were generated."""
        return self.means.get((measurement, condition), Mean())

    def to_row(self) -> dict[str, Any]:
        """All values as the columns of a table row: see `summary_columns`."""
        row = {"arm": self.arm, "strategy": self.strategy, "seeds": self.seeds, "failed": self.failed}
        for (measurement, condition), mean in self.means.items():
            row |= zip(_names(measurement, condition), mean, strict=True)
        return row if self.chosen is None else {**row, **self.chosen._asdict()}


def summary_columns(metrics: Iterable[str], conditions: Iterable[str]) -> list[str]:
    """The columns of a table of summaries: first those that do not depend on how answers were generated."""
    names = list(metrics)
    columns = [*_FIRST, *(name for name in UNITS if not name.startswith("inference"))]
    columns += _names(TEST_LOSS.name, "")[1:]
    for condition in conditions:
        columns += [_names(name, condition)[0] for name in UNITS if name.startswith("inference")]
        columns += [column for name in names for column in _names(name, condition)]
    return columns


def arm_summary(
    arm: Arm,
    files: StudyFiles,
    finals: Sequence[RunResult],
    measured: Iterable[tuple[Run, Measured]],
    metrics: Mapping[str, Metric],
) -> ArmSummary:
    """Summarize one arm.

    Args:
        arm: The arm.
        files: The study's files.
        finals: The results of the finished final runs.
        measured: The measurements of these runs.
        metrics: The study's metrics by name.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for run, one in measured:
        if run.arm == arm.name:
            values.setdefault((one.measurement, one.condition), []).append(one.value)
    means = {}
    scored_by = {**metrics, TEST_LOSS.name: TEST_LOSS}
    for (name, condition), each in values.items():
        scores = arm_scores(finals, arm.name, scored_by[name], condition) if name in scored_by else None
        interval = scores.estimate().interval(CONFIDENCE) if scores is not None and scores.by_seed else (None, None)
        means[name, condition] = Mean(_mean(each), *interval)
    return ArmSummary(
        arm.name,
        "none" if arm.strategy is None else repr(arm.strategy),
        files.chosen.get(arm.name),
        sum(each.run.arm == arm.name for each in finals),
        sum(each.run.arm == arm.name and each.status == "failed" for each in files.runs),
        means,
    )


def _mean(values: Sequence[float]) -> float:
    """The mean with Kahan summation, as in pandas, so that both give the same result to the last digit."""
    total = lost = 0.0
    for value in values:
        added = value - lost
        before, total = total, total + added
        lost = total - before - added
    return total / len(values)


def _names(measurement: str, condition: str) -> tuple[str, str, str]:
    """The column names of a mean and its interval; the default condition, dropout off, is not part of the names."""
    name = measurement if condition in {"", "dropout_off"} else f"{measurement}_{condition}"
    return name, f"{name}_low", f"{name}_high"
