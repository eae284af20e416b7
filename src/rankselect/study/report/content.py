"""The content of a report, independent of its format: sections with texts, tables and figures, and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rankselect.study.report.palette import ArmStyle

__all__ = ["AnswerOfArm", "Fact", "Interval", "Picture", "Question", "Report", "Section", "Table"]


@final
@dataclass(frozen=True)
class Table:
    """A table whose cells are formatted texts.

    Attributes:
        caption: What it shows.
        columns: The titles of its columns; the first column names the row.
        rows: The formatted cells.
        texts: The columns after the first that contain text instead of numbers.
        note: An explanation below it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...] = ()
    note: str = ""


@final
@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: Its file name and anchor.
        caption: What it shows.
        alt: A description with the main numbers, for readers who cannot see it.
        figure: The drawing.
        note: An explanation below it.
    """

    name: str
    caption: str
    alt: str
    figure: Figure
    note: str = ""


@final
@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        name: Its anchor.
        title: Its heading.
        texts: Paragraphs.
        pictures: Figures.
        tables: Tables.
        items: Terms and their meanings.
    """

    name: str
    title: str
    texts: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    items: tuple[tuple[str, str], ...] = ()


@final
@dataclass(frozen=True)
class AnswerOfArm:
    """The answer of an arm to a question, with its scores in one line."""

    arm: str
    text: str
    scores: str


@final
@dataclass(frozen=True)
class Question:
    """A question, its reference answer, and the answer of every arm."""

    text: str
    reference: str
    answers: tuple[AnswerOfArm, ...]


@final
@dataclass(frozen=True)
class Fact:
    """A key number with its label."""

    value: str
    label: str


@final
@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        title: What was studied.
        setup: The size of the study, in one line.
        headline: The verdict in one sentence.
        reasons: The reasons for it, one sentence each.
        caveats: Its limitations, one sentence each.
        facts: Three to six key numbers.
        picture: The figure of the verdict; None without a comparison.
        questions: Questions with the answer of every arm; the page shows the first and unfolds the others.
        questions_note: How they were chosen.
        before: Sections before the answers.
        after: Sections after them.
        styles: The arms' styles.
    """

    title: str
    setup: str
    headline: str
    reasons: tuple[str, ...]
    caveats: tuple[str, ...]
    facts: tuple[Fact, ...]
    picture: Picture | None
    questions: tuple[Question, ...]
    questions_note: str
    before: tuple[Section, ...]
    after: tuple[Section, ...]
    styles: dict[str, ArmStyle]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Every figure of the report."""
        first = () if self.picture is None else (self.picture,)
        return first + tuple(picture for section in self.before + self.after for picture in section.pictures)


@final
@dataclass(frozen=True)
class Interval:
    """An arm's value with its interval.

    Attributes:
        arm: The arm's name.
        value: The value.
        low: The lower end of the interval; None without an interval, for example with one question.
        high: The upper end.
        x: Its coordinate on the other axis, if there is one.
    """

    arm: str
    value: float
    low: float | None
    high: float | None
    x: float = 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the interval; without one, the value twice."""
        return (self.value, self.value) if self.low is None or self.high is None else (self.low, self.high)

    @property
    def error(self) -> list[list[float]] | None:
        """Lengths of the error bar below and above the value, as matplotlib takes them; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return [[self.value - self.low], [self.high - self.value]]
