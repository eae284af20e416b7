"""Writes the report of a study: a page with its drawings inside, and Markdown."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rankselect.errors import ArgumentError
from rankselect.files import write_text
from rankselect.study.report.compose import compose
from rankselect.study.report.markdown import markdown_text, save_figures
from rankselect.study.report.palette import INKS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from matplotlib.figure import Figure

    from rankselect.study.analysis.results import StudyResults
    from rankselect.study.report.content import Report
    from rankselect.study.report.palette import ArmStyle

__all__ = ["html_page", "inline_svg", "write_report"]

_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_FONT = re.compile(r"font: (?:[a-z0-9]+ )*?([\d.]+px)[^;]*")
_FAMILY = re.compile(r"font-family: [^;]*;? ?")


def inline_svg(figure: Figure, name: str, alt: str, styles: Iterable[ArmStyle]) -> str:
    """Draw a figure as an SVG element to be put into HTML.

    Text stays text, in the font of the page; colours become the page's variables, so that one drawing serves light
    and dark; ids get the figure's name in front, so that several drawings share a page. Equal figures give equal text.

    Args:
        figure: The figure, drawn in the light colours of the palette.
        name: A name that no other figure of the page has.
        alt: What it shows, for those who do not see it.
        styles: The arms' styles.
    """
    import matplotlib as mpl  # optional

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    root = ET.fromstring(buffer.getvalue())  # noqa: S314  (what matplotlib just wrote)
    text = ET.tostring(root, encoding="unicode")
    used = set(re.findall(r"#([\w-]+)", text))
    variables = {light: f"var(--{each})" for each, (light, _) in INKS.items()}
    variables |= {style.light: f"var(--{style.variable})" for style in styles}
    for element in root.iter():
        _adapt(element, name, used, variables)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt}
    return ET.tostring(root, encoding="unicode")


def _adapt(element: ET.Element, name: str, used: set[str], variables: dict[str, str]) -> None:
    """Make an element one of HTML: no name spaces, no ids but those referred to, variables for colours."""
    element.tag = _local(element.tag)
    identity = element.attrib.pop("id", "")
    attributes = {_local(key): value for key, value in element.attrib.items()}
    for key, value in attributes.items():
        if key == "href":
            attributes[key] = value.replace("#", f"#{name}-")
            continue
        changed = _FAMILY.sub("", _FONT.sub(r"font-size: \1", value))
        changed = changed.replace("url(#", f"url(#{name}-")
        for colour, variable in variables.items():
            changed = changed.replace(colour, variable)
        attributes[key] = changed
    if identity in used:
        attributes["id"] = f"{name}-{identity}"
    element.attrib = attributes


def _local(name: str) -> str:
    return name.rpartition("}")[2]


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
