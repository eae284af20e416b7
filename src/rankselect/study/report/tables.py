"""The tables of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.study.report.content import Table
from rankselect.study.report.wording import NOTHING, count, duration, number, percent, plural, with_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.study.analysis.completeness import GridPoint
    from rankselect.study.analysis.differences import ArmDifference
    from rankselect.study.analysis.rankings import Place
    from rankselect.study.analysis.summary import ArmSummary
    from rankselect.study.run import RunResult

__all__ = ["cost_table", "difference_table", "failure_table", "grid_table", "ranking_table", "result_table"]

_SECONDS = "inference_seconds_per_answer"


def result_table(summary: Sequence[ArmSummary], metrics: Sequence[str], condition: str) -> Table:
    """The ranks, trainable parameters, time of choosing and training, and scores of each arm.

    Args:
        summary: The summary of each arm.
        metrics: The metrics' names.
        condition: ``"dropout_off"`` or ``"dropout_on"``.
    """
    shares = ("trainable_percent", "trainable_percent_as_stored")
    stored = any(row.mean(shares[0]) != row.mean(shares[1]) for row in summary)
    rows = []
    for row in summary:
        shown = [row.mean(share).value for share in shares[: 1 + stored]]
        rows.append(
            (
                row.arm,
                *(_span(row, name) for name in ("rank", "alpha")),
                *(NOTHING if share is None else percent(share, 100) for share in shown),
                duration(row.mean("selection_seconds").value),
                duration(row.mean("training_seconds").value),
                *(with_interval(*row.mean(name, condition)) for name in metrics),
                duration(row.mean(_SECONDS, condition).value),
            )
        )
    titles = ("trainable %", *(["trainable %, as stored"] if stored else []))
    columns = ("arm", "rank", "alpha", *titles, "choosing ranks", "training time", *metrics, "time per answer")
    off = condition == "dropout_off"
    caption = "Results" if off else "Results with dropout on during generation"
    note = "Means over seeds, with 95 % intervals over seeds and questions in brackets."
    if stored:
        note += " As stored: a 4-bit base stores two weights in one element, so this share is about twice as high."
    return Table(
        caption,
        columns,
        tuple(rows),
        (),
        note if off else "They show the cost of forgetting to turn dropout off.",
    )


def cost_table(summary: Sequence[ArmSummary]) -> Table:
    """The costs of each arm other than training time."""
    columns = ("arm", "trainable parameters", "choosing ranks", "training tokens/s", "peak memory", "test loss")
    rows = []
    for row in summary:
        parameters, memory = row.mean("trainable_parameters").value, row.mean("peak_memory_bytes").value
        rows.append(
            (
                row.arm,
                NOTHING if parameters is None else count(parameters),
                duration(row.mean("selection_seconds").value),
                number(row.mean("tokens_per_second").value),
                NOTHING if memory is None else f"{memory / 2**30:.2f} GiB",
                with_interval(*row.mean("test_loss")),
            )
        )
    note = (
        "The test loss is that of the reference answers, in nats per token. Choosing ranks includes measuring the "
        "evidence, of which arms that share it are each charged the whole."
    )
    return Table("Costs and losses", columns, tuple(rows), (), note)


def difference_table(found: Sequence[ArmDifference]) -> Table:
    """The differences of the arms from the baseline.

    Args:
        found: At least one difference, all of one metric and baseline.
    """
    columns = ("arm", "difference", "outcome", "p, adjusted", "note")
    rows = tuple(
        (
            each.arm,
            with_interval(each.difference, each.low, each.high, sign=True),
            _outcome(each),
            "< 0.001" if each.p_adjusted < 0.001 else f"{each.p_adjusted:.3f}",
            each.note,
        )
        for each in found
    )
    first = found[0]
    higher = "Higher" if first.higher_is_better else "Lower"
    n = first.n_comparisons
    adjusted = f"Intervals and p are adjusted for {plural(n, 'comparison')}, but not for the number of metrics."
    caption = f"{first.metric}: difference from {first.baseline}"
    used = len(columns) if any(each.note for each in found) else -1
    shown = tuple(row[:used] for row in rows)
    return Table(caption, columns[:used], shown, ("outcome", "note"), f"{higher} is better. {adjusted}")


def ranking_table(name: str, ranking: Sequence[Place]) -> Table:
    """Arms in order, the best or cheapest first."""
    rows = tuple((str(each.place), each.arm, _ranked(name, each)) for each in ranking)
    return Table(f"By {name}", ("place", "arm", "value"), rows, ("arm",))


def grid_table(grid: Sequence[GridPoint]) -> Table:
    """The grid points of learning rates and alpha ratios."""
    columns = ("arm", "learning rate", "alpha ratio", "validation loss", "chosen", "note")
    rows = tuple(
        (
            point.arm,
            f"{point.learning_rate:g}",
            f"{point.alpha_ratio:g}" if point.alpha_ratio else NOTHING,
            number(point.validation_loss) if point.status in {"done", "failed"} else point.status,
            "chosen" if point.chosen else "",
            ": ".join(filter(None, [point.status if point.status == "failed" else "", point.error or point.warn])),
        )
        for point in grid
    )
    note = (
        "Validation loss in nats per token, on rows that are used neither for training nor for the test. The point "
        "with the lowest loss is chosen."
    )
    return Table("Learning rates and alpha ratios tried", columns, rows, ("chosen", "note"), note)


def failure_table(failed: Sequence[RunResult], damaged: Mapping[str, str]) -> Table:
    """The runs without a result, and why."""
    rows = [(each.run.id, "failed", each.error) for each in failed]
    rows += [(name, "damaged", why) for name, why in damaged.items()]
    columns = ("run", "status", "reason")
    note = "Run the study again to repeat only these runs."
    return Table("Runs without a result", columns, tuple(rows), columns[1:], note)


def _span(row: ArmSummary, name: str) -> str:
    least, mean, most = (row.mean(f"{name}_{which}").value for which in ("least", "mean", "greatest"))
    if least is None or most is None:
        return NOTHING
    return f"{least:g}" if least == most else f"{least:g} to {most:g} (mean {mean:.3g})"


def _outcome(each: ArmDifference) -> str:
    if each.shown:
        return each.outcome
    if each.detectable is None:
        return f"no difference shown; {each.why_unknown}"
    return f"no difference shown; smallest detectable difference: {number(each.detectable)}"


def _ranked(name: str, each: Place) -> str:
    if name == "training time":
        return duration(each.value)
    if name == "trainable parameters":
        return count(each.value)
    return with_interval(each.value, each.low, each.high)
