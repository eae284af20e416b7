"""Run a study from the command line, and show the outcome: the arms, the verdict, failed runs, and the files."""

from __future__ import annotations

import logging
import shlex
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import typer

from rankselect.cli.console import show, show_progress, simple_table, stderr
from rankselect.errors import RankSelectError
from rankselect.files import json_text
from rankselect.study.analysis.frames import records
from rankselect.study.analysis.results import StudyResults
from rankselect.study.analysis.verdict import verdict_or_error
from rankselect.study.folder import StudyFolder
from rankselect.study.judging import judge_answers
from rankselect.study.report.write import write_report
from rankselect.study.study import Study

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rankselect.metrics.judge import LLMJudge
    from rankselect.study.analysis.summary import Mean
    from rankselect.study.config import StudyConfig
    from rankselect.study.executors import Executor

__all__ = ["run_study"]

_NONE = "-"


def run_study(
    config: StudyConfig,
    out: Path,
    *,
    executor: Executor | None,
    judge: LLMJudge | None,
    n_questions: int,
    as_json: bool,
    progress: bool,
    debug: bool,
) -> None:
    """Run a study, let the judge rank its answers, write the report, and show the outcome.

    Args:
        config: The study.
        out: Its folder.
        executor: The executor of the runs; None to run one after the other.
        judge: The judge that ranks the answers, or None.
        n_questions: Questions that the report shows with all answers.
        as_json: Print the outcome as JSON on standard output.
        progress: Show progress bars.
        debug: Show the tracebacks of failed runs.

    Raises:
        typer.Exit: After Ctrl-C, or if a run failed or the judge did not answer.
    """
    show_progress(enabled=progress)
    if not debug:
        logging.getLogger("rankselect.study.work").setLevel(
            logging.ERROR
        )  # no tracebacks: each failed run has its line
    try:
        with redirect_stdout(sys.stderr):  # Ray prints messages about dead workers
            Study(config, out).run(executor=executor, progress=progress)
    except KeyboardInterrupt:
        n_done = len(StudyFolder(out).run_files())
        command = shlex.join(["rankselect", *sys.argv[1:]])
        show(stderr(), f"Stopped. {n_done} finished runs are kept in {out}. Continue with: {command}")
        raise typer.Exit(130) from None
    if judge is not None:
        _ask(judge, out, progress=progress)
    results = StudyResults.load(out)
    try:
        files = results.write()
    finally:  # an error in the tables must not prevent the report
        report = write_report(results, out, n_questions=n_questions)
    _show_outcome(results, [*files, *report], as_json=as_json)
    if results.failed or (judge is not None and results.judge is None):
        raise typer.Exit(1)


def _ask(judge: LLMJudge, out: Path, *, progress: bool) -> None:
    """Let the judge rank the answers; if it cannot be reached, show the error and keep the study's other results."""
    try:
        judge_answers(StudyResults.load(out), judge, progress=progress)
    except RankSelectError as error:
        show(stderr(), f"No ranking by the judge: {error}", wrap=True)


def _show_outcome(results: StudyResults, files: Sequence[Path], *, as_json: bool) -> None:
    """Show the arms, the verdict, and the files; with `as_json`, also print them as JSON."""
    console = stderr()
    console.print(_summary(results))
    verdict = verdict_or_error(results.verdict)
    show(console, str(verdict), wrap=True)
    for failed in results.failed:
        show(console, f"{failed.run.id} failed: {failed.error}")
    if results.failed:
        show(console, "Run the same command again to retry the failed runs.")
    show(console, f"Wrote {', '.join(map(str, files))}")
    if as_json:
        document = {
            "folder": str(results.folder),
            "files": [str(file) for file in files],
            "verdict": {name: getattr(verdict, name) for name in ("arm", "headline", "reasons", "caveats")},
            "summary": records(results.summary),
            "failed": {result.run.id: result.error for result in results.failed},
        }
        typer.echo(json_text(document).rstrip())


def _summary(results: StudyResults) -> Any:
    """Build the table of the arms: rank, trainable share, learning rate, and scores with intervals."""
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
