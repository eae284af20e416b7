"""What a report is made of, whatever it is written as: sections of texts, tables and figures, and answers."""

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
    """A table of texts.

    Attributes:
        caption: What it shows.
        columns: The titles of its columns; the first column names the row.
        rows: The cells, as they are shown.
        texts: The columns after the first that hold texts and not numbers.
        note: What must be known to read it.
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
        name: Its name as a file and as an anchor.
        caption: What it shows.
        alt: What is seen in it, with the numbers that matter, for those who do not see it.
        figure: The drawing.
        note: What must be known to read it.
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
        items: Terms and what they mean.
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
    """What an arm answered to a question: the arm's name, the text, and its scores in one line."""

    arm: str
    text: str
    scores: str


@final
@dataclass(frozen=True)
class Question:
    """A question, the right answer, and every arm's."""

    text: str
    reference: str
    answers: tuple[AnswerOfArm, ...]


@final
@dataclass(frozen=True)
class Fact:
    """A number that matters, with what it is."""

    value: str
    label: str


@final
@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        title: What was studied.
        setup: What was compared, in one line.
        headline: The answer in one sentence.
        reasons: Why, a sentence each.
        caveats: What to beware of, a sentence each.
        facts: The three to six numbers that matter.
        picture: The figure that shows the answer; None if nothing can be compared.
        questions: Questions with every arm's answer, the first for everyone, more on demand.
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
        low: The lower end of the interval; None if there is none, as of one question.
        high: Its upper end.
        x: Where it stands on the other axis, if there is one.
    """

    arm: str
    value: float
    low: float | None
    high: float | None
    x: float = 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the interval; the value itself, twice, if there is none."""
        return (self.value, self.value) if self.low is None or self.high is None else (self.low, self.high)

    @property
    def error(self) -> list[list[float]] | None:
        """The lengths of an error bar below and above the value, as matplotlib takes them; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return [[self.value - self.low], [self.high - self.value]]
