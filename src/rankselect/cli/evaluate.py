"""`rankselect evaluate`: generate answers and score them."""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

import rankselect as rs
from rankselect.cli import options
from rankselect.cli.console import one_line, show, show_progress, simple_table, stderr
from rankselect.cli.recorded import prompts_of, record_of
from rankselect.data.prompts import CHAT, template_named
from rankselect.data.sources import check_name
from rankselect.errors import AdapterError
from rankselect.files import json_text, write_text
from rankselect.registry import create

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["evaluate"]

_SCORES = "Scores"
_SHOWN, _WIDTH = 3, 110  # answers that are printed, and characters of a line
_DEFAULT_METRICS = ("token-f1", "questeval-cloze", "perplexity")


def evaluate(
    model: options.Model,
    *,
    data: options.RowsData,
    adapter: Annotated[
        Path | None,
        typer.Option(help="The folder of a trained adapter. Default: the model alone.", rich_help_panel="Model"),
    ] = None,
    question: options.Question = None,
    answer: options.Answer = None,
    text: options.Text = None,
    skip_faulty_rows: options.SkipFaultyRows = False,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use the first N rows only.", rich_help_panel=options.DATA)
    ] = None,
    template: options.Template = None,
    system: options.System = None,
    force_template: Annotated[
        bool,
        typer.Option(
            "--force-template",
            help="Use --template although the adapter was trained with another one.",
            rich_help_panel=options.DATA,
        ),
    ] = False,
    max_length: options.MaxLength = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:ARGUMENT=VALUE,…]",
            help=f"A metric; see rankselect metrics. May be repeated. Default: {', '.join(_DEFAULT_METRICS)}.",
            rich_help_panel=_SCORES,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="The maximum number of tokens in an answer.", rich_help_panel=_SCORES),
    ] = 128,
    dropout: Annotated[
        bool,
        typer.Option("--dropout", help="Leave dropout on, which lowers the scores.", rich_help_panel=_SCORES),
    ] = False,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Answers per batch.", rich_help_panel=_SCORES)
    ] = 8,
    seed: options.Seed = 0,
    dtype: options.DType = "auto",
    quantization: options.OptionalQuantization = None,
    device_map: options.DeviceMap = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    out: Annotated[
        Path | None,
        typer.Option(help="A .jsonl file for questions, answers and their scores.", rich_help_panel=options.OUTPUT),
    ] = None,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Generate MODEL's answers to the questions, and score them, with a 95 % interval for each score.

    For example:

        rankselect evaluate Qwen/Qwen3-0.6B --adapter run/adapter --data eval.jsonl --metric token-f1
    """
    progress = sys.stderr.isatty() and not no_progress
    metrics = [_metric(name, progress=progress) for name in metric or _DEFAULT_METRICS]
    if out is not None:
        options.check_folder(out)
    check_name(data)
    if template != CHAT:
        template_named(template, None, system)
    show_progress(enabled=progress)
    tokenizer = rs.load_tokenizer(model, trust_remote_code=trust_remote_code)
    from rankselect.adapters.merged_from import MergedFrom  # loads torch

    record = record_of(adapter)
    merged = MergedFrom.load(model) if adapter is None else None
    prompted = merged.training_record() if merged else record
    prompts = prompts_of(prompted, tokenizer, template, system, force=force_template)
    if max_length is None and prompted is not None:
        max_length = prompted.max_length
    rows = rs.load_rows(
        data,
        **options.columns(question, answer, text),
        template=prompts,
        skip_faulty=skip_faulty_rows,
        progress=progress,
    )[:limit]
    loaded: Any = rs.load_model(
        model,
        dtype=dtype,
        quantization=quantization or _recorded_quantization(record),
        device_map=device_map,
        trust_remote_code=trust_remote_code,
    )
    if adapter is not None:
        loaded = rs.attach_adapter(loaded, adapter)
    losses = None
    if any("losses" in each.requires for each in metrics):
        from rankselect.data.prompt_tokens import row_length

        length = row_length(loaded, tokenizer, max_length)
        losses = rs.answer_losses(loaded, tokenizer, rows, template=prompts, max_length=length, batch_size=batch_size)
    questions, references = [row.question for row in rows], [row.answer for row in rows]
    answers = rs.generate_answers(
        loaded,
        tokenizer,
        questions,
        template=prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        dropout=dropout,
        seed=seed,
        progress=progress,
    )
    texts = [answer.text for answer in answers]
    results = [each.evaluate(texts, references, questions=questions, losses=losses, seed=seed) for each in metrics]
    if out is not None:
        write_text(out, _as_lines(questions, references, answers, results))
    _show_answers(questions, references, texts)
    _report(results, answers, out, as_json=as_json)


def _metric(specification: str, *, progress: bool) -> rs.Metric:
    """Create a metric by name; `progress` decides whether slow metrics show a progress bar."""
    created: Any = create("metric", specification)
    metric: rs.Metric = dataclasses.replace(created, progress=progress) if hasattr(created, "progress") else created
    return metric


def _recorded_quantization(record: rs.TrainingRecord | None) -> Any:
    """Return the quantization that the adapter was trained with; none without a record."""
    if record is None:
        return "none"
    if record.quantization not in {"none", "nf4", "int8"}:
        raise AdapterError(
            "an adapter trained with quantization none, nf4 or int8",
            f"{record.quantization!r} in its record",
            "Pass --quantization.",
        )
    return record.quantization


def _as_lines(
    questions: Sequence[str],
    references: Sequence[str],
    answers: Sequence[rs.GeneratedAnswer],
    results: Sequence[rs.MetricResult],
) -> str:
    lines = []
    for index, (question, reference, answer) in enumerate(zip(questions, references, answers, strict=True)):
        scores = {result.metric: float(result.values[index]) for result in results}
        line = {"question": question, "reference": reference, "answer": answer.text, "seconds": answer.seconds}
        lines.append(json.dumps({**line, "scores": scores}, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines)


def _show_answers(questions: Sequence[str], references: Sequence[str], texts: Sequence[str]) -> None:
    """Print the first questions with reference and answer, cut to a line each."""
    console = stderr()
    for question, reference, answer in list(zip(questions, references, texts, strict=True))[:_SHOWN]:
        for name, text in (("question", question), ("reference", reference), ("answer", answer or "(empty)")):
            line = one_line(text)
            show(console, f"{name:<11}{line if len(line) <= _WIDTH else f'{line[: _WIDTH - 1]}…'}")
        show(console, "")


def _report(
    results: Sequence[rs.MetricResult], answers: Sequence[rs.GeneratedAnswer], out: Path | None, *, as_json: bool
) -> None:
    console = stderr()
    table = simple_table("metric", "mean", "95 % interval", "better", numbers=0)
    for result in results:
        better = "higher" if result.higher_is_better else "lower"
        table.add_row(result.metric, f"{result.mean:.4f}", f"{result.low:.4f} to {result.high:.4f}", better)
    console.print(table)
    seconds = [answer.seconds for answer in answers]
    mean, median = statistics.mean(seconds), statistics.median(seconds)
    show(console, f"{len(answers)} answers, {mean:.3f} s each (median {median:.3f} s).")
    if out is not None:
        show(console, f"Wrote {out}")
    if as_json:
        scores = {
            result.metric: {
                "mean": result.mean,
                "low": result.low,
                "high": result.high,
                "confidence": result.confidence,
                "higher_is_better": result.higher_is_better,
            }
            for result in results
        }
        typer.echo(json_text({"n_answers": len(answers), "seconds": seconds, "scores": scores}).rstrip())
