"""The questions and answers that come with the package, dealt out to those who must not share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rankselect.embedded.medical_qa import medical_qa
from rankselect.training.rows import load_rows

if TYPE_CHECKING:
    from rankselect.training.question_answer import QuestionAnswer

__all__ = ["EMBEDDED", "embedded_rows"]

EMBEDDED = "medical-qa"
"""The name by which a study's config means them."""

_TEST = 5  # every so many conditions


def embedded_rows(part: Literal["base", "train", "test"]) -> list[QuestionAnswer]:
    """The rows about some of the conditions; those of two parts have none in common.

    Args:
        part: ``"test"`` is every fifth condition, to score on. Of the others, every second is ``"base"``, from which
            the small model learns, and the rest ``"train"``, for adapters: an adapter that trains on what its base has
            learned by heart has nothing to learn.

    Example:
        >>> [len(embedded_rows(part)) for part in ("base", "train", "test")]
        [408, 408, 208]
    """
    pairs = medical_qa()
    conditions = sorted({pair.condition for pair in pairs})
    test = set(conditions[::_TEST])
    others = [condition for condition in conditions if condition not in test]
    base = set(others[::2])
    part_of = {each: "test" if each in test else "base" if each in base else "train" for each in conditions}
    return load_rows([pair for pair in pairs if part_of[pair.condition] == part])
