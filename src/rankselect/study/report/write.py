"""Write the report of a study as one HTML page with inline figures, and as Markdown."""

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
    """Draw a figure as an SVG element for HTML.

    Text remains text, in the font of the page. Colors become the page's CSS variables, so that one drawing serves light
    and dark mode. Ids get the figure's name as a prefix, so that they are unique in a page with several drawings. Equal
    figures give equal text.

    Args:
        figure: The figure, drawn in the light colors of the palette.
        name: A name that is unique in the page.
        alt: A description, for readers who cannot see it.
        styles: The arms' styles.
    """
    import matplotlib as mpl  # optional

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    root = ET.fromstring(buffer.getvalue())  # noqa: S314  (written by matplotlib just above)
    text = ET.tostring(root, encoding="unicode")
    used = set(re.findall(r"#([\w-]+)", text))
    variables = {light: f"var(--{each})" for each, (light, _) in INKS.items()}
    variables |= {style.light: f"var(--{style.variable})" for style in styles}
    for element in root.iter():
        _adapt(element, name, used, variables)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt}
    return ET.tostring(root, encoding="unicode")


def _adapt(element: ET.Element, name: str, used: set[str], variables: dict[str, str]) -> None:
    """Adapt an element to HTML: no namespaces, only ids that are referred to, CSS variables for colors."""
    element.tag = _local(element.tag)
    identity = element.attrib.pop("id", "")
    attributes = {_local(key): value for key, value in element.attrib.items()}
    for key, value in attributes.items():
        if key == "href":
            attributes[key] = value.replace("#", f"#{name}-")
            continue
        changed = _FAMILY.sub("", _FONT.sub(r"font-size: \1", value))
        changed = changed.replace("url(#", f"url(#{name}-")
        for color, variable in variables.items():
            changed = changed.replace(color, variable)
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

    The page needs no network and no other file: you can open it from disk, send it, and print it. The report of an
    unfinished study lists what is missing.

    Args:
        results: The results of the study.
        folder: Where to write; it is created if it does not exist. By default, the study's folder.
        n_questions: The number of test questions to show with the reference answer and the answers of all arms. With 0,
            the report contains none of your data, and you can pass it on.

    Returns:
        The two files.

    Raises:
        ArgumentError: If `n_questions` is below 0.
        MissingExtraError: If matplotlib or pandas is not installed.
        FileFormatError: From `StudyResults.load`, if the folder contains no study.

    Example:
        >>> from rankselect.study.analysis.results import StudyResults
        >>> write_report(StudyResults.load("no such folder"))
        Traceback (most recent call last):
            ...
        rankselect.errors.FileFormatError: expected ...
    """
    if n_questions < 0:
        raise ArgumentError("n_questions of at least 0", repr(n_questions), "Use 0 to leave out all answers.")
    into = results.folder if folder is None else Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    report = compose(results, n_questions)
    page, text = into / "report.html", into / "report.md"
    write_text(page, html_page(report))
    save_figures(report, into)
    write_text(text, markdown_text(report))
    return [page, text]


def html_page(report: Report) -> str:
    """Write a report as HTML with inline style, script and drawings; all texts are escaped.

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
