"""Test questions, each with the answer of every arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankselect.study.report.content import AnswerOfArm, Question
from rankselect.study.report.wording import number, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.study.run import RunResult

__all__ = ["questions_of"]

_CONDITION = "dropout_off"


def questions_of(
    rows: Sequence[Mapping[str, str]], arms: Mapping[str, Sequence[RunResult]], metric: str, n: int
) -> tuple[tuple[Question, ...], str]:
    """Choose the questions that a report shows, and describe the choice.

    The first is the question with the median score; the others are evenly spaced over the test rows.

    Args:
        rows: The test rows: ``{"question", "answer"}``.
        arms: The results of each arm; the first seed's answers are shown.
        metric: The metric of the median.
        n: The maximum number of questions; all answers are in the files of the runs.
    """
    shown = {arm: results[0] for arm, results in arms.items() if results[0].answers.get(_CONDITION)}
    if not rows or not shown or not n:
        return (), ""
    order = _order(len(rows), n, [each.scores.get(_CONDITION, {}).get(metric) for each in shown.values()])
    questions = tuple(
        Question(rows[index]["question"], rows[index]["answer"], tuple(_answers(shown, index))) for index in order
    )
    seeds = {each.run.seed for each in shown.values()}
    seed = f"seed {seeds.pop()}" if len(seeds) == 1 else "their first seed"
    note = f"Answers of each arm, trained with {seed}. The first question has the median {metric}; "
    rest = (
        "the others follow in order." if len(order) == len(rows) else "the others are evenly spaced over the test rows."
    )
    return questions, f"{note}{rest} {plural(len(order), 'question')} of {len(rows)}."


def _order(n_rows: int, n: int, scores: Sequence[list[float] | None]) -> list[int]:
    of_each = [np.asarray(values, dtype=np.float64) for values in scores if values]
    means = np.mean([values if values.ndim == 1 else values.mean(axis=0) for values in of_each], axis=0)
    first = int(np.argsort(means, kind="stable")[n_rows // 2]) if of_each else 0
    others = [index for index in range(n_rows) if index != first]
    kept = np.unique(np.linspace(0, len(others) - 1, min(len(others), n - 1)).round().astype(int))
    return [first, *(others[index] for index in kept.tolist())]


def _answers(shown: Mapping[str, RunResult], index: int) -> list[AnswerOfArm]:
    answers = []
    for arm, result in shown.items():
        scores = {
            metric: values[index]
            for metric, values in result.scores.get(_CONDITION, {}).items()
            if values and not isinstance(values[0], list)
        }
        line = ", ".join(f"{metric} {number(value)}" for metric, value in scores.items())
        answer = result.answers[_CONDITION][index]
        cut = ", cut off at max_new_tokens" if answer["stopped_by"] == "length" else ""
        answers.append(AnswerOfArm(arm, answer["text"], f"{line}{cut}"))
    return answers
