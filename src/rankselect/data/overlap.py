"""When two texts are the same, and a warning of test questions that are trained on."""

from __future__ import annotations

import unicodedata
import warnings
from typing import TYPE_CHECKING

from rankselect.errors import RankSelectWarning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rankselect.data.prompts import QuestionAnswer

__all__ = ["comparable", "warn_of_overlap"]


def comparable(text: str) -> str:
    """Return a form of a text that is equal for two texts if they count as the same text.

    White space, case, the Unicode form, and punctuation at the end do not count.

    Example:
        >>> comparable(" What  is ACNE? ") == comparable("What is acne") == "what is acne"
        True
        >>> comparable("Caf\u00e9.") == comparable("CAFE\u0301")
        True
        >>> comparable("?!")  # a text of nothing else keeps it
        '?!'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded = " ".join(folded.split())
    end = len(folded)
    while end and (folded[end - 1] == " " or unicodedata.category(folded[end - 1]).startswith("P")):
        end -= 1
    return folded[:end] or folded


def warn_of_overlap(train: Iterable[QuestionAnswer], evaluation: Iterable[QuestionAnswer]) -> None:
    """Warn of evaluation questions that are in the training data too.

    See `comparable` for when two questions are the same.

    Args:
        train: The rows that are trained on.
        evaluation: The rows that are evaluated.

    Warns:
        RankSelectWarning: If there are such questions: how many, and the first.

    Example:
        >>> import warnings
        >>> from rankselect.data.prompts import QuestionAnswer
        >>> rows = [QuestionAnswer("What is acne?", "A disease.")]
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_overlap(rows, rows)
        >>> print(caught[0].message)
        1 of 1 evaluation questions are in the training data too, for example 'What is acne?': scores will be too high.
    """
    known = {comparable(row.question) for row in train}
    questions = [row.question for row in evaluation]
    shared = [question for question in questions if comparable(question) in known]
    if shared:
        warnings.warn(
            f"{len(shared)} of {len(questions)} evaluation questions are in the training data too, for example "
            f"{shared[0]!r}: scores will be too high.",
            RankSelectWarning,
            stacklevel=2,
        )
