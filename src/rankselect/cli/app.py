"""The command line's commands, and the options that come before a command."""

from __future__ import annotations

from typing import Annotated, Any, final

import typer
from typer.core import TyperCommand

from rankselect._version import __version__
from rankselect.cli import evaluate, export, merge, plan, plugins, profile, resize, study, train
from rankselect.cli.console import reporting

__all__ = ["app"]


@final
class Command(TyperCommand):
    """A command whose errors and warnings are one line each."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with reporting(debug=bool(ctx.find_root().params.get("debug"))):
            return super().invoke(ctx)


app = typer.Typer(
    name="rankselect",
    help="Which LoRA rank, layer by layer? Measure a model on your texts, turn the measurement into ranks for PEFT.",
    epilog="Start with: rankselect profile MODEL --data texts.jsonl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(requested: bool) -> None:  # noqa: FBT001  (Typer passes it by position)
    if requested:
        typer.echo(f"rankselect {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, and the logs of rankselect and its libraries.")
    ] = False,
) -> None:
    """Options before the command."""


_COMMANDS = (
    profile.profile,
    plan.plan,
    train.train,
    evaluate.evaluate,
    study.study,
    merge.merge,
    resize.resize,
    export.export,
    plugins.strategies,
    plugins.estimators,
    plugins.metrics,
)
for _command in _COMMANDS:
    app.command(cls=Command)(_command)
