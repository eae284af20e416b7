"""A report as one HTML page that opens from disk and needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rankselect.study.report.palette import INKS
from rankselect.study.report.svg import inline_svg

if TYPE_CHECKING:
    from rankselect.study.report.content import Report

__all__ = ["html_page"]


def html_page(report: Report) -> str:
    """Write a report as HTML; every text is escaped, and style, script and drawings are in the page.

    Args:
        report: The report.
    """
    styles = report.styles.values()
    drawings = {
        each.name: Markup(inline_svg(each.figure, each.name, each.alt, styles))  # noqa: S704  (escaped by the writer)
        for each in report.pictures
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html")
    return page.render(report=report, styles=report.styles, inks=INKS, drawings=drawings)
