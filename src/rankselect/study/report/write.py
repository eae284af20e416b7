"""Writes the report of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rankselect.errors import ArgumentError
from rankselect.files import write_text
from rankselect.study.report.compose import compose
from rankselect.study.report.markdown import markdown_text, save_figures
from rankselect.study.report.palette import INKS
from rankselect.study.report.svg import inline_svg

if TYPE_CHECKING:
    import os

    from rankselect.study.analysis.results import StudyResults
    from rankselect.study.report.content import Report

__all__ = ["html_page", "write_report"]


def write_report(
    results: StudyResults, folder: str | os.PathLike[str] | None = None, *, n_questions: int = 25
) -> list[Path]:
    """Write the report of a study: ``report.html``, and ``report.md`` with its ``figures``.

    The page needs no network and no other file: it can be opened from disk, sent, and printed. The report of a study
    that is not finished says what is missing.

    Args:
        results: What the study found.
        folder: Where to write; it is made if it does not exist. The study's folder if left out.
        n_questions: How many of the test's questions to show with the right answer and every arm's. 0 makes a report
            that holds none of your data, for passing on.

    Returns:
        The two files.

    Raises:
        ArgumentError: If `n_questions` is below 0.
        MissingExtraError: If matplotlib or pandas is not installed.
        FileFormatError: From `StudyResults.load`, where there is no study.

    Example:
        >>> from rankselect.study.analysis.results import StudyResults
        >>> write_report(StudyResults.load("no such folder"))
        Traceback (most recent call last):
            ...
        rankselect.errors.FileFormatError: expected ...
    """
    if n_questions < 0:
        raise ArgumentError("n_questions of at least 0", repr(n_questions), "0 leaves all answers out.")
    into = results.folder if folder is None else Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    report = compose(results, n_questions)
    page, text = into / "report.html", into / "report.md"
    write_text(page, html_page(report))
    save_figures(report, into)
    write_text(text, markdown_text(report))
    return [page, text]


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
