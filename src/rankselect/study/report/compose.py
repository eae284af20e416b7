"""Composes the report of a study from its results."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

from rankselect.study.differences import ArmDifference, default_baseline
from rankselect.study.frames import records
from rankselect.study.report import pictures, tables
from rankselect.study.report.answers import questions_of
from rankselect.study.report.content import Fact, Report, Section
from rankselect.study.report.interval import Interval
from rankselect.study.report.numbers import by_arm
from rankselect.study.report.palette import arm_styles
from rankselect.study.report.setting import how_to_read, setting
from rankselect.study.report.wording import count, duration, number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankselect.study.report.content import Picture
    from rankselect.study.report.palette import ArmStyle
    from rankselect.study.results import StudyResults
    from rankselect.study.unit import UnitResult
    from rankselect.study.verdict import Verdict

__all__ = ["compose"]


_INTERVALS = (
    "Intervals are of 95 %, over seeds and questions. All arms met the same questions, so the intervals of two arms "
    "may overlap and their difference be shown all the same: the table of differences decides that."
)


def compose(results: StudyResults) -> Report:
    """The report of a study, also of one that is not finished.

    Args:
        results: The study's results.

    Raises:
        MissingExtraError: If matplotlib or pandas is not installed.
    """
    config = results.config
    untrained = [arm["name"] for arm in config["arms"] if arm["strategy"] is None]
    styles = arm_styles(results.arms, untrained)
    arms = by_arm(results.final)
    metric = next(iter(results.metrics))
    verdict = results.verdict()
    found = {name: _differences(results, name) for name in results.metrics}
    questions, note = questions_of(results.rows, arms, metric)
    sizes = [plural(len(results.arms), "arm"), plural(len(config["seeds"]), "seed")]
    return Report(
        title=f"LoRA ranks for {config['model']}, trained on {config['train']}",
        setup=f"{', '.join(sizes)} and {plural(len(results.rows), 'test question')}; decided by {metric}",
        headline=verdict.headline,
        reasons=verdict.reasons,
        caveats=verdict.caveats,
        facts=tuple(_facts(results, verdict, metric, found[metric])),
        picture=pictures.difference_picture(found[metric], styles),
        questions=questions,
        questions_note=note,
        before=tuple(each for each in _before(results, arms, styles) if each is not None),
        after=tuple(each for each in _after(results, found) if each is not None),
        styles=styles,
    )


def _differences(results: StudyResults, metric: str) -> list[ArmDifference]:
    """Every arm's difference from the baseline; none if there are no scores to compare."""
    scored = [each.arm for each in results.scores(metric)]
    if len(scored) < 2:
        return []
    usual = default_baseline(results.config["arms"])
    table = results.differences(metric, usual if usual in scored else scored[0])
    names = [each.name for each in fields(ArmDifference)]
    return [ArmDifference(**row) for row in table[names].to_dict("records")]


def _facts(results: StudyResults, verdict: Verdict, metric: str, differences: list[ArmDifference]) -> Iterator[Fact]:
    """The numbers that matter: of the chosen arm, of the base, and of what could have been shown."""
    summary = {row["arm"]: row for row in records(results.summary) if row["seeds"]}
    untrained = [arm["name"] for arm in results.config["arms"] if arm["strategy"] is None and arm["name"] in summary]
    shown = [name for name in dict.fromkeys([verdict.arm or "", *untrained[:1]]) if name in summary]
    for name in shown:
        row = summary[name]
        low, high = (number(row[f"{metric}_{end}"]) for end in ("low", "high"))
        what = f"{name}, without training" if name in untrained else name
        yield Fact(number(row[metric]), f"{metric} of {what} (95 % interval {low} to {high})")
    unshown = [each.detectable for each in differences if not (each.shown or math.isnan(each.detectable))]
    if unshown:
        which = f"smallest difference in {metric} from {differences[0].baseline}"
        yield Fact(number(max(unshown)), f"{which} that could have been shown for every arm")
    if verdict.arm in summary and verdict.arm not in untrained:
        row = summary[verdict.arm]
        share = percent(row["trainable_percent"], 100)
        yield Fact(count(row["trainable_parameters"]), f"trainable parameters of {verdict.arm}, {share} of all")
        yield Fact(duration(row["training_seconds"]), f"training time of {verdict.arm}, mean over seeds")


def _before(
    results: StudyResults, arms: dict[str, list[UnitResult]], styles: dict[str, ArmStyle]
) -> Iterator[Section | None]:
    metrics = list(results.metrics)
    summary = records(results.summary)
    heard = [name for name, metric in results.metrics.items() if "losses" not in metric.requires]
    points = {name: _points(results, name) for name in metrics}
    yield Section(
        "results",
        "Scores and what they cost",
        (_INTERVALS,),
        pictures=_some(
            *(pictures.parameter_picture(points[name], arms, styles, name) for name in metrics),
            pictures.seconds_picture(points[metrics[0]], arms, styles, metrics[0]),
        ),
        tables=(
            tables.result_table(summary, metrics, "dropout_off"),
            *([tables.result_table(summary, heard, "dropout_on")] if "dropout_on" in results.conditions else []),
            tables.cost_table(summary),
        ),
    )
    drawn = _some(pictures.profile_picture(results.profile, arms, styles), pictures.rank_picture(arms, styles))
    yield Section("ranks-and-id", "Intrinsic dimension and ranks", pictures=drawn) if drawn else None
    grid = records(results.grid_table)
    losses = _some(pictures.loss_picture(arms, styles))
    grids = (tables.grid_table(grid),) if grid else ()
    yield Section("training", "Training", pictures=losses, tables=grids) if losses or grids else None


def _after(results: StudyResults, found: dict[str, list[ArmDifference]]) -> Iterator[Section | None]:
    compared = tuple(tables.difference_table(each) for each in found.values() if each)
    yield Section("differences", "Differences", tables=compared) if compared else None
    ranked = tuple(tables.ranking_table(name, records(table)) for name, table in results.rankings.items())
    text = "Places are by the mean alone: whether neighbours differ is in the table of differences."
    yield Section("rankings", "Rankings", (text,), tables=ranked) if ranked else None
    if results.failed or results.damaged:
        yield Section("failed", "What failed", tables=(tables.failure_table(results.failed, results.damaged),))
    yield how_to_read()
    yield setting(results.files.head)


def _points(results: StudyResults, metric: str) -> list[Interval]:
    points = []
    for scores in results.scores(metric):
        estimate = scores.estimate()
        points.append(Interval(scores.arm, estimate.mean, *estimate.interval(0.95)))
    return points


def _some(*each: Picture | None) -> tuple[Picture, ...]:
    return tuple(picture for picture in each if picture is not None)
