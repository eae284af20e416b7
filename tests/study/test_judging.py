"""A judge over a study's answers: who is asked about what, and what stands in the report after it."""

from __future__ import annotations

import json
import re

import pytest

from rankselect.errors import DataError, FileFormatError
from rankselect.metrics.judge import LLMJudge
from rankselect.study.analysis.results import StudyResults
from rankselect.study.judging import judge_answers
from rankselect.study.report.write import write_report
from study.synthetic_study import ARMS, write_synthetic_study


@pytest.fixture
def folder(tmp_path):
    write_synthetic_study(tmp_path, arms=ARMS[:4], n_questions=12)
    return tmp_path


def first_is_better(messages):
    return "[[A]]"


def test_the_ranking_is_in_the_results_and_in_the_report(folder):
    results = StudyResults.load(folder)
    assert results.judge is None

    def longer(messages):
        first, second = re.findall(r"<answer [AB]>(.*?)</answer", messages[0]["content"], re.DOTALL)
        return "[[A]]" if len(first) > len(second) else "[[B]]" if len(first) < len(second) else "[[tie]]"

    found = judge_answers(results, LLMJudge("the longer", complete=longer, max_questions=5), progress=False)
    again = StudyResults.load(folder)
    assert list(again.rankings["judge"]["arm"]) == [arm.arm for arm in found.ranking]
    assert set(found.arms) == set(again.arms)
    write_report(again, folder)
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "By judge" in page
    assert f"{len(found.comparisons)} comparisons of two answers, judged in both orders" in page


def test_every_seed_is_judged_each_on_its_questions(folder):
    results = StudyResults.load(folder)
    seeds = sorted({each.run.seed for each in results.final})
    assert len(seeds) > 1
    asked = {}

    def noting(messages):
        prompt = messages[0]["content"]
        number = next(n for n, row in enumerate(results.rows) if row["question"] in prompt)
        asked.setdefault(number, []).append(prompt)
        return "[[tie]]"

    judge_answers(results, LLMJudge("a tie", complete=noting), progress=False)
    written = {(each.run.arm, each.run.seed): each.answers["dropout_off"] for each in results.final}
    assert sorted(asked) == list(range(len(results.rows)))
    for number, prompts in asked.items():
        own = {written[arm, seeds[number % len(seeds)]][number]["text"].strip() for arm in results.arms}
        shown = {
            text.strip() for each in prompts for text in re.findall(r"<answer [AB]>(.*?)</answer", each, re.DOTALL)
        }
        assert shown <= own


def test_a_judge_that_goes_by_position_is_said_to(folder):
    with pytest.warns(match="the position of an answer influences this judge more than its content"):
        judge_answers(StudyResults.load(folder), LLMJudge("first", complete=first_is_better), progress=False)
    write_report(StudyResults.load(folder), folder)
    said = (folder / "report.md").read_text(encoding="utf-8")
    preferences = re.search(r"([\d,]+) of ([\d,]+) preferences were for the answer shown first", said)
    assert preferences[1] == preferences[2]


def test_a_judge_that_abstains_ranks_nothing_and_the_report_says_why(folder):
    with pytest.warns(match="did not rank"):
        judge_answers(StudyResults.load(folder), LLMJudge("mute", complete=lambda messages: "Hm."), progress=False)
    results = StudyResults.load(folder)
    assert "judge" not in results.rankings
    write_report(results, folder)
    assert "did not rank the arms" in (folder / "report.md").read_text(encoding="utf-8")


def test_one_arm_has_nothing_to_be_compared_with(folder):
    arms = StudyResults.load(folder).arms
    for path in (folder / "units").glob("final.*.json"):
        if not path.name.startswith(f"final.{arms[0]}."):
            path.unlink()
    with pytest.raises(DataError, match="at least two arms with answers.*got 1 arms"):
        judge_answers(StudyResults.load(folder), LLMJudge("first", complete=first_is_better))


@pytest.mark.parametrize("damage", [lambda text: "[", lambda text: text.replace('"comparisons"', '"other"')])
def test_a_judges_file_that_is_damaged(folder, damage):
    judge_answers(StudyResults.load(folder), LLMJudge("a tie", complete=lambda messages: "[[tie]]"), progress=False)
    path = folder / "judge.json"
    assert json.loads(path.read_text(encoding="utf-8"))["format"] == "rankselect.judge"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"judge\.json"):
        StudyResults.load(folder)
