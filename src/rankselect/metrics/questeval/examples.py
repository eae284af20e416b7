"""What is compared with what: hypotheses with their sources and references, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, final

from rankselect.errors import MetricError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Example", "checked_examples"]

Value = TypeVar("Value")


@final
@dataclass(frozen=True)
class Example:
    """One hypothesis and the texts it is compared with.

    Attributes:
        hypothesis: The text to be scored.
        source: The text it was made from, if given.
        references: Right texts, as many for every example.
    """

    hypothesis: str
    source: str | None
    references: tuple[str, ...]

    def compared(self) -> list[tuple[str, str]]:
        """(name, text) of the source, if there is one, and of each reference."""
        source = [] if self.source is None else [("source", self.source)]
        return source + [(f"reference {number}", text) for number, text in enumerate(self.references, start=1)]


def checked_examples(
    hypotheses: Iterable[str],
    sources: Iterable[str] | None,
    references: Iterable[Iterable[str]] | None,
) -> list[Example]:
    """What was given, example by example, or one precise error.

    Raises:
        MetricError: If there is no example, nothing to compare with, lengths or numbers of references differ, or
            something is not text.
    """
    found = _texts(hypotheses, "hypotheses")
    if not found:
        raise MetricError("at least one hypothesis", "none", "A mean over nothing is not a number.")
    if sources is None and references is None:
        raise MetricError("sources, references, or both", "neither", "Give something to compare the hypotheses with.")
    origins = [None] * len(found) if sources is None else _same_number(_texts(sources, "sources"), "sources", found)
    rows = [()] * len(found) if references is None else _same_number(_rows(references), "rows of references", found)
    return [Example(*parts) for parts in zip(found, origins, rows, strict=True)]


def _same_number(values: Sequence[Value], name: str, hypotheses: Sequence[str]) -> Sequence[Value]:
    if len(values) != len(hypotheses):
        raise MetricError(
            f"{len(hypotheses)} {name}, one for each hypothesis", str(len(values)), "Give both in the same order."
        )
    return values


def _rows(references: Iterable[Iterable[str]]) -> list[tuple[str, ...]]:
    if isinstance(references, str):
        raise MetricError("a sequence of rows of references", "one string", "Write [[reference], ...].")
    rows = [_texts(row, f"the references at index {index}") for index, row in enumerate(_listed(references, "rows"))]
    numbers = sorted({len(row) for row in rows})
    if numbers and numbers[0] == 0:
        raise MetricError("at least one reference for each hypothesis", "none", "Leave references out altogether.")
    if len(numbers) > 1:
        raise MetricError(
            "the same number of references for each hypothesis",
            " and ".join(str(number) for number in numbers),
            "Repeat a reference where there are too few.",
        )
    return rows


def _texts(texts: Iterable[str], name: str) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise MetricError(f"a sequence of texts as {name}", "one string", "Put it into a list.")
    found = tuple(_listed(texts, name))
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise MetricError(f"text in {name}", f"{type(text).__name__} at index {index}", "Leave such examples out.")
    return found


def _listed(values: Iterable[Value], name: str) -> list[Value]:
    try:
        return list(values)
    except TypeError:
        raise MetricError(f"a sequence as {name}", type(values).__name__, "Give a list.") from None
