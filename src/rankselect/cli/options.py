"""Options that several commands share, described once, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rankselect.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Accumulation",
    "BatchSize",
    "DType",
    "DeviceMap",
    "Dropout",
    "GradientCheckpointing",
    "Json",
    "MaxLength",
    "MaxSteps",
    "Model",
    "NoProgress",
    "OptionalQuantization",
    "ProfileAfter",
    "Quantization",
    "RowsData",
    "Seed",
    "Template",
    "TrustRemoteCode",
    "check_folder",
    "check_there",
    "split_target_modules",
]

_REGEX_CHARACTERS = frozenset("\\^$*+?()[]{}|")

MODEL, DATA, TRAINING, OUTPUT = "Model", "Data", "Training", "Output"

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder with a model, or its name on the Hugging Face hub.")
]
DType = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(help="The precision of the weights; auto is as they are stored.", rich_help_panel=MODEL),
]
_QUANTIZATION = typer.Option(help="Quantize the weights while loading (bitsandbytes).", rich_help_panel=MODEL)
Quantization = Annotated[Literal["none", "nf4", "int8"], _QUANTIZATION]
OptionalQuantization = Annotated[
    Literal["none", "nf4", "int8"] | None,
    typer.Option(
        help="Quantize the weights while loading (bitsandbytes). As the adapter was trained if left out.",
        rich_help_panel=MODEL,
    ),
]
DeviceMap = Annotated[
    str, typer.Option(help="Where the weights go: auto (GPUs first), cpu, cuda:0, ….", rich_help_panel=MODEL)
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.", rich_help_panel=MODEL)
]
RowsData = Annotated[
    str,
    typer.Option(
        help="Questions and answers: a .jsonl or .csv file with the columns question and answer, or text with both; "
        "medical-qa for those that come with rankselect; or a data set on the hub, with :SPLIT after its name if not "
        "train.",
        rich_help_panel=DATA,
    ),
]
Template = Annotated[
    str,
    typer.Option(help="How question and answer become a text, {question} and {answer} in it.", rich_help_panel=DATA),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Cut rows after so many tokens; 512, or all that the model reads, if left out.",
        rich_help_panel=DATA,
    ),
]
MaxSteps = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Stop after so many steps instead.", rich_help_panel=TRAINING),
]
BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="Rows in one forward pass.", rich_help_panel=TRAINING)]
Accumulation = Annotated[
    int, typer.Option(metavar="N", min=1, help="Forward passes in one step.", rich_help_panel=TRAINING)
]
GradientCheckpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Compute twice, keep less.", rich_help_panel=TRAINING)
]
Dropout = Annotated[float, typer.Option(min=0.0, max=1.0, help="LoRA dropout in training.", rich_help_panel=TRAINING)]
ProfileAfter = Annotated[
    bool, typer.Option("--profile-after", help="Measure the IDs again after training.", rich_help_panel=TRAINING)
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Decides everything that is random.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the results as JSON on standard output.", rich_help_panel=OUTPUT)
]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="Show no progress bars.", rich_help_panel=OUTPUT)]


def split_target_modules(typed: str | None) -> str | list[str] | None:
    """What was typed, as PEFT takes it: a list of names, the name of all, or one regular expression."""
    if typed is None or typed == "all-linear" or _REGEX_CHARACTERS & set(typed):
        return typed
    return [name.strip() for name in typed.split(",") if name.strip()]


def check_folder(path: Path) -> None:
    """Refuse a file that cannot be written because of where it is to stand.

    Raises:
        ArgumentError: If its folder does not exist, or it is a folder itself.
    """
    if path.is_dir():
        raise ArgumentError("a file to write", f"{path}, which is a folder", f"Name a file in it: {path / 'name'}.")
    if not path.parent.is_dir():
        raise ArgumentError(
            "a file to write in a folder that exists", str(path), f"Create the folder first: mkdir -p {path.parent}"
        )


def check_there(*paths: Path | None) -> None:
    """Refuse files to read that do not exist, before anything else is loaded.

    Raises:
        FileNotFoundError: If one of them does not.
    """
    for path in paths:
        if path is not None:
            path.stat()
