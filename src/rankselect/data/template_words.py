"""A warning of answers that contain the template's own words."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from rankselect.errors import RankSelectWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.data.prompts import PromptTemplate, QuestionAnswer

__all__ = ["stop_pattern", "warn_of_template_words"]


def stop_pattern(stops: Sequence[str], anywhere: Sequence[str] = ()) -> re.Pattern[str]:
    """Finds stop texts: at the beginning of a line or after white space, and those of `anywhere` in any place.

    Example:
        >>> stop_pattern(["Q:"]).search("A low IQ: 70"), stop_pattern(["Q:"], ["Q:"]).search("A low IQ: 70").start()
        (None, 7)
    """
    alternatives = []
    for stop in stops:
        follows_space = stop not in anywhere and not stop[0].isspace()
        alternatives.append((r"(?<!\S)" if follows_space else "") + re.escape(stop))
    return re.compile("|".join(alternatives) or r"(?!)")


def warn_of_template_words(rows: Sequence[QuestionAnswer], template: PromptTemplate) -> None:
    r"""Warn of answers in which a generated answer would end, or which hold other words of the template.

    Args:
        rows: Rows of question and answer.
        template: The template that they are written with.

    Warns:
        RankSelectWarning: If there are such answers: how many hold which words, and the first row.

    Example:
        >>> import warnings
        >>> from rankselect.data.prompts import PromptTemplate, QuestionAnswer
        >>> rows = [QuestionAnswer("Why?", "So."), QuestionAnswer("How?", "See FAQ. Q: and A:")]
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_template_words(rows, PromptTemplate("Q: {question}\nA: {answer}"))
        >>> print(str(caught[0].message).partition(". ")[0])
        Answers contain the template's own words: 'Q:' in 1 of 2 (first in row 1), 'A:' in 1 of 2 (first in row 1)
    """
    found = []
    for words in dict.fromkeys((*template.stop, *template.own_words)):
        pattern = stop_pattern([words], template.stop_anywhere)
        having = [index for index, row in enumerate(rows) if words in row.answer and pattern.search(row.answer)]
        if having:
            found.append(f"{words!r} in {len(having):,} of {len(rows):,} (first in row {having[0]})")
    if found:
        stops = ", ".join(map(repr, template.stop))
        warnings.warn(
            f"Answers contain the template's own words: {', '.join(found)}. A generated answer ends before the first "
            f"of its stop texts ({stops or 'none'}): choose words that no answer contains, or other stop texts.",
            RankSelectWarning,
            stacklevel=3,
        )
