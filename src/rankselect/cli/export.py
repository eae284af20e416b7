"""`rankselect export`: write an adapter with several ranks as one with a single rank, for serving engines."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from rankselect.cli import options
from rankselect.cli.console import show, simple_table, stderr, stdout
from rankselect.files import json_text

if TYPE_CHECKING:
    from rich.table import Table

    from rankselect.adapters.export import ExportReport

__all__ = ["export"]


def export(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The folder of a LoRA adapter.")],
    *,
    out: Annotated[
        Path, typer.Option(help="The folder to write; it must be new or empty.", rich_help_panel=options.OUTPUT)
    ],
    target: Annotated[
        Literal["any", "vllm", "llama.cpp", "sglang", "tensorrt-llm"],
        typer.Option("--for", help="The engine that will serve it, which determines the rank."),
    ] = "any",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="The precision to write. Default: as stored.", rich_help_panel=options.OUTPUT),
    ] = None,
    json: options.Json = False,
) -> None:
    """Write ADAPTER with one rank for all modules and an equal alpha, so that it changes every weight as before.

    Some engines ignore alphas that differ between modules, others slice their buffers by one rank. B is multiplied by
    the true scale of its module, and A and B are padded with zeros; the table shows the cost of the padding.

    For example:

        rankselect export adapter --out served --for vllm
    """
    from rankselect.adapters.export import export_adapter

    report = export_adapter(adapter, out, target=target, dtype=dtype)
    if json:
        typer.echo(json_text(report.to_dict()), nl=False)
    console = stderr() if json else stdout()
    console.print(_table(report))
    for note in report.notes:
        show(console, f"note: {note}", wrap=True)
    show(console, f"Wrote {out}; next: {report.next_step}", wrap=True)


def _table(report: ExportReport) -> Table:
    table = simple_table(f"{report.n_modules} modules", "before", "after", numbers=2)
    least, greatest = report.ranks[0], report.ranks[-1]
    ranks = str(least) if least == greatest else f"{least} to {greatest}"
    table.add_row("rank", ranks, str(report.rank))
    table.add_row("parameters", f"{report.parameters_before:,}", f"{report.parameters_after:,}")
    table.add_row("bytes", f"{report.bytes_before:,}", f"{report.bytes_after:,}")
    if report.rounding:
        table.add_row("rounding of B", "", Text(f"{report.rounding:.1e}"))
    return table
