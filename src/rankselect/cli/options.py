"""Options that several commands share, and functions that check and convert them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rankselect.errors import ArgumentError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = [
    "Accumulation",
    "Alpha",
    "Answer",
    "BatchSize",
    "BudgetText",
    "DType",
    "DeviceMap",
    "Dropout",
    "Estimator",
    "GradientCheckpointing",
    "Json",
    "MaxLength",
    "MaxSteps",
    "Model",
    "NoProgress",
    "OptionalQuantization",
    "Pooling",
    "ProfileAfter",
    "Quantization",
    "Question",
    "RowsData",
    "Seed",
    "SkipFaultyRows",
    "System",
    "Template",
    "Text",
    "TrustRemoteCode",
    "check_folder",
    "check_plot_file",
    "check_positive",
    "check_there",
    "columns",
    "given_options",
    "split_target_modules",
]

_REGEX_CHARACTERS = frozenset("\\^$*+?()[]{}|")

DEFAULT_TEMPLATE = "### Instruction: {question} ### Assistant: {answer}"
MODEL, DATA, MEASUREMENT, TRAINING, OUTPUT = "Model", "Data", "Measurement", "Training", "Output"

FILES = (
    "a file (JSON Lines, JSON, CSV, TSV or Parquet, also as .gz); medical-qa for the data included in rankselect; or a "
    "data set in a folder or on the hub, as NAME, NAME:SPLIT or NAME:CONFIGURATION[SPLIT]."
)
ROWS = (
    f"{FILES} Rows have the columns question and answer, prompt and completion, instruction, input and output, "
    "messages, conversations, or text."
)

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder with a model, or its name on the Hugging Face hub.")
]
DType = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(help="The precision of the weights; auto keeps the stored precision.", rich_help_panel=MODEL),
]
_QUANTIZATION = typer.Option(help="Quantize the weights while loading (bitsandbytes).", rich_help_panel=MODEL)
Quantization = Annotated[Literal["none", "nf4", "int8"], _QUANTIZATION]
OptionalQuantization = Annotated[
    Literal["none", "nf4", "int8"] | None,
    typer.Option(
        help="Quantize the weights while loading (bitsandbytes). Default: as the adapter was trained.",
        rich_help_panel=MODEL,
    ),
]
DeviceMap = Annotated[
    str, typer.Option(help="Where the weights go: auto (GPUs first), cpu, cuda:0, ….", rich_help_panel=MODEL)
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code from the model's repository.", rich_help_panel=MODEL)
]
RowsData = Annotated[
    str,
    typer.Option(
        help=f"Questions and answers: {ROWS}",
        rich_help_panel=DATA,
    ),
]
Question = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column of the question, where the usual names do not fit.",
        rich_help_panel=DATA,
    ),
]
Answer = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column of the answer, where the usual names do not fit.",
        rich_help_panel=DATA,
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column of a text with question and answer in it, in the form of --template.",
        rich_help_panel=DATA,
    ),
]
SkipFaultyRows = Annotated[
    bool,
    typer.Option(
        "--skip-faulty-rows", help="Leave faulty rows out, with a warning that counts them.", rich_help_panel=DATA
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        help="The text of a row, with {question} and {answer} in it; or chat, the tokenizer's own chat template. "
        f"Default: that of the adapter's record, or else {DEFAULT_TEMPLATE!r}.",
        rich_help_panel=DATA,
    ),
]
System = Annotated[
    str | None,
    typer.Option(help="The system message of rows without one, for --template chat.", rich_help_panel=DATA),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Cut rows after N tokens. Default: 512 or the model's maximum, whichever is less.",
        rich_help_panel=DATA,
    ),
]
MaxSteps = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Stop after N steps, regardless of the epochs.", rich_help_panel=TRAINING),
]
BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="Rows per forward pass.", rich_help_panel=TRAINING)]
Accumulation = Annotated[
    int, typer.Option(metavar="N", min=1, help="Forward passes per step.", rich_help_panel=TRAINING)
]
GradientCheckpointing = Annotated[
    bool,
    typer.Option(
        "--gradient-checkpointing", help="Save memory: compute activations a second time.", rich_help_panel=TRAINING
    ),
]
Dropout = Annotated[float, typer.Option(min=0.0, max=1.0, help="LoRA dropout in training.", rich_help_panel=TRAINING)]
Estimator = Annotated[
    str,
    typer.Option(
        metavar="NAME[:ARGUMENT=VALUE,…]",
        help="The estimator of the intrinsic dimension; see rankselect estimators.",
        rich_help_panel=MEASUREMENT,
    ),
]
Pooling = Annotated[
    Literal["mean", "last"],
    typer.Option(
        help="The point of a text: the mean over its tokens, or its last token. Do not compare results with different "
        "pooling.",
        rich_help_panel=MEASUREMENT,
    ),
]
ProfileAfter = Annotated[
    bool,
    typer.Option(
        "--profile-after", help="Measure the intrinsic dimensions again after training.", rich_help_panel=TRAINING
    ),
]
BudgetText = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="The size of the adapter: 2M (parameters), 1% (of the base model), rank:16 (as a uniform rank), or 24GiB "
        "(memory of a training step). Ranks are scaled to it.",
        rich_help_panel="Ranks",
    ),
]
Alpha = Annotated[
    str | None,
    typer.Option(
        metavar="RULE:NUMBER",
        help="How alpha follows from the rank: ratio:8, fixed:32 or rank-stabilized:8. Default: --alpha-ratio.",
        rich_help_panel="Ranks",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="The seed of all random numbers.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the results as JSON on standard output.", rich_help_panel=OUTPUT)
]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="Show no progress bars.", rich_help_panel=OUTPUT)]


def split_target_modules(typed: str | None) -> str | list[str] | None:
    """Convert the option to what PEFT takes: a list of names, all-linear, or one regular expression."""
    if typed is None or typed == "all-linear" or _REGEX_CHARACTERS & set(typed):
        return typed
    return [name.strip() for name in typed.split(",") if name.strip()]


def columns(question: str | None, answer: str | None, text: str | None) -> dict[str, str]:
    """Return the columns that were named, as arguments of `load_rows`."""
    named = {"question": question, "answer": answer, "text": text}
    return {part: name for part, name in named.items() if name}


def given_options(context: typer.Context, names: Iterable[str]) -> str:
    """Those of the parameters that were named on the command line, as options; empty if there are none."""
    sources = {name: getattr(context.get_parameter_source(name), "name", "") for name in names}
    given = [name for name, source in sources.items() if source not in {"DEFAULT", "DEFAULT_MAP", ""}]
    return ", ".join(f"--{name.replace('_', '-')}" for name in given)


def check_folder(path: Path) -> None:
    """Raise an error for a file to write that is a folder, or whose folder does not exist.

    Raises:
        ArgumentError: If its folder does not exist, or it is a folder itself.
    """
    if path.is_dir():
        raise ArgumentError("a file to write", f"{path}, which is a folder", f"Name a file in it: {path / 'name'}.")
    if not path.parent.is_dir():
        raise ArgumentError(
            "a file to write in a folder that exists", str(path), f"Create the folder first: mkdir -p {path.parent}"
        )


def check_plot_file(path: Path) -> None:
    """Raise an error for a plot that cannot be drawn or written, before anything is measured.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ArgumentError: If matplotlib cannot write such a file, or its folder does not exist.
    """
    try:
        from matplotlib.figure import Figure  # optional
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    kinds = Figure().canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in kinds:
        raise ArgumentError("a plot file that matplotlib can write", str(path), "Name it .png, .pdf or .svg.")
    check_folder(path)


def check_positive(**numbers: float) -> None:
    """Raise an error for an option whose number is not positive.

    Raises:
        ArgumentError: If one is not.
    """
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise ArgumentError(f"a number above 0 for --{name.replace('_', '-')}", f"{value:g}", "Correct the option.")


def check_there(*paths: Path | None) -> None:
    """Raise an error for files to read that do not exist, before anything else is loaded.

    Raises:
        FileNotFoundError: If one of them does not.
    """
    for path in paths:
        if path is not None:
            path.stat()
