"""`rankselect merge`: merge an adapter into its base model and write a plain model."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from rankselect.cli import options
from rankselect.cli.console import show, show_progress, simple_table, stderr, stdout
from rankselect.data.rows import load_texts
from rankselect.files import json_text

if TYPE_CHECKING:
    from rich.table import Table

    from rankselect.adapters.merge.merge import MergeReport

__all__ = ["merge"]

_MERGE, _CHECK = "Merge", "Check"


def merge(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The folder of a LoRA adapter.")],
    *,
    out: Annotated[
        Path,
        typer.Option(help="The folder for the model; it must be new or empty.", rich_help_panel=options.OUTPUT),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help="The base model: a folder or a name on the hub. Default: the model that the adapter names.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    onto: Annotated[
        Literal["auto", "dequantized", "original", "requantized", "dequantised", "requantised"],
        typer.Option(
            metavar="auto|dequantized|original|requantized",
            help="The weights to merge into. dequantized: the dequantized base, as in training (auto after training in "
            "4 or 8 bits). original: the original weights (auto otherwise). requantized: the dequantized base, with "
            "the result quantized again.",
            rich_help_panel=_MERGE,
        ),
    ] = "auto",
    quantization: Annotated[
        Literal["none", "nf4", "int8"] | None,
        typer.Option(
            help="The quantization of the base in training. Default: from the base's weights or the adapter's training "
            "record.",
            rich_help_panel=_MERGE,
        ),
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="The precision to write; auto is that of the base.", rich_help_panel=_MERGE),
    ] = "auto",
    max_shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="The maximum size of a weight file.", rich_help_panel=options.OUTPUT)
    ] = "5GB",
    check_texts: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help=f"Texts to compare logits on: {options.FILES} Default: random tokens.",
            rich_help_panel=_CHECK,
        ),
    ] = None,
    field: Annotated[
        str, typer.Option("--text", "--field", help="The column with the text.", rich_help_panel=_CHECK)
    ] = "text",
    n_texts: Annotated[
        int, typer.Option(metavar="N", min=1, help="Use the first N texts.", rich_help_panel=_CHECK)
    ] = 8,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Do not compare logits after the merge.", rich_help_panel=_CHECK)
    ] = False,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> None:
    """Merge ADAPTER into its base model and write a plain model folder.

    The logits of the written model are compared with those of the unmerged adapter. Merging needs memory for one weight
    file and one layer. The folder --out appears only when everything is written.

    For example:

        rankselect merge adapter --out merged --quantization nf4
    """
    from rankselect.adapters.merge import merge_adapter

    progress = sys.stderr.isatty() and not no_progress
    show_progress(enabled=progress)
    texts = None if check_texts is None else load_texts(check_texts, field, progress=progress)[:n_texts]
    report = merge_adapter(
        adapter,
        out,
        base=base,
        onto=onto,
        quantization=quantization,
        dtype=dtype,
        max_shard_size=max_shard_size,
        check_texts=texts,
        measure=not no_measure,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )
    if json:
        typer.echo(json_text(report.to_dict()), nl=False)
    console = stderr() if json else stdout()
    console.print(_table(report))
    show(console, f"Wrote {out}, a plain model for from_pretrained")


def _table(report: MergeReport) -> Table:
    table = simple_table("merge", "")
    rows = {
        "base": report.base,
        "weights": report.onto,
        "trained with": f"{report.quantization} ({report.quantization_source})",
        "modules": str(report.n_modules),
        "complete parameters": str(report.n_replaced) if report.n_replaced else "",
        "embeddings": "untied" if report.untied else "",
        "files": str(report.n_files),
        "greatest logit difference": f"{report.difference.max_abs:.3g}" if report.difference else "not measured",
        "relative to the greatest logit": f"{report.difference.relative:.2g}" if report.difference else "",
        "same next token": f"{report.difference.same_token:.1%}" if report.difference else report.not_measured,
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value, overflow="fold"))
    return table
