"""A plan as a table: one row for each group of modules of a layer that share a rank."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.plan.planned_module import PlannedModule

__all__ = ["HEADER", "as_html", "as_text", "rows"]

HEADER = ("layer", "modules", "rank", "alpha", "parameters")


def rows(modules: Sequence[PlannedModule]) -> list[tuple[str, str, str, str, str]]:
    """The table's rows as text, in model order, under `HEADER`."""
    groups: dict[tuple[str, int, float], list[PlannedModule]] = {}
    for module in modules:
        groups.setdefault((module.target.layer or "(outside)", module.rank, module.alpha), []).append(module)
    return [
        (
            layer,
            " ".join(dict.fromkeys(module.target.name.rsplit(".", 1)[-1] for module in group)),
            str(rank),
            f"{alpha:g}",
            f"{sum(module.target.parameters(rank) for module in group):,}",
        )
        for (layer, rank, alpha), group in groups.items()
    ]


def as_text(modules: Sequence[PlannedModule]) -> str:
    """The table in plain text, numbers flush right."""
    lines = [HEADER, *rows(modules)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_html(modules: Sequence[PlannedModule], caption: str) -> str:
    """The table as HTML, as notebooks show it."""
    head = "".join(f"<th>{cell}</th>" for cell in HEADER)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(modules))
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
