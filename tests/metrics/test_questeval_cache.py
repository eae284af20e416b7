"""The cache: no result is computed twice, damaged ones are computed again, and identities separate results."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from rankselect.errors import ArgumentError, SaveError
from rankselect.metrics.questeval import (
    ClozeAnswerer,
    ClozeGenerator,
    ContentSpans,
    FoundAnswer,
    QuestEval,
    QuestionAnswerer,
    QuestionGenerator,
)
from rankselect.metrics.questeval.result_cache import ResultCache
from rankselect.metrics.questeval.stages import answering

TEXTS = ["Insulin lowers blood sugar.", "Metformin lowers blood sugar, Zoë says."]


@dataclass(frozen=True)
class Counted(QuestionAnswerer):
    """Fills gaps, and counts its calls."""

    version: int = 1
    asked: list = field(default_factory=list, repr=False)

    def answer(self, pairs):
        self.asked.extend(pairs)
        return ClozeAnswerer().answer(pairs)


def metric_with(answerer, folder, **parts):
    given = {"selector": ContentSpans(), "generator": ClozeGenerator(), "scores": ("answerability", "f1")}
    return QuestEval(answerer=answerer, cache=folder, progress=False, **{**given, **parts})


def scored(answerer, folder):
    return metric_with(answerer, folder).score(TEXTS, references=[[TEXTS[1]], [TEXTS[0]]])


def entries(folder):
    connection = sqlite3.connect(folder / "questeval.sqlite")
    rows = connection.execute("SELECT key, value FROM results").fetchall()
    connection.close()
    return rows


def test_a_second_run_asks_nothing_and_scores_the_same(tmp_path):
    first, second = Counted(), Counted()
    before, after = scored(first, tmp_path / "new" / "cache"), scored(second, tmp_path / "new" / "cache")
    assert first.asked
    assert second.asked == []
    assert before.examples == after.examples == scored(Counted(), None).examples


def test_only_what_is_new_is_asked(tmp_path):
    scored(Counted(), tmp_path)
    answerer = Counted()
    metric_with(answerer, tmp_path).score(["Insulin."], references=[[TEXTS[0]]])
    assert {text for question, text in answerer.asked} == {"Insulin.", TEXTS[0]}
    assert len(answerer.asked) < len(entries(tmp_path))


def test_a_part_with_another_identity_runs_again(tmp_path):
    scored(Counted(), tmp_path)
    answerer = Counted(version=2)
    scored(answerer, tmp_path)
    assert answerer.asked


@pytest.mark.parametrize("value", ["text", b"{", b'["fever"]', b"\xff", 7, None])
def test_a_damaged_entry_is_computed_again(tmp_path, value, caplog):
    before = scored(Counted(), tmp_path)
    connection = sqlite3.connect(tmp_path / "questeval.sqlite")
    with connection:
        connection.execute("UPDATE results SET value = ?", (value,))
    connection.close()
    answerer = Counted()
    with caplog.at_level(logging.WARNING):
        assert scored(answerer, tmp_path).examples == before.examples
    assert answerer.asked
    assert "An entry of the cache" in caplog.text
    assert value not in {text for _, text in entries(tmp_path)}


def test_an_intact_entry_with_an_invalid_result_is_computed_again(tmp_path):
    with closing(ResultCache(tmp_path / "questeval.sqlite")) as cache:
        cache.write("answers", "x", {("question", "text"): ["fever", float("nan")], ("other", "text"): ["fever", 1]})
        found = cache.read("answers", "x", [("question", "text"), ("other", "text")], answering(Counted()).checked)
    assert found == {("other", "text"): FoundAnswer("fever", 1.0)}


@pytest.mark.parametrize("damage", ["garbage", "truncated", "overwritten"])
def test_a_damaged_file_is_created_again(tmp_path, damage, caplog):
    before = scored(Counted(), tmp_path)
    file = tmp_path / "questeval.sqlite"
    content = file.read_bytes()
    damaged = {
        "garbage": b"no database at all" * 100,
        "truncated": content[: len(content) // 2],
        "overwritten": content[:2048] + b"\xff" * (len(content) - 2048),
    }
    file.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        assert scored(Counted(), tmp_path).examples == before.examples
    assert "is damaged" in caplog.text
    again = Counted()
    scored(again, tmp_path)
    assert again.asked == []


@dataclass(frozen=True)
class Failing(QuestionAnswerer):
    """Fails in its second chunk."""

    calls: list = field(default_factory=list, repr=False)

    def answer(self, pairs):
        self.calls.append(len(pairs))
        if len(self.calls) == 2:
            raise RuntimeError("out of patience")
        return ClozeAnswerer().answer(pairs)


def test_what_was_answered_before_an_interruption_is_kept(tmp_path):
    words = [f"w{number}x" for number in range(200)]
    text = ", ".join(words)
    failing = Failing()
    with pytest.raises(RuntimeError, match="out of patience"):
        metric_with(failing, tmp_path).score([text], references=[[text]])
    again = Failing()
    result = metric_with(again, tmp_path).score([text], references=[[text]])
    assert result.score == 1.0
    assert again.calls == [200 - failing.calls[0]]


@pytest.mark.parametrize("folder", ["a file", "a folder in place of the file"])
def test_a_path_that_cannot_be_written_is_named(tmp_path, folder):
    place = tmp_path / "cache"
    if folder == "a file":
        place.write_text("")
    else:
        (place / "questeval.sqlite").mkdir(parents=True)
    with pytest.raises(SaveError, match="a cache that can be written, got .*score without cache="):
        scored(Counted(), place)


class Unnamed(QuestionGenerator):
    def generate(self, pairs):
        return ["?"] * len(pairs)


def test_a_part_without_identity_is_not_cached(tmp_path):
    assert metric_with(Counted(), None, generator=Unnamed()).score(TEXTS, sources=TEXTS).score >= 0
    with pytest.raises(ArgumentError, match="Unnamed, whose repr is an address in memory"):
        metric_with(Counted(), tmp_path, generator=Unnamed()).score(TEXTS, sources=TEXTS)


def test_the_cache_does_not_affect_equality():
    assert QuestEval(cache="a") == QuestEval(cache="b")
    assert "cache" not in repr(QuestEval(cache="a"))
