"""`rankselect study`: compare ways of choosing ranks on your own model and rows, and write the report."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rankselect.cli import options
from rankselect.cli.study_arguments import DEFAULT_METRICS, arms_of, executor_of, judge_of, numbers_of
from rankselect.data.sources import check_name
from rankselect.errors import MissingExtraError
from rankselect.registry import check

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["study"]

_ARMS, _TRAINING, _SCORES, _JUDGE = "Arms", "Training", "Scores", "Judge"


def study(
    context: typer.Context,
    model: options.Model,
    *,
    train: Annotated[
        str,
        typer.Option(
            help=f"Rows to train on: {options.ROWS}",
            rich_help_panel=options.DATA,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The study's folder. A study that was started with the same options is continued.",
            rich_help_panel=options.OUTPUT,
        ),
    ],
    test: Annotated[
        str | None,
        typer.Option(
            help="Rows to score on; they do not influence any choice. Default: a held-out tenth of the training "
            "questions.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    question: options.Question = None,
    answer: options.Answer = None,
    text: options.Text = None,
    skip_faulty_rows: options.SkipFaultyRows = False,
    n_train: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="Draw N rows to train on.", rich_help_panel=options.DATA),
    ] = None,
    n_test: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Draw N rows to score on.", rich_help_panel=options.DATA),
    ] = None,
    template: Annotated[
        str,
        typer.Option(help="The text of a row, with {question} and {answer} in it.", rich_help_panel=options.DATA),
    ] = options.DEFAULT_TEMPLATE,
    max_length: options.MaxLength = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=STRATEGY[:ARGUMENT=VALUE,…][@SETTING=VALUE]…",
            help="A way to choose ranks, with a name of your choice; may be repeated. base alone is the model without "
            "an adapter. Settings: @budget=SIZE or like:NAME; @alpha=RULE or scales-of:NAME; @cut=SIZE, to cut the "
            "trained adapter; @recover=STEPS, to train it further. Default: base, rank-8, intrinsic-mean, per-layer-id "
            "and a control for per-layer-id.",
            rich_help_panel=_ARMS,
        ),
    ] = None,
    target_modules: Annotated[str | None, typer.Option(help="As for rankselect plan.", rich_help_panel=_ARMS)] = None,
    learning_rates: Annotated[
        str,
        typer.Option(
            metavar="RATE,RATE,…",
            help="Each arm uses the rate with the lowest loss on rows held out from training.",
            rich_help_panel=_ARMS,
        ),
    ] = "1e-4,3e-4,1e-3",
    alpha_ratios: Annotated[
        str,
        typer.Option(metavar="RATIO,…", help="Alpha divided by rank, chosen in the same way.", rich_help_panel=_ARMS),
    ] = "8",
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Train each arm with N seeds.", rich_help_panel=_TRAINING)
    ] = 3,
    epochs: Annotated[float, typer.Option(help="Passes over the training rows.", rich_help_panel=_TRAINING)] = 1.0,
    max_steps: options.MaxSteps = None,
    batch_size: options.BatchSize = 8,
    accumulation: options.Accumulation = 1,
    gradient_checkpointing: options.GradientCheckpointing = False,
    dropout: options.Dropout = 0.0,
    profile_after: options.ProfileAfter = False,
    pooling: options.Pooling = "mean",
    estimator: options.Estimator = "twonn",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:ARGUMENT=VALUE,…]",
            help="A metric; see rankselect metrics. May be repeated; the first one decides the verdict. "
            f"Default: {', '.join(DEFAULT_METRICS)}.",
            rich_help_panel=_SCORES,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="The maximum number of tokens in an answer.", rich_help_panel=_SCORES),
    ] = 128,
    dropout_too: Annotated[
        bool,
        typer.Option("--dropout-too", help="Also score with dropout left on.", rich_help_panel=_SCORES),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A model that ranks the arms' answers, at an endpoint with OpenAI's API. Questions and answers are "
            "sent to it. The key is read from OPENAI_API_KEY.",
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The judge's endpoint, such as http://127.0.0.1:8000/v1. Default: OpenAI's.",
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    judge_questions: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Draw N questions for the judge.", rich_help_panel=_JUDGE),
    ] = 50,
    judge_retries: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Repeat a call up to N times after temporary failures, after 1, 2, 4, … seconds.",
            rich_help_panel=_JUDGE,
        ),
    ] = 5,
    dtype: options.DType = "auto",
    quantization: options.Quantization = "none",
    device_map: options.DeviceMap = "auto",
    executor: Annotated[
        Literal["sequential", "ray"],
        typer.Option(help="One run after the other, or many at once with Ray.", rich_help_panel="Execution"),
    ] = "sequential",
    address: Annotated[
        str | None,
        typer.Option(help="The address of a Ray cluster. Default: start a local one.", rich_help_panel="Execution"),
    ] = None,
    report_questions: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="The number of questions that the report shows with all answers; 0 keeps your data out of it.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = 25,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Compare ways of choosing ranks for MODEL: every arm with several seeds and its own learning rate.

    Finished runs are kept: after Ctrl-C or a crash, the same command continues the study. The verdict is printed, and a
    report with all numbers, intervals and answers is written.

    For example:

        rankselect study Qwen/Qwen3-0.6B --train train.jsonl --test test.jsonl --quantization nf4 --out study
    """
    for name in metric or DEFAULT_METRICS:
        check("metric", name)
    for name in filter(None, (train, test)):
        check_name(name)
    rates, ratios = numbers_of("--learning-rates", learning_rates), numbers_of("--alpha-ratios", alpha_ratios)
    runs_on = executor_of(executor, address)
    asked = judge_of(judge, judge_url, out, max_questions=judge_questions, max_retries=judge_retries)
    arms = arms_of(arm or ())
    run_study = _runner()  # reports missing packages before anything is trained
    from rankselect.study.config import StudyConfig

    targets = options.split_target_modules(target_modules)
    named: dict[str, Any] = options.columns(question, answer, text)
    config = StudyConfig(
        model,
        train,
        test,
        arms=arms,
        seeds=tuple(range(seeds)),
        metrics=tuple(metric or DEFAULT_METRICS),
        **named,
        skip_faulty=skip_faulty_rows,
        n_train=n_train,
        n_test=n_test,
        template=template,
        max_length=max_length,
        quantization=quantization,
        dtype=dtype,
        device_map=device_map,
        target_modules=tuple(targets) if isinstance(targets, list) else targets,
        learning_rates=rates,
        alpha_ratios=ratios,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        accumulation=accumulation,
        lora_dropout=dropout,
        gradient_checkpointing=gradient_checkpointing,
        profile_after=profile_after,
        pooling=pooling,
        estimator=estimator,
        max_new_tokens=max_new_tokens,
        dropout_too=dropout_too,
    )
    run_study(
        config,
        out,
        executor=runs_on,
        judge=asked,
        n_questions=report_questions,
        as_json=as_json,
        progress=sys.stderr.isatty() and not no_progress,
        debug=bool(context.find_root().params.get("debug")),
    )


def _runner() -> Callable[..., None]:
    """Import the function that runs a study and writes its report; it needs the packages of an extra."""
    try:
        import pandas  # noqa: F401, ICN001  (optional)

        from rankselect.cli.study_run import run_study
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "study") from error
    return run_study
