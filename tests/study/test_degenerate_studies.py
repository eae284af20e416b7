"""Studies that tell nothing, because scores tie or one question was asked: what they found is written and says so."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rankselect.study.analysis.results import StudyResults
from rankselect.study.report.write import write_report
from rankselect.study.run import RunResult
from study.synthetic_study import ARMS, change, fail, write_synthetic_study

FEW = tuple(arm for arm in ARMS if arm.name in {"base", "rank-1", "rank-6"})
SMALL = {"arms": FEW, "seeds": (0, 1), "n_questions": 6, "dropout_too": False, "profile": False}
ONE = "1 question: how much the scores depend on the choice of the question is unknown."


def degenerate(folder, **values):
    write_synthetic_study(folder, **{**SMALL, **values})
    return StudyResults.load(folder)


def refuse(constant):
    raise AssertionError(f"{constant} in a JSON file")


def written(results):
    """The texts of everything that is written of a study; none may hold what is not a number."""
    texts = {}
    for path in (*results.write(), *write_report(results)):
        texts[path.name] = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(nan|inf|infinity)\b", texts[path.name], re.IGNORECASE), path.name
    json.loads(texts["results.json"], parse_constant=refuse)
    return texts


@pytest.mark.parametrize(
    ("values", "headline", "reason", "says"),
    [
        (
            {"level": 0.0},
            "No answer scored above 0: token-f1 cannot tell these arms apart. Use base, the cheapest.",
            "All arms score the same: token-f1 0 (95 % interval 0 to 0).",
            "rank-6 against rank-1: token-f1 +0 (+0 to +0), no difference shown; the scores are the same",
        ),
        (
            {"level": 0.5},
            "All arms have the same scores: token-f1 cannot tell them apart. Use base, the cheapest.",
            "All arms score the same: token-f1 0.5 (95 % interval 0.5 to 0.5).",
            "rank-6 against rank-1: token-f1 +0 (+0 to +0), no difference shown; the scores are the same",
        ),
        (
            {"level": 0.0, "n_questions": 1},
            "This study shows no difference between the arms: use base, the cheapest.",
            "base scores best: token-f1 0.",
            "rank-6 against rank-1: token-f1 +0, no difference shown; one question cannot show a difference",
        ),
    ],
)
def test_scores_that_tie_are_said_to_tie(tmp_path, values, headline, reason, says):
    results = degenerate(tmp_path / "study", **values)
    verdict = results.verdict()
    assert (verdict.arm, verdict.headline, verdict.reasons) == ("base", headline, (reason,))
    assert (ONE in verdict.caveats) == ("n_questions" in values)
    assert results.differences("token-f1").set_index("arm").loc["rank-6", "says"] == says
    results.write()
    document = json.loads((tmp_path / "study" / "results.json").read_text(), parse_constant=refuse)
    assert [each["detectable"] for each in document["differences"]["token-f1"]] == [None, None]
    assert [each["detectable"] for each in document["verdict"]["differences"]] == [None, None]
    assert (document["verdict"]["differences"][0]["low"] is None) == ("n_questions" in values)
    assert (document["summary"][0]["token-f1_low"] is None) == ("n_questions" in values)


def test_another_metric_decides_where_the_first_ties(tmp_path):
    folder = tmp_path / "study"
    degenerate(folder, n_questions=40)
    for path in (folder / "units").glob("final.*.json"):
        scores = RunResult.load(path).scores
        scores["dropout_off"]["token-f1"] = [0.0] * 40
        change(folder, path.stem, scores=scores)
    verdict = StudyResults.load(folder).verdict()
    assert verdict.headline.startswith("Use rank-6: token-f1 shows no difference between the arms, but questeval-cloze")
    assert verdict.reasons[0] == "All arms score the same: token-f1 0 (95 % interval 0 to 0)."


def test_two_arms_alike_are_said_to_be_and_the_others_are_compared(tmp_path):
    results = degenerate(tmp_path / "study", alike=("rank-1", "rank-6"), n_questions=40)
    table = results.differences("token-f1", "rank-1").set_index("arm")
    assert table.loc["rank-6", ["difference", "p", "outcome"]].tolist() == [0, 1, "no difference shown"]
    assert table.loc["base", "outcome"] == "worse"
    assert results.verdict().arm == "rank-1"
    assert not results.verdict().headline.startswith("All arms")


def test_one_question_is_reported_without_intervals(tmp_path):
    texts = written(degenerate(tmp_path / "study", n_questions=1))
    for said in (
        ONE,
        "one question cannot show a difference",
        "There are no intervals",
        "one question: there is no interval",
    ):
        assert said in texts["report.md"]
    assert "Horizontal line: base." in texts["report.md"]
    assert " to " not in "".join(re.findall(r"\*\*[\d.]+\*\*: token\\-f1 of .*", texts["report.md"]))


def test_a_training_that_diverged_leaves_the_others_to_be_seen(tmp_path):
    texts = written(degenerate(tmp_path / "study", worst_loss=700.0))
    assert "Too large for the figure: rank-6." in texts["report.md"]
    assert "the scores are too large to compare" in texts["report.md"]
    assert "1.01e+304" in texts["report.md"]
    assert (
        "Too large for the figure" in written(degenerate(tmp_path / "two", arms=FEW[:2], worst_loss=700.0))["report.md"]
    )


def test_an_arm_scored_by_one_metric_only_takes_part_where_it_can(tmp_path):
    folder = tmp_path / "study"
    degenerate(folder)
    for seed in (0, 1):
        scores = RunResult.load(folder / "units" / f"final.rank-1.seed{seed}.json").scores
        del scores["dropout_off"]["questeval-cloze"]
        change(folder, f"final.rank-1.seed{seed}", scores=scores)
    results = StudyResults.load(folder)
    both = "harmonic mean of questeval-cloze and token-f1"
    assert sorted(results.rankings["token-f1"]["arm"]) == ["base", "rank-1", "rank-6"]
    assert sorted(results.rankings[both]["arm"]) == ["base", "rank-6"]
    written(results)


def test_everything_else_is_written_if_the_verdict_fails(tmp_path, monkeypatch, caplog):
    results = degenerate(tmp_path / "study")

    def broken(*_, **__):
        raise ZeroDivisionError("nobody\nknows")

    monkeypatch.setattr("rankselect.study.analysis.results.reach_verdict", broken)
    with caplog.at_level(logging.DEBUG, "rankselect"):
        texts = written(results)
    said = "There is no verdict: computing it failed with ZeroDivisionError: nobody knows. The other results are not affected."
    document = json.loads(texts["results.json"])
    assert document["verdict"]["headline"] == said
    assert document["verdict"]["arm"] is None
    assert len(document["table"]) == len(results.table)
    assert "ZeroDivisionError" in caplog.text
    assert "There is no verdict" in texts["report.html"]
    assert "rank-6" in texts["report.md"]


@settings(max_examples=8, deadline=None)
@example(level=0.0, seeds=3, questions=5, alike=True, without="failed", judge=False, worst_loss=None, seed=0)
@example(level=None, seeds=2, questions=1, alike=False, without="unscored", judge=False, worst_loss=700.0, seed=0)
@given(
    level=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    seeds=st.integers(1, 3),
    questions=st.integers(1, 5),
    alike=st.booleans(),
    without=st.sampled_from(["", "failed", "unscored", "all"]),
    judge=st.booleans(),
    worst_loss=st.none() | st.sampled_from([0.0, 30.0, 300.0, 700.0]),
    seed=st.integers(0, 5),
)
def test_no_study_is_lost_and_none_holds_what_is_not_a_number(
    level, seeds, questions, alike, without, judge, worst_loss, seed
):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "study"
        results = degenerate(
            folder,
            level=level,
            seeds=tuple(range(seeds)),
            n_questions=questions,
            alike=("rank-1", "rank-6") if alike else (),
            unscored={"unscored": ("rank-1",), "all": tuple(arm.name for arm in FEW)}.get(without, ()),
            judge=judge and without in {"", "failed"},
            worst_loss=worst_loss,
            random_seed=seed,
        )
        if without == "failed":
            fail(folder, "final.rank-1.seed0")
            results = StudyResults.load(folder)
        texts = written(results)
    assert results.verdict().headline in " ".join(re.sub(r"\\(.)", r"\1", texts["report.md"]).split())
