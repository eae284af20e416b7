"""A figure as a drawing inside the page: the page's font and colours, light or dark, and a description for readers."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from rankselect.study.report.palette import INKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.figure import Figure

    from rankselect.study.report.palette import ArmStyle

__all__ = ["inline_svg"]

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
