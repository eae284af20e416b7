"""Compose the report of a study from its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.study.analysis.differences import default_baseline
from rankselect.study.analysis.verdict import verdict_or_error
from rankselect.study.report import captions, tables
from rankselect.study.report.answers import questions_of
from rankselect.study.report.content import Fact, Interval, Report, Section
from rankselect.study.report.figure_data import by_arm
from rankselect.study.report.palette import arm_styles
from rankselect.study.report.setting import about_the_judge, how_to_read, setting
from rankselect.study.report.wording import count, duration, number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rankselect.study.analysis.differences import ArmDifference
    from rankselect.study.analysis.results import StudyResults
    from rankselect.study.analysis.summary import ArmSummary
    from rankselect.study.report.content import Picture
    from rankselect.study.report.palette import ArmStyle
    from rankselect.study.run import RunResult

__all__ = ["compose", "facts_of"]

_INTERVALS = (
    "Intervals are 95 % intervals over seeds and questions. All arms answered the same questions, so a difference can "
    "be shown although the intervals of two arms overlap: use the table of differences to compare arms."
)


def compose(results: StudyResults, n_questions: int) -> Report:
    """Compose the report of a study, which may be unfinished.

    Args:
        results: The study's results.
        n_questions: The number of questions to show with their answers.

    Raises:
        MissingExtraError: If matplotlib or pandas is not installed.
    """
    config = results.config
    untrained = [arm.name for arm in config.arms if arm.strategy is None]
    styles = arm_styles(results.arms, untrained)
    arms = by_arm(results.final)
    metric = next(iter(results.metrics))
    verdict = verdict_or_error(results.verdict)
    found = {name: _differences(results, name) for name in results.metrics}
    best = results.places[metric][0].arm if metric in results.places else ""
    # The figure shows the comparisons of the verdict, so that the two never contradict each other.
    decisive = list(verdict.differences)
    questions, note = questions_of(results.rows, arms, metric, n_questions)
    sizes = [plural(len(results.arms), "arm"), plural(len(config.training_seeds), "seed")]
    return Report(
        title=f"LoRA ranks for {config.model}, trained on {config.train}",
        setup=f"{', '.join(sizes)} and {plural(len(results.rows), 'test question')}; decided by {metric}",
        headline=verdict.headline,
        reasons=verdict.reasons,
        caveats=verdict.caveats,
        facts=tuple(facts_of(results.arm_summaries, verdict.arm, best, untrained, decisive)) if best else (),
        picture=captions.difference_picture(decisive, styles),
        questions=questions,
        questions_note=note,
        before=tuple(each for each in _before(results, arms, styles) if each is not None),
        after=tuple(each for each in _after(results, found) if each is not None),
        styles=styles,
    )


def _differences(results: StudyResults, metric: str) -> list[ArmDifference]:
    """The difference of every arm from the default baseline, or from the first arm with scores; empty for one arm."""
    scored = [each.arm for each in results.scores(metric)]
    if len(scored) < 2:
        return []
    baseline = default_baseline(results.config.arms)
    return results.arm_differences(metric, baseline if baseline in scored else scored[0])


def _before(
    results: StudyResults, arms: dict[str, list[RunResult]], styles: dict[str, ArmStyle]
) -> Iterator[Section | None]:
    metrics = list(results.metrics)
    summary = results.arm_summaries
    of_answers = [name for name, metric in results.metrics.items() if "losses" not in metric.requires]
    points = {name: _points(results, name) for name in metrics}
    yield Section(
        "results",
        "Scores and costs",
        (_INTERVALS,),
        pictures=_some(
            *(captions.parameter_picture(points[name], arms, styles, name) for name in metrics),
            captions.seconds_picture(points[metrics[0]], arms, styles, metrics[0]),
        ),
        tables=(
            tables.result_table(summary, metrics, "dropout_off"),
            *([tables.result_table(summary, of_answers, "dropout_on")] if "dropout_on" in results.conditions else []),
            tables.cost_table(summary),
        ),
    )
    drawn = _some(captions.profile_picture(results.profile, arms, styles), captions.rank_picture(arms, styles))
    yield Section("ranks-and-id", "Intrinsic dimension and ranks", pictures=drawn) if drawn else None
    grid = results.grid_points
    losses = _some(captions.loss_picture(arms, styles))
    grids = (tables.grid_table(grid),) if grid else ()
    yield Section("training", "Training", pictures=losses, tables=grids) if losses or grids else None


def _after(results: StudyResults, found: dict[str, list[ArmDifference]]) -> Iterator[Section | None]:
    compared = tuple(tables.difference_table(each) for each in found.values() if each)
    yield Section("differences", "Differences", tables=compared) if compared else None
    ranked = tuple(tables.ranking_table(name, places) for name, places in results.places.items())
    text = "Places are by the mean alone. The table of differences shows which arms differ."
    texts = (text, *about_the_judge(results.judge))
    yield Section("rankings", "Rankings", texts, tables=ranked) if ranked else None
    if results.failed or results.damaged:
        yield Section("failed", "Failed runs", tables=(tables.failure_table(results.failed, results.damaged),))
    yield how_to_read()
    yield setting(results.files)


def _points(results: StudyResults, metric: str) -> list[Interval]:
    points = []
    for scores in results.scores(metric):
        estimate = scores.estimate()
        points.append(Interval(scores.arm, estimate.mean, *estimate.interval(0.95)))
    return points


def _some(*each: Picture | None) -> tuple[Picture, ...]:
    return tuple(picture for picture in each if picture is not None)


def facts_of(
    summary: Sequence[ArmSummary],
    chosen: str | None,
    best: str,
    untrained: Collection[str],
    differences: Sequence[ArmDifference],
) -> Iterator[Fact]:
    """Three to six numbers: scores of the main arms, the smallest detectable difference, and the cost of training.

    Args:
        summary: The summary of each arm.
        chosen: The recommended arm, if there is one.
        best: The arm with the best score.
        untrained: The arms without an adapter.
        differences: The differences of the other arms from the best, under the primary metric.
    """
    rows = {row.arm: row for row in summary if row.seeds}
    base = [name for name in untrained if name in rows]
    if differences:
        metric = differences[0].metric
        for name in dict.fromkeys(filter(rows.get, [chosen or best, best, *base[:1]])):
            yield _score(rows[name], metric, _described(name, best, base))
        known = [each.detectable for each in differences if not each.shown and each.detectable is not None]
        if known:
            label = f"smallest {metric} difference from {differences[0].baseline} that was detectable for every arm"
            yield Fact(number(max(known)), label)
    trained = next((name for name in (chosen, best, *rows) if name in rows and name not in untrained), None)
    if trained is not None:
        row = rows[trained]
        share = percent(row.mean("trainable_percent").value or 0.0, 100)
        yield Fact(
            count(row.mean("trainable_parameters").value or 0.0),
            f"trainable parameters of {trained}, {share} of all parameters",
        )
        yield Fact(duration(row.mean("training_seconds").value), f"training time of {trained}, mean over seeds")


def _score(row: ArmSummary, metric: str, name: str) -> Fact:
    value, low, high = row.mean(metric, "dropout_off")
    interval = "" if low is None or high is None else f" (95 % interval {number(low)} to {number(high)})"
    return Fact(number(value), f"{metric} of {name}{interval}")


def _described(name: str, best: str, base: Sequence[str]) -> str:
    notes = {"untrained": name in base, "the best arm": name == best}
    return ", ".join([name, *(note for note, applies in notes.items() if applies)])
