"""Write a report as Markdown, with its figures as separate files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rankselect.study.report.content import Picture, Question, Report, Section, Table

__all__ = ["FIGURES", "markdown_text", "save_figures"]

FIGURES = "figures"
"""The folder of the figures, next to the Markdown file."""

_DPI = 160
_SPECIAL = re.compile(r"([\\`*_\[\]<>&|~#$])")
_LIST = re.compile(r"^(\s*)([-+=]|\d+[.)])", re.MULTILINE)


def markdown_text(report: Report) -> str:
    """Write a report as Markdown (CommonMark with GitHub's tables); all texts are escaped.

    Args:
        report: The report.
    """
    return "\n\n".join(part for part in _parts(report) if part) + "\n"


def save_figures(report: Report, folder: Path) -> None:
    """Write the figures that `markdown_text` refers to, on a white background.

    Args:
        report: The report.
        folder: The folder of the Markdown file.
    """
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for picture in report.pictures:
        picture.figure.savefig(folder / FIGURES / f"{picture.name}.png", dpi=_DPI, facecolor="white")


def escaped(text: str) -> str:
    r"""Escape a text for Markdown, in one line.

    Example:
        >>> print(escaped("1 < 2 | # *yes*"))
        1 \< 2 \| \# \*yes\*
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _quoted(text: str) -> str:
    """Quote a text of several lines, with its line breaks."""
    lines = _SPECIAL.sub(r"\\\1", text.strip()).splitlines() or ["(an empty answer)"]
    return "\n".join("> " + _LIST.sub(_as_text, line.strip()) + "  " for line in lines)


def _as_text(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2][:-1]}\\{match[2][-1]}"


def _parts(report: Report) -> Iterator[str]:
    yield f"# {escaped(report.headline)}"
    yield f"{escaped(report.title)}. {escaped(report.setup)}"
    yield _list(report.reasons)
    if report.caveats:
        yield "Caveats:"
        yield _list(report.caveats)
    yield "\n".join(f"- **{escaped(fact.value)}**: {escaped(fact.label)}" for fact in report.facts)
    if report.picture is not None:
        yield _picture(report.picture)
    for section in report.before:
        yield from _section(section)
    if report.questions:
        yield "## Answers side by side"
        yield escaped(report.questions_note)
        yield from _question(report.questions[0])
        for question in report.questions[1:]:
            yield f"<details>\n<summary>{_as_html(question.text)}</summary>"
            yield from _question(question)
            yield "</details>"
    for section in report.after:
        yield from _section(section)


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(text)}" for text in texts)


def _section(section: Section) -> Iterator[str]:
    yield f"## {escaped(section.title)}"
    yield from map(escaped, section.texts)
    yield from map(_picture, section.pictures)
    for table in section.tables:
        yield from _table(table)
    yield "\n".join(f"- **{escaped(term)}**: {escaped(meaning)}" for term, meaning in section.items)


def _picture(picture: Picture) -> str:
    image = f"![{escaped(picture.alt)}]({FIGURES}/{picture.name}.png)"
    return "\n\n".join(filter(None, [f"**{escaped(picture.caption)}**", image, escaped(picture.note)]))


def _table(table: Table) -> Iterator[str]:
    yield f"**{escaped(table.caption)}**"
    rule = [":--" if column in (table.columns[0], *table.texts) else "--:" for column in table.columns]
    rows = [[escaped(cell) for cell in row] for row in (table.columns, *table.rows)]
    yield "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])
    yield escaped(table.note)


def _question(question: Question) -> Iterator[str]:
    yield f"**{escaped(question.text)}**"
    yield f"Reference answer:\n\n{_quoted(question.reference)}"
    for answer in question.answers:
        yield f"{escaped(answer.arm)} ({escaped(answer.scores)}):\n\n{_quoted(answer.text)}"


def _as_html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
