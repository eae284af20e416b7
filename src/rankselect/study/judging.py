"""Ranking a study's arms with a language model that judges their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.errors import DataError
from rankselect.study.folder import StudyFolder

if TYPE_CHECKING:
    from rankselect.metrics.judge import JudgeResult, LLMJudge
    from rankselect.study.analysis.results import StudyResults

__all__ = ["judge_answers"]


def judge_answers(results: StudyResults, judge: LLMJudge, *, progress: bool = True) -> JudgeResult:
    """Let a judge rank a study's arms, and save the ranking in the study's folder, where the report finds it.

    All arms are judged on the same questions. Each question uses the answers of one training seed: with n seeds, seed k
    answers every n-th question. The ranking therefore does not depend on a single training, and costs no more than
    judging one seed. Only answers generated with dropout off are judged.

    Args:
        results: A study's results, with at least two arms that have answers.
        judge: The judge. With a cache, an interrupted ranking resumes where it stopped.
        progress: Show a progress bar.

    Returns:
        The ranking, which is also saved in ``judge.json``. Load the results again to see it in `StudyResults.rankings`.

    Raises:
        DataError: If there are fewer than two arms with answers, or no seed that all arms have answers for.
        EndpointError: If the judge cannot be reached, or refuses a request.
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
    common = [by_seed[seed] for seed in sorted(by_seed) if by_seed[seed].keys() == arms]
    if len(arms) < 2 or not common:
        raise DataError(
            "at least two arms with answers, and a seed that all of them were trained with",
            f"{len(arms)} arms and {len(common)} such seeds",
            "Run the study to its end, then judge it.",
        )
    n_questions = len(results.rows)
    answers = {arm: [common[index % len(common)][arm][index] for index in range(n_questions)] for arm in sorted(arms)}
    found = judge.rank(
        [row["question"] for row in results.rows], answers, [row["answer"] for row in results.rows], progress=progress
    )
    StudyFolder(results.folder).keep_judge(found)
    return found
