"""`rankselect profile`: measure the intrinsic dimension of every layer."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import rankselect as rs
from rankselect.cli import options
from rankselect.cli.console import show, show_progress, simple_table, stdout
from rankselect.data.rows import load_texts
from rankselect.data.sources import check_name
from rankselect.registry import check, create

if TYPE_CHECKING:
    from rich.table import Table
    from transformers import PreTrainedModel

    from rankselect.calibration.id_profile import IDProfile

__all__ = ["profile"]

_INTRINSIC = {
    "intrinsic-min": "IntrinsicMin",
    "intrinsic-mean": "IntrinsicMean",
    "intrinsic-max": "IntrinsicMax",
    "per-layer-id": "PerLayerID",
}
_TEXTS, _MEASURING, _MODEL, _OUTPUT = "Texts", "Measurement", "Model", "Output"


def profile(
    model: options.Model,
    *,
    data: Annotated[
        str,
        typer.Option(
            help=f"The texts: {options.FILES}",
            rich_help_panel=_TEXTS,
        ),
    ],
    field: Annotated[
        str, typer.Option("--text", "--field", help="The column with the text.", rich_help_panel=_TEXTS)
    ] = "text",
    skip_faulty_rows: Annotated[
        bool,
        typer.Option(
            "--skip-faulty-rows", help="Leave out rows without a text, with a warning.", rich_help_panel=_TEXTS
        ),
    ] = False,
    max_samples: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Use a random sample of N texts.", rich_help_panel=_TEXTS),
    ] = None,
    max_length: Annotated[
        int, typer.Option(metavar="N", min=1, help="Cut texts after N tokens.", rich_help_panel=_TEXTS)
    ] = 512,
    estimator: options.Estimator = "twonn",
    pooling: options.Pooling = "mean",
    near_duplicates: Annotated[
        Literal["drop", "keep"],
        typer.Option(
            help="Leave out texts that are near-copies of others, or keep them, which lowers the results.",
            rich_help_panel=_MEASURING,
        ),
    ] = "drop",
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Stop reading texts when the half-width of every layer's 95 % interval is at most this many ranks.",
            rich_help_panel=_MEASURING,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="The seed for samples and intervals.", rich_help_panel=_MEASURING)
    ] = 0,
    autocast: Annotated[
        Literal["bfloat16"] | None,
        typer.Option(
            help="Multiply matrices in bfloat16, for a float32 model where that is fast.", rich_help_panel=_MODEL
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Texts per batch.", rich_help_panel=_MODEL)] = 8,
    dtype: options.DType = "auto",
    quantization: options.Quantization = "none",
    device_map: options.DeviceMap = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    out: Annotated[
        Path, typer.Option(help="The file for the profile; replaced if it exists.", rich_help_panel=_OUTPUT)
    ] = Path("profile.json"),
    plot: Annotated[
        Path | None, typer.Option(help="A file for a plot: .png, .pdf or .svg.", rich_help_panel=_OUTPUT)
    ] = None,
    no_progress: options.NoProgress = False,
) -> None:
    """Measure the intrinsic dimension (ID) of every layer of MODEL on your texts.

    Every text becomes one point per layer. The ID of these points is the number of independent directions in which they
    vary; the strategies of `rankselect plan` turn it into ranks. Use at least a few hundred texts, similar to those you
    will train on.

    For example:

        rankselect profile Qwen/Qwen3-0.6B --data train.jsonl --field text --plot profile.png
    """
    check("estimator", estimator)
    check_name(data)
    options.check_folder(out)
    if plot is not None:
        options.check_plot_file(plot)
    chosen = create("estimator", estimator)
    from rankselect.models.processes import Processes

    processes = Processes.current()
    progress = sys.stderr.isatty() and not no_progress and processes.is_first
    show_progress(enabled=progress)
    with processes.warning_once():
        texts = load_texts(data, field, skip_faulty=skip_faulty_rows, progress=progress)
        tokenizer = rs.load_tokenizer(model, trust_remote_code=trust_remote_code)
        loaded = rs.load_model(
            model,
            dtype=dtype,
            quantization=quantization,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
        )
    measured = rs.id_profile(
        loaded,
        tokenizer,
        texts,
        estimator=chosen,
        pooling=pooling,
        max_length=max_length,
        batch_size=batch_size,
        max_samples=max_samples,
        tolerance=tolerance,
        near_duplicates=near_duplicates,
        seed=seed,
        autocast=autocast,
        progress=progress,
    )
    if not processes.is_first:
        return
    measured.save(out)
    if plot is not None:
        figure: Any = measured.plot().figure
        figure.savefig(plot, dpi=150, bbox_inches="tight")
    _report(measured, loaded, model, out, plot)


def _report(measured: IDProfile, model: PreTrainedModel, name: str, out: Path, plot: Path | None) -> None:
    console = stdout()
    lines = str(measured).splitlines()
    n_layers = len(measured.layers)
    show(console, "\n".join(lines[:n_layers]))
    show(console, " ".join(lines[n_layers:]), wrap=True)
    command = ["rankselect", "plan", name, "--strategy", "per-layer-id", "--profile", str(out)]
    try:
        console.print(_ranks(measured, model))
    except rs.RankSelectError as error:
        show(console, f"\nThe default target modules of this model do not work: {error}\n", wrap=True)
        command += ["--target-modules", "NAMES"]
    show(console, f"Wrote {out}" + (f" and {plot}" if plot is not None else ""))
    show(console, f"Next: {shlex.join(command)}")


def _ranks(measured: IDProfile, model: PreTrainedModel) -> Table:
    """Build the table of ranks that the intrinsic strategies choose, with the default target modules."""
    table = simple_table("strategy", "ranks", "trainable parameters", numbers=2)
    for name, strategy in _INTRINSIC.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about clipped ranks: `rankselect plan` repeats them
            planned = getattr(rs, strategy)().plan(model, measured)
        least, greatest = min(planned.ranks.values()), max(planned.ranks.values())
        ranks = str(least) if least == greatest else f"{least} to {greatest}"
        table.add_row(name, ranks, f"{planned.trainable_parameters:,}")
    return table
