"""`rankselect study`: compare ways of choosing ranks on your own model and rows, and write the report."""

from __future__ import annotations

import logging
import math
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rankselect.cli import options
from rankselect.cli.console import show, show_progress, stderr
from rankselect.errors import ArgumentError, MissingExtraError, RankSelectError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rankselect.metrics.judge import LLMJudge
    from rankselect.study.arm import Arm
    from rankselect.study.executors import Executor

__all__ = ["study"]

_ARMS, _TRAINING, _SCORES, _JUDGE = "Arms", "Training", "Scores", "Judge"
_BASE = "base"
_DEFAULT_ARMS = (
    "base",
    "rank-8=fixed:rank=8",
    "intrinsic-mean=intrinsic-mean",
    "per-layer-id=per-layer-id",
    "per-layer-id-control=same-parameters:strategy=per-layer-id",
)
_DEFAULT_METRICS = ("token-f1", "questeval-cloze", "perplexity")


def study(
    context: typer.Context,
    model: options.Model,
    *,
    train: Annotated[
        str,
        typer.Option(
            help="Rows to train on: a .jsonl or .csv file with the columns question and answer, or text with both; "
            "medical-qa for those that come with rankselect; or a data set on the hub.",
            rich_help_panel=options.DATA,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The study's folder. One that has begun with the same options goes on.",
            rich_help_panel=options.OUTPUT,
        ),
    ],
    test: Annotated[
        str | None,
        typer.Option(
            help="Rows to score on; nothing is chosen by them. A tenth of the training questions, held out, if left "
            "out.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    n_train: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="Draw so many rows to train on.", rich_help_panel=options.DATA),
    ] = None,
    n_test: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Draw so many rows to score on.", rich_help_panel=options.DATA),
    ] = None,
    template: options.Template = "### Instruction: {question} ### Assistant: {answer}",
    max_length: options.MaxLength = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=STRATEGY[:ARGUMENT=VALUE,…]",
            help="A way to choose ranks, under a name of yours; may be repeated. base alone is the model without an "
            "adapter. base, rank-8, intrinsic-mean, per-layer-id and a control for it if left out.",
            rich_help_panel=_ARMS,
        ),
    ] = None,
    target_modules: Annotated[
        str | None, typer.Option(help="As rankselect plan takes it.", rich_help_panel=_ARMS)
    ] = None,
    learning_rates: Annotated[
        str,
        typer.Option(
            metavar="RATE,RATE,…",
            help="Each arm gets the one with the least loss on rows held out from training.",
            rich_help_panel=_ARMS,
        ),
    ] = "1e-4,3e-4,1e-3",
    alpha_ratios: Annotated[
        str,
        typer.Option(metavar="RATIO,…", help="Alpha divided by rank, chosen likewise.", rich_help_panel=_ARMS),
    ] = "8",
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Train each arm so many times.", rich_help_panel=_TRAINING)
    ] = 3,
    epochs: Annotated[float, typer.Option(help="Rounds through the rows.", rich_help_panel=_TRAINING)] = 1.0,
    max_steps: options.MaxSteps = None,
    batch_size: options.BatchSize = 8,
    accumulation: options.Accumulation = 1,
    gradient_checkpointing: options.GradientCheckpointing = False,
    dropout: options.Dropout = 0.0,
    profile_after: options.ProfileAfter = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:ARGUMENT=VALUE,…]",
            help="See rankselect metrics; may be repeated. The first decides the verdict. "
            f"{', '.join(_DEFAULT_METRICS)} if left out.",
            rich_help_panel=_SCORES,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="The longest answer.", rich_help_panel=_SCORES)
    ] = 128,
    dropout_too: Annotated[
        bool,
        typer.Option("--dropout-too", help="Score once more with dropout left on.", rich_help_panel=_SCORES),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A model that ranks the arms' answers, behind an endpoint that speaks OpenAI's API. Questions and "
            "answers are sent there. OPENAI_API_KEY is its key.",
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Its endpoint, such as http://127.0.0.1:8000/v1; OpenAI's if left out.",
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    judge_questions: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Draw so many of the questions.", rich_help_panel=_JUDGE),
    ] = 50,
    judge_retries: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Repeat a call that fails in passing so many times, after 1, 2, 4, … seconds.",
            rich_help_panel=_JUDGE,
        ),
    ] = 5,
    dtype: options.DType = "auto",
    quantization: options.Quantization = "none",
    device_map: options.DeviceMap = "auto",
    executor: Annotated[
        Literal["sequential", "ray"],
        typer.Option(help="One training after the other here, or many at once by Ray.", rich_help_panel="Where"),
    ] = "sequential",
    address: Annotated[
        str | None,
        typer.Option(help="A Ray cluster; one is started here if left out.", rich_help_panel="Where"),
    ] = None,
    report_questions: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Questions that the report shows with all answers; 0 keeps your data out of it.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = 25,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Compare ways of choosing ranks for MODEL: every arm, several seeds, each at its own learning rate.

    Whatever is finished is kept: after Ctrl-C or a crash, the same command goes on. The answer is printed in words, and
    written as a report with every number, interval and answer behind it.

    For example:

        rankselect study Qwen/Qwen3-0.6B --train train.jsonl --test test.jsonl --quantization nf4 --out study
    """
    progress = sys.stderr.isatty() and not no_progress
    show_progress(wanted=progress)
    write_report = _report_writer()
    from rankselect.cli.study_outcome import show_outcome
    from rankselect.study.analysis.results import StudyResults
    from rankselect.study.config import StudyConfig
    from rankselect.study.study import Study

    targets = options.split_target_modules(target_modules)
    config = StudyConfig(
        model,
        train,
        test,
        arms=_arms(arm),
        seeds=tuple(range(seeds)),
        metrics=tuple(metric or _DEFAULT_METRICS),
        n_train=n_train,
        n_test=n_test,
        template=template,
        max_length=max_length,
        quantization=quantization,
        dtype=dtype,
        device_map=device_map,
        target_modules=tuple(targets) if isinstance(targets, list) else targets,
        learning_rates=_numbers("--learning-rates", learning_rates),
        alpha_ratios=_numbers("--alpha-ratios", alpha_ratios),
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        accumulation=accumulation,
        lora_dropout=dropout,
        gradient_checkpointing=gradient_checkpointing,
        profile_after=profile_after,
        max_new_tokens=max_new_tokens,
        dropout_too=dropout_too,
    )
    where = _executor(executor, address)
    named = _judge(judge, judge_url, out, max_questions=judge_questions, max_retries=judge_retries)
    if not context.find_root().params.get("debug"):
        logging.getLogger("rankselect.study.work").setLevel(logging.ERROR)  # tracebacks; each failure has its line
    try:
        with redirect_stdout(sys.stderr):  # where Ray tells of workers that died
            Study(config, out).run(executor=where, progress=progress)
    except KeyboardInterrupt:
        n_done = len(list((out / "units").glob("[!.]*.json")))
        command = shlex.join(["rankselect", *sys.argv[1:]])
        show(stderr(), f"Stopped. {n_done} finished trainings are kept in {out}. Go on with: {command}")
        raise typer.Exit(130) from None
    if named is not None:
        _ask(named, out, progress=progress)
    results = StudyResults.load(out)
    try:
        files = results.write()
    finally:  # whatever is wrong with the tables, the report is not lost with them
        report = write_report(results, out, n_questions=report_questions)
    show_outcome(results, [*files, *report], as_json=as_json)
    if results.failed or (named is not None and results.judge is None):
        raise typer.Exit(1)


def _arms(typed: Sequence[str] | None) -> tuple[Arm, ...]:
    """Arms from what a person types."""
    from rankselect.study.arm import Arm

    arms = []
    for text in typed or _DEFAULT_ARMS:
        name, equals, strategy = text.partition("=")
        if text != _BASE and not (equals and strategy):
            raise ArgumentError(
                f"an arm as NAME=STRATEGY, or {_BASE} alone for the model without an adapter",
                repr(text),
                "For example --arm rank-16=fixed:rank=16.",
            )
        arms.append(Arm(name, strategy or None))
    return tuple(arms)


def _numbers(option: str, typed: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in typed.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise ArgumentError(f"positive numbers with commas between for {option}", repr(typed), "For example 1e-4,3e-4.")
    return numbers


def _executor(name: str, address: str | None) -> Executor | None:
    if name == "sequential":
        if address is not None:
            raise ArgumentError("--address with --executor ray", "without", "Add --executor ray, or leave it out.")
        return None
    from rankselect.study.ray_executor import RayExecutor  # optional

    return RayExecutor(address)


def _report_writer() -> Callable[..., list[Path]]:
    """What writes the report; a package that it lacks is said before anything is trained."""
    try:
        import pandas  # noqa: F401, ICN001  (optional)

        from rankselect.study.report.write import write_report
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "study") from error
    return write_report


def _judge(model: str | None, url: str | None, out: Path, *, max_questions: int, max_retries: int) -> LLMJudge | None:
    """The judge; what it lacks, a key or a package, is said before anything is trained."""
    if model is None:
        if url is not None:
            raise ArgumentError("--judge-url with --judge NAME", "without", "Name the model, or leave it out.")
        return None
    import rankselect as rs

    out.mkdir(parents=True, exist_ok=True)
    return rs.LLMJudge(model, base_url=url, max_questions=max_questions, max_retries=max_retries, cache=out / "replies")


def _ask(judge: LLMJudge, out: Path, *, progress: bool) -> None:
    """Let the judge rank the answers; if it cannot be reached, the study's other results are there all the same."""
    from rankselect.study.analysis.results import StudyResults
    from rankselect.study.judging import judge_answers

    try:
        judge_answers(StudyResults.load(out), judge, progress=progress)
    except RankSelectError as error:
        show(stderr(), f"No ranking by the judge: {error}", wrap=True)
