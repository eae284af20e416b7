"""Who is compared on which question: every pair of arms, in a seeded random order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, final

import numpy as np

from rankselect.errors import MetricError
from rankselect.metrics.judge.prompt import judge_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["JudgedAnswers", "Pairing", "checked_judged_answers", "pairings"]


@final
@dataclass(frozen=True)
class Pairing:
    """Two arms to be compared on one question.

    Attributes:
        question: The index of the question.
        arms: The two arms; the first is shown first in the first of the two calls.

    Example:
        >>> Pairing(3, ("rank 8", "rank 64")).orders
        (('rank 8', 'rank 64'), ('rank 64', 'rank 8'))
    """

    question: int
    arms: tuple[str, str]

    @property
    def orders(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The two orders in which their answers are shown."""
        return self.arms, (self.arms[1], self.arms[0])


@final
@dataclass(frozen=True)
class JudgedAnswers:
    """What is put before the judge.

    Attributes:
        questions: n questions.
        answers: ``{arm: its n answers}``.
        references: n right answers, or None.

    Example:
        >>> judged = JudgedAnswers(("Why?",), {"x": ("So.",), "y": ("So.",)}, None)
        >>> judged.identical(Pairing(0, ("x", "y")))
        True
    """

    questions: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]]
    references: tuple[str, ...] | None

    def identical(self, pairing: Pairing) -> bool:
        """Whether the two arms gave the same text."""
        one, other = (self.answers[arm][pairing.question] for arm in pairing.arms)
        return one == other

    def prompt(self, question: int, first: str, second: str, criteria: str) -> str:
        """The prompt that shows the answer of the arm `first` as A and that of `second` as B."""
        reference = None if self.references is None else self.references[question]
        answer_a, answer_b = (self.answers[arm][question] for arm in (first, second))
        return judge_prompt(self.questions[question], answer_a, answer_b, reference, criteria)


def checked_judged_answers(
    questions: Sequence[str], answers: Mapping[str, Sequence[str]], references: Sequence[str] | None
) -> JudgedAnswers:
    """What was given, or one precise error.

    Raises:
        MetricError: If there are fewer than two arms, no questions, lengths differ, or something is not text.

    Example:
        >>> checked_judged_answers(["Why?"], {"x": ["So."], "y": ["Thus."]}, None).questions
        ('Why?',)
    """
    if len(answers) < 2:
        raise MetricError("the answers of at least 2 arms", f"those of {len(answers)}", "Pass {arm: answers}.")
    if not len(questions):
        raise MetricError("at least one question", "none", "Pass the questions that the arms answered.")
    columns = {"questions": questions, **{f"answers of {arm!r}": texts for arm, texts in answers.items()}}
    if references is not None:
        columns["references"] = references
    for name, texts in columns.items():
        _check_texts(name, texts, len(questions))
    return JudgedAnswers(
        _sendable(questions),
        {arm: _sendable(texts) for arm, texts in answers.items()},
        None if references is None else _sendable(references),
    )


def _sendable(texts: Sequence[str]) -> tuple[str, ...]:
    """The texts without halves of surrogate pairs, which no request can hold."""
    return tuple(text.encode("utf-8", "replace").decode() for text in texts)


def _check_texts(name: str, texts: Sequence[str], n: int) -> None:
    if isinstance(texts, str):
        raise MetricError(f"a sequence of texts as {name}", "one string", "Put it into a list.")
    if len(texts) != n:
        raise MetricError(f"{n} {name}, one for each question", str(len(texts)), "Give all in the same order.")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise MetricError(
                f"text in the {name}", f"{type(text).__name__} at index {index}", "An empty string is an answer too."
            )


def pairings(arms: Sequence[str], n_questions: int, max_questions: int | None, seed: int) -> list[Pairing]:
    """Every pair of arms on every question, shuffled, so that the part of a run that was cut off is a random one.

    Args:
        arms: The arms.
        n_questions: How many questions there are.
        max_questions: Draw so many of them at random; None takes all. Which ones does not depend on the arms.
        seed: Decides the questions, the order of the pairings and who is shown first in the first call of each.

    Example:
        >>> [(each.question, each.arms) for each in pairings(["x", "y"], 3, 2, seed=0)]
        [(2, ('x', 'y')), (0, ('x', 'y'))]
    """
    chosen = np.random.default_rng(seed).permutation(n_questions)[:max_questions].tolist()
    generator = np.random.default_rng([seed, 1])
    pairs = [(question, *pair) for question in sorted(chosen) for pair in combinations(arms, 2)]
    swapped = generator.random(len(pairs)) < 0.5
    made = [
        Pairing(question, (second, first) if swap else (first, second))
        for (question, first, second), swap in zip(pairs, swapped, strict=True)
    ]
    return [made[index] for index in generator.permutation(len(made))]
