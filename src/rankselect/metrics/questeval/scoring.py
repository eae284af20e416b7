"""From questions and their answers to a score; pure arithmetic, in the original's order of operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankselect.metrics.questeval.results import ExampleScore, TextComparison
from rankselect.metrics.token_f1 import token_f1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.metrics.questeval.asking import Interview
    from rankselect.metrics.questeval.examples import Example

__all__ = ["REDUCTIONS", "SCORES", "example_score"]

SCORES = ("answerability", "bertscore", "f1")
REDUCTIONS = ("max", "mean", "min")


def example_score(example: Example, interview: Interview, scores: Sequence[str], reduction: str) -> ExampleScore:
    """The score of one example.

    Args:
        example: The hypothesis and the texts it is compared with.
        interview: The questions of all texts and who answered what.
        scores: Which scores of a question are pooled.
        reduction: ``"max"``, ``"mean"`` or ``"min"`` over the comparisons.
    """
    rows = tuple(_comparison(name, example.hypothesis, text, interview, scores) for name, text in example.compared())
    if reduction == "mean":
        score, recall, precision = (
            float(np.average(values)) for values in zip(*((r.score, r.recall, r.precision) for r in rows), strict=True)
        )
        return ExampleScore(score, recall, precision, rows)
    choose = max if reduction == "max" else min
    chosen = choose(rows, key=lambda row: row.score)
    return ExampleScore(chosen.score, chosen.recall, chosen.precision, rows)


def _comparison(name: str, hypothesis: str, text: str, interview: Interview, scores: Sequence[str]) -> TextComparison:
    if not hypothesis or not text:
        return TextComparison(name, recall=0.0, precision=0.0, score=0.0, n_recall_questions=0, n_precision_questions=0)
    recall = _side_score(hypothesis, text, interview, scores)
    precision = _side_score(text, hypothesis, interview, scores)
    score = float(np.average([recall, precision]))
    return TextComparison(
        name, recall, precision, score, len(interview.questions[text]), len(interview.questions[hypothesis])
    )


def _side_score(asked: str, questioning: str, interview: Interview, scores: Sequence[str]) -> float:
    """How well the text `asked` answers the questions of the text `questioning`."""
    questions = interview.questions[questioning]
    if not questions:
        return 0.0
    weights = interview.weights(questioning)
    pooled: list[float] = []
    for score in scores:
        for (question, wanted), weight in zip(questions, weights, strict=True):
            found = interview.answers[question, asked]
            if score == "answerability":
                value = found.answerability
            elif score == "f1":
                value = token_f1(found.text, wanted)
            else:
                value = interview.similarities[found.text, wanted]
            pooled.append(min(max(value, 0.0), 1.0) * weight)
    return float(np.average(pooled))
