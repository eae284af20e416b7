"""`rankselect strategies`, `estimators` and `metrics`: list what is installed, and from which package."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from rich.text import Text

from rankselect.cli.console import one_line, simple_table, stdout
from rankselect.registry import available

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["estimators", "metrics", "strategies"]


_MARKUP = re.compile(r":\w+:(?=`)|`+")  # reStructuredText, which a terminal does not render


def strategies() -> None:
    """List the strategies that rankselect plan can use.

    Packages can add strategies with an entry point in the group rankselect.strategies.
    """
    _list("strategy")


def estimators() -> None:
    """List the estimators that rankselect profile can use.

    Packages can add estimators with an entry point in the group rankselect.estimators.
    """
    _list("estimator")


def metrics() -> None:
    """List the metrics that answers can be scored with.

    Packages can add metrics with an entry point in the group rankselect.metrics.
    """
    _list("metric")


def _list(kind: str) -> None:
    table = simple_table("name", "arguments", "what it does", "package")
    for name, point in available(kind).items():
        arguments, description = _described(point)
        package = point.dist.name if point.dist is not None else "unknown"
        table.add_row(*(Text(cell) for cell in (name, arguments, description, package)))
    stdout().print(table)


def _described(point: EntryPoint) -> tuple[str, str]:
    """Return the arguments and the first line of the docstring; for a plug-in that cannot be loaded, the reason."""
    try:
        plugin = point.load()
    except Exception as error:  # noqa: BLE001  (a fault in one package must not hide the others)
        return "", f"cannot be loaded: {one_line(error)}"
    arguments = [_argument(parameter) for parameter in inspect.signature(plugin).parameters.values()]
    first_line = (inspect.getdoc(plugin) or "").partition("\n")[0]
    return "\n".join(arguments), _MARKUP.sub("", first_line)


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_KEYWORD:
        return "…"
    if parameter.default is parameter.empty:
        return parameter.name
    from_factory = str(parameter.default) == "<factory>"  # how a dataclass shows a default_factory
    return f"{parameter.name}={'…' if from_factory else parameter.default}"
