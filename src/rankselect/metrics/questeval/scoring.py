"""Scores from questions and their answers: pure arithmetic, in the same order of operations as the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from rankselect.metrics.squad import squad_f1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.metrics.questeval.questions import Example, QuestionAnswers

__all__ = ["REDUCTIONS", "SCORES", "ExampleScore", "TextComparison", "example_score"]

SCORES = ("answerability", "bertscore", "f1")
REDUCTIONS = ("max", "mean", "min")


@final
@dataclass(frozen=True)
class TextComparison:
    """One hypothesis against its source or one of its references.

    Attributes:
        against: ``"source"``, or ``"reference 1"``, ``"reference 2"``, …
        recall: How well the hypothesis answers the questions about the other text, from 0 to 1.
        precision: How well the other text answers the questions about the hypothesis.
        score: The arithmetic mean of both; 0 if either text is empty.
        n_recall_questions: The number of questions behind `recall`; without any, `recall` is 0.
        n_precision_questions: The number of questions behind `precision`; likewise.
    """

    against: str
    recall: float
    precision: float
    score: float
    n_recall_questions: int
    n_precision_questions: int


@final
@dataclass(frozen=True)
class ExampleScore:
    """One hypothesis against all texts that it was compared with.

    Attributes:
        score: The reduced score of the comparisons (by default, the best one).
        recall: The recall of the comparison with that score, or the mean.
        precision: The precision of the comparison with that score, or the mean.
        comparisons: The source first, if there is one, then the references in their order.
    """

    score: float
    recall: float
    precision: float
    comparisons: tuple[TextComparison, ...]


def example_score(example: Example, asked: QuestionAnswers, scores: Sequence[str], reduction: str) -> ExampleScore:
    """Score one example.

    Args:
        example: The hypothesis and the texts it is compared with.
        asked: The questions about all texts, and their answers.
        scores: Which scores of a question are pooled.
        reduction: ``"max"``, ``"mean"`` or ``"min"`` over the comparisons.
    """
    rows = tuple(_comparison(name, example.hypothesis, text, asked, scores) for name, text in example.compared())
    if reduction == "mean":
        score, recall, precision = (
            float(np.average(values)) for values in zip(*((r.score, r.recall, r.precision) for r in rows), strict=True)
        )
        return ExampleScore(score, recall, precision, rows)
    choose = max if reduction == "max" else min
    chosen = choose(rows, key=lambda row: row.score)
    return ExampleScore(chosen.score, chosen.recall, chosen.precision, rows)


def _comparison(name: str, hypothesis: str, text: str, asked: QuestionAnswers, scores: Sequence[str]) -> TextComparison:
    if not hypothesis or not text:
        return TextComparison(name, recall=0.0, precision=0.0, score=0.0, n_recall_questions=0, n_precision_questions=0)
    recall = _side_score(text, hypothesis, asked, scores)
    precision = _side_score(hypothesis, text, asked, scores)
    score = float(np.average([recall, precision]))
    return TextComparison(name, recall, precision, score, len(asked.questions[text]), len(asked.questions[hypothesis]))


def _side_score(source: str, target: str, asked: QuestionAnswers, scores: Sequence[str]) -> float:
    """Return how well the text `target` answers the questions about the text `source`."""
    questions = asked.questions[source]
    if not questions:
        return 0.0
    weights = asked.weights(source)
    pooled: list[float] = []
    for score in scores:
        for (question, expected), weight in zip(questions, weights, strict=True):
            found = asked.answers[question, target]
            if score == "answerability":
                value = found.answerability
            elif score == "f1":
                value = squad_f1(found.text, expected)
            else:
                value = asked.similarities[found.text, expected]
            pooled.append(min(max(value, 0.0), 1.0) * weight)
    return float(np.average(pooled))
