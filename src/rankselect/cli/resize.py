"""`rankselect resize`: make a trained adapter smaller or larger, or look at its singular values before."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import Annotated, Any

import typer

import rankselect as rs
from rankselect.cli import options
from rankselect.cli.console import show, show_progress, stderr, stdout
from rankselect.cli.recorded import prompts_of, record_of
from rankselect.data.sources import check_name
from rankselect.errors import ArgumentError
from rankselect.files import json_text

__all__ = ["resize"]

_SIZE, _ROWS = "Size", "Rows"
_SIZES = ("rank", "budget", "energy", "tolerance")
_NEED_DATA = ("question", "answer", "text", "template", "system", "weigh_inputs", "recover_steps", "base")


def resize(
    context: typer.Context,
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The folder of a LoRA adapter.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the resized adapter; it must be new or empty. Without it, only the singular values "
            "are shown.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="One rank for all modules; it can be larger.", rich_help_panel=_SIZE),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="25% (of the adapter's parameters), 2M (parameters), or rank:8 (as a uniform rank), spent where it "
            "loses least.",
            rich_help_panel=_SIZE,
        ),
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(
            help="The share of each module's squared singular values to keep, such as 0.9.", rich_help_panel=_SIZE
        ),
    ] = None,
    tolerance: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="The smallest budget with which the loss on --data is shown to rise by at most this share: 1%.",
            rich_help_panel=_SIZE,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help=f"Questions and answers that were not trained on, to measure the loss: {options.ROWS}",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    question: options.Question = None,
    answer: options.Answer = None,
    text: options.Text = None,
    template: options.Template = None,
    system: options.System = None,
    weigh_inputs: Annotated[
        bool,
        typer.Option(
            "--weigh-inputs",
            help="Lose least of what modules add to their outputs on --data, instead of the updates.",
            rich_help_panel=_SIZE,
        ),
    ] = False,
    recover_steps: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Train the resized adapter for N steps on half of --data, and measure on the other half.",
            rich_help_panel=options.TRAINING,
        ),
    ] = 0,
    learning_rate: Annotated[
        float, typer.Option(help="The learning rate of these steps.", rich_help_panel=options.TRAINING)
    ] = 2e-4,
    batch_size: options.BatchSize = 8,
    seed: options.Seed = 0,
    base: Annotated[
        str | None,
        typer.Option(
            help="The base model: a folder or a name on the hub. Default: the model that the adapter names.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="A file for a plot of the singular values: .png, .pdf or .svg.", rich_help_panel=options.OUTPUT
        ),
    ] = None,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Make ADAPTER smaller after training, or larger before more of it.

    Without --out, a table shows which ranks would keep 90, 95 and 99 % of each type of module. With it, exactly one of
    --rank, --budget, --energy and --tolerance says how large. The base model is needed only with --data.

    For example:

        rankselect resize adapter --plot spectra.png

        rankselect resize adapter --out small --budget 25% --data heldout.jsonl
    """
    if plot is not None:
        options.check_plot_file(plot)
    if data is None and (names := options.given_options(context, _NEED_DATA)):
        raise ArgumentError("--data, the rows to measure on", f"{names} without it", "Add --data, or leave them out.")
    if out is None:
        if names := options.given_options(context, (*_SIZES, "data")):
            raise ArgumentError("--out, a folder for the resized adapter", f"{names} without it", "Add --out.")
        spectra, kept = rs.adapter_spectra(adapter), None
        _report(spectra, as_json=as_json)
    else:
        options.check_positive(learning_rate=learning_rate)
        progress = sys.stderr.isatty() and not no_progress
        show_progress(enabled=progress)
        arguments: dict[str, Any] = {}
        if data is not None:
            check_name(data)
            columns = options.columns(question, answer, text)
            arguments = _rows(adapter, base, data, columns, template=template, system=system, progress=progress)
        report = rs.resize_adapter(
            adapter,
            out,
            rank=rank,
            budget=budget,
            energy=energy,
            tolerance=tolerance,
            base=base,
            weigh_inputs=weigh_inputs,
            recover_steps=recover_steps,
            learning_rate=learning_rate,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
            **arguments,
        )
        spectra, kept = report.spectra, report.ranks
        _report(report, as_json=as_json)
    if plot is not None:
        figure: Any = spectra.plot(kept).figure
        figure.savefig(plot, dpi=150, bbox_inches="tight")
        show(stderr() if as_json else stdout(), f"Wrote {plot}")


def _report(result: rs.AdapterSpectra | rs.ResizeReport, *, as_json: bool) -> None:
    """Print the result as text; with `as_json`, also as JSON on standard output."""
    if as_json:
        typer.echo(json_text(result.to_dict()), nl=False)
    show(stderr() if as_json else stdout(), str(result))


def _rows(
    adapter: Path,
    base: str | None,
    data: str,
    columns: dict[str, str],
    *,
    template: str | None,
    system: str | None,
    progress: bool,
) -> dict[str, Any]:
    """The rows with their template and tokenizer, as arguments of `resize_adapter`."""
    from rankselect.adapters.adapter_folder import read_adapter
    from rankselect.training.measured_adapter import tokenizer_for

    lora = read_adapter(adapter)
    tokenizer = tokenizer_for(lora, base)
    prompts = prompts_of(record_of(lora.path), tokenizer, template, system, force=False)
    how: dict[str, Any] = {**columns, "template": prompts, "progress": progress}
    return {"rows": rs.load_rows(data, **how), "template": prompts, "tokenizer": tokenizer}
