"""Lets a language model rank a study's arms by the answers they gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.errors import DataError
from rankselect.study.folder import StudyFolder

if TYPE_CHECKING:
    from rankselect.metrics.judge import JudgeResult, LLMJudge
    from rankselect.study.analysis.results import StudyResults

__all__ = ["judge_answers"]


def judge_answers(results: StudyResults, judge: LLMJudge, *, progress: bool = True) -> JudgeResult:
    """Let a judge rank a study's arms, and keep the ranking in the study's folder, where reports find it.

    All arms are judged on the same questions, each with the answer of one training seed: the seeds take turns over the
    questions, so that the ranking does not depend on a single training and costs no more than one seed would.
    Answers are those generated with dropout off.

    Args:
        results: A study's results, with at least two arms that have answers.
        judge: Who judges. With a cache, an interrupted ranking goes on where it stopped.
        progress: Show a progress bar.

    Returns:
        The ranking, which is also in ``judge.json``; load the results again to see it in `StudyResults.rankings`.

    Raises:
        DataError: If there are not two arms with answers of the same seeds.
        EndpointError: If the judge cannot be reached, or refuses.
        SaveError: If the ranking cannot be written.

    Example:
        >>> judge = rs.LLMJudge("a-model", base_url="http://127.0.0.1:8000/v1", cache="verdicts")  # doctest: +SKIP
        >>> judge_answers(rs.StudyResults.load("study"), judge)  # doctest: +SKIP
    """
    by_seed: dict[int, dict[str, list[str]]] = {}
    for each in results.final:
        texts = [answer["text"] for answer in each.answers["dropout_off"]]
        by_seed.setdefault(each.run.seed, {})[each.run.arm] = texts
    arms = {each.run.arm for each in results.final}
    whole = [by_seed[seed] for seed in sorted(by_seed) if by_seed[seed].keys() == arms]
    if len(arms) < 2 or not whole:
        raise DataError(
            "at least two arms with answers, and a seed with which all of them have been trained",
            f"{len(arms)} arms and {len(whole)} such seeds",
            "Run the study until it is whole, and judge then.",
        )
    n_questions = len(results.rows)
    answers = {arm: [whole[index % len(whole)][arm][index] for index in range(n_questions)] for arm in sorted(arms)}
    found = judge.rank(
        [row["question"] for row in results.rows], answers, [row["answer"] for row in results.rows], progress=progress
    )
    StudyFolder(results.folder).keep_judge(found)
    return found
