"""The few numbers on the first screen of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.study.report.content import Fact
from rankselect.study.report.wording import count, duration, number, percent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rankselect.study.analysis.differences import ArmDifference
    from rankselect.study.analysis.summary import ArmSummary

__all__ = ["facts_of"]


def facts_of(
    summary: Sequence[ArmSummary],
    chosen: str | None,
    best: str,
    untrained: Collection[str],
    differences: Sequence[ArmDifference],
) -> Iterator[Fact]:
    """Three to six numbers: scores of the arms that matter, what could have been shown, and what training costs.

    Args:
        summary: What was measured of each arm.
        chosen: The arm to use, if the study can say.
        best: The arm that scores best.
        untrained: Arms without an adapter.
        differences: Of the other arms from the best, under the metric that decides.
    """
    rows = {row.arm: row for row in summary if row.seeds}
    base = [name for name in untrained if name in rows]
    if differences:
        metric = differences[0].metric
        for name in dict.fromkeys(filter(rows.get, [chosen or best, best, *base[:1]])):
            yield _score(rows[name], metric, _described(name, best, base))
        known = [each.detectable for each in differences if not each.shown and each.detectable is not None]
        if known:
            which = f"smallest difference in {metric} from {differences[0].baseline}"
            yield Fact(number(max(known)), f"{which} that could have been shown for every arm")
    trained = next((name for name in (chosen, best, *rows) if name in rows and name not in untrained), None)
    if trained is not None:
        row = rows[trained]
        share = percent(row.mean("trainable_percent").value or 0.0, 100)
        yield Fact(
            count(row.mean("trainable_parameters").value or 0.0), f"trainable parameters of {trained}, {share} of all"
        )
        yield Fact(duration(row.mean("training_seconds").value), f"training time of {trained}, mean over seeds")


def _score(row: ArmSummary, metric: str, name: str) -> Fact:
    value, low, high = row.mean(metric, "dropout_off")
    interval = "" if low is None or high is None else f" (95 % interval {number(low)} to {number(high)})"
    return Fact(number(value), f"{metric} of {name}{interval}")


def _described(name: str, best: str, base: Sequence[str]) -> str:
    said = [name, *(["without training"] if name in base else []), *(["the best"] if name == best else [])]
    return ", ".join(said)
