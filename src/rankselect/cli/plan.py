"""`rankselect plan`: choose a rank for every module."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

import rankselect as rs
from rankselect.cli import formats, options
from rankselect.cli.console import show, simple_table, stderr
from rankselect.errors import ArgumentError
from rankselect.files import write_text
from rankselect.models.loading import empty_model
from rankselect.registry import check, create

if TYPE_CHECKING:
    from rankselect.calibration.id_profile import IDProfile
    from rankselect.plan.rank_plan import RankPlan

__all__ = ["plan"]

_RANKS, _OUTPUT = "Ranks", "Output"


def plan(
    model: options.Model,
    *,
    strategy: Annotated[
        str,
        typer.Option(
            metavar="NAME[:ARGUMENT=VALUE,…]",
            help="How ranks are chosen; see rankselect strategies.",
            rich_help_panel=_RANKS,
        ),
    ],
    profile: Annotated[
        Path | None,
        typer.Option(help="What rankselect profile wrote; all strategies but fixed need it.", rich_help_panel=_RANKS),
    ] = None,
    target_modules: Annotated[
        str | None,
        typer.Option(
            help="q_proj,v_proj (names, as their last part); all-linear; or a regular expression over full names. "
            "PEFT's choice for the model family if left out.",
            rich_help_panel=_RANKS,
        ),
    ] = None,
    alpha_ratio: Annotated[
        float, typer.Option(help="Alpha is this times the rank, in every module.", rich_help_panel=_RANKS)
    ] = 8.0,
    min_rank: Annotated[
        int, typer.Option(metavar="N", min=1, help="No rank is below this.", rich_help_panel=_RANKS)
    ] = 1,
    max_rank: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="No rank is above this.", rich_help_panel=_RANKS)
    ] = None,
    trust_remote_code: options.TrustRemoteCode = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file for the plan; replaced if it exists. Standard output if left out.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    kind: Annotated[
        formats.Format,
        typer.Option(
            "--format",
            help="json: for RankPlan.load. peft: adapter_config.json. axolotl: the LoRA keys of its YAML config.",
            rich_help_panel=_OUTPUT,
        ),
    ] = "json",
) -> None:
    """Choose a LoRA rank for every target module of MODEL.

    Only the model's config is read, no weights. The plan goes to --out or to standard output, the table for people to
    standard error.

    For example:

        rankselect plan Qwen/Qwen3-0.6B --strategy per-layer-id --profile profile.json --out plan.json
    """
    check("strategy", strategy)
    options.check_there(profile)
    if out is not None:
        options.check_folder(out)
    chosen = create("strategy", strategy)
    evidence = _evidence(chosen, strategy, profile)
    empty = empty_model(model, trust_remote_code=trust_remote_code)
    planned = chosen.plan(
        empty,
        evidence,
        target_modules=options.split_target_modules(target_modules),
        alpha_ratio=alpha_ratio,
        min_rank=min_rank,
        max_rank=max_rank,
    )
    text = formats.as_text(planned, kind)
    _report(planned)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        show(stderr(), f"Wrote {out} ({formats.reader(kind, out)})")


def _evidence(strategy: Any, name: str, path: Path | None) -> IDProfile | None:
    """The evidence that a strategy asks for, of which the command line can read profiles only."""
    if strategy.evidence is None:
        return None
    if not issubclass(rs.IDProfile, strategy.evidence):
        raise ArgumentError(
            "a strategy that needs a profile or nothing",
            f"{name}, which needs {strategy.evidence.__name__}",
            "Plan in Python, with a Calibration from which it is measured.",
        )
    if path is None:
        raise ArgumentError(
            f"a profile for the strategy {name}", "none", "Give --profile FILE; rankselect profile writes it."
        )
    return rs.IDProfile.load(path)


def _report(planned: RankPlan) -> None:
    """The table, without the column of modules where it would say the same in every row."""
    from rankselect.plan.table import HEADER, rows

    console = stderr()
    cells = rows(planned.modules)
    same = len({row[1] for row in cells}) == 1
    shown = [column for column in range(len(HEADER)) if column != 1 or not same]
    table = simple_table(*(HEADER[column] for column in shown), numbers=3)
    for row in cells:
        table.add_row(*(Text(row[column]) for column in shown))
    console.print(table)
    if same:
        show(console, f"modules in every layer: {cells[0][1]}", wrap=True)
    show(console, planned.summary, wrap=True)
