"""The judge with scripted models: ranking, position bias, abstentions, the cache, interrupts and bad input."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
import time
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import interrupts
import rankselect as rs
from rankselect.metrics.judge import LLMJudge
from rankselect.metrics.judge.failures import NoReplyError
from rankselect.metrics.judge.pairings import pairings
from rankselect.training.generation import GeneratedAnswer

QUESTIONS = [f"What helps against ailment {n}?" for n in range(12)]
ANSWERS = {
    "short": [f"{n} pills." for n in range(12)],
    "middle": [f"{n} pills, daily." for n in range(12)],
    "long": [f"{n} pills, daily, and a lot of rest." for n in range(12)],
}


def shown(messages):
    """The two answers in a prompt, in their order."""
    assert [message["role"] for message in messages] == ["user"]
    return re.findall(r"<answer [AB]>\n(.*?)\n</answer [AB]>", messages[0]["content"], re.DOTALL)


INTERRUPTED = """
import sys, time
from rankselect.metrics.judge import LLMJudge

def complete(messages):
    with open(sys.argv[1], "a") as file:
        file.write("asked\\n")
    time.sleep(0.1)
    return "[[tie]]"

questions = [f"Question {n}?" for n in range(200)]
answers = {arm: [f"{arm} {n}" for n in range(200)] for arm in "xy"}
LLMJudge("slow", complete=complete, cache=sys.argv[2], concurrency=2).rank(questions, answers, progress=False)
"""


class Scripted:
    """A model that records its prompts and prefers the longer answer."""

    def __init__(self):
        self.prompts = []

    def __call__(self, messages):
        self.prompts.append(messages[0]["content"])
        first, second = shown(messages)
        return "Longer. [[A]]" if len(first) > len(second) else "Longer. [[B]]"


def rank(complete, questions=QUESTIONS, answers=ANSWERS, *references, **arguments):
    return LLMJudge("scripted", complete=complete, **arguments).rank(questions, answers, *references, progress=False)


class TestRanking:
    def test_generated_answers_are_answers(self):
        written = {
            arm: [GeneratedAnswer(text, seconds=0.1, n_tokens=3, stopped_by="end") for text in texts]
            for arm, texts in ANSWERS.items()
        }
        assert rank(Scripted(), answers=written).to_dict() == rank(Scripted()).to_dict()

    def test_a_judge_that_prefers_length(self):
        model = Scripted()
        result = rank(model)
        assert [arm.arm for arm in result.ranking] == ["long", "middle", "short"]
        assert all(0 <= arm.low < arm.probability < arm.high <= 1 for arm in result.ranking)
        assert result.ranking[0].low > result.ranking[1].high
        assert [(pair.first, pair.second, pair.wins) for pair in result.pairs] == [
            ("short", "middle", (0.0, 12.0)),
            ("short", "long", (0.0, 12.0)),
            ("middle", "long", (0.0, 12.0)),
        ]
        assert len(model.prompts) == len(set(model.prompts)) == len(result.verdicts) == 72
        assert (result.n_abstentions, result.n_disagreements) == (0, 0)
        assert (result.n_preferences, result.n_first_preferred) == (72, 36)
        assert [each.question for each in result.comparisons] == sorted(list(range(12)) * 3)

    def test_a_judge_that_always_answers_a_ranks_nothing(self):
        with pytest.warns(rs.RankSelectWarning, match="36 of 36 comparisons changed with the order"):
            result = rank(lambda messages: "[[A]]")
        assert {each.outcome for each in result.comparisons} == {"disagreement"}
        assert result.n_disagreements == 36
        assert (result.n_preferences, result.n_first_preferred) == (72, 72)
        assert [arm.probability for arm in result.ranking] == pytest.approx([0.5, 0.5, 0.5])
        assert "Of 72 preferences 72 (100%) were for the answer shown first." in str(result)

    def test_the_win_rate_of_a_scripted_judge_is_recovered(self):
        """A judge that prefers the longer answer on some questions only: it wins three of four."""

        def mostly(messages):
            first, second = shown(messages)
            longer_wins = int(first.split()[0]) % 4 != 0
            return "[[A]]" if (len(first) > len(second)) == longer_wins else "[[B]]"

        result = rank(mostly, answers={"short": ANSWERS["short"], "long": ANSWERS["long"]})
        best = result.ranking[0]
        assert (best.arm, best.probability) == ("long", pytest.approx(9.5 / 13))
        assert best.low < 0.75 < best.high

    def test_what_is_printed(self):
        answers = {"x": ["a", "same", "long"], "y": ["bb", "same", "short"]}
        result = rank(
            lambda m: "No." if "Why 2" in m[0]["content"] else Scripted()(m), ["Why 0", "Why 1", "Why 2"], answers
        )
        assert str(result).splitlines() == [
            "arm  preferred  95% interval  strength",
            f"y         0.67  {result.ranking[0].low:.2f} to {result.ranking[0].high:.2f}     +0.35",
            f"x         0.33  {result.ranking[1].low:.2f} to {result.ranking[1].high:.2f}     -0.35",
            "",
            "arm  against  won  lost  tied  changed with the order  abstained",
            "x    y          0     1     1                       0          1",
            "",
            "4 verdicts, 2 of them abstentions. Of 2 preferences 1 (50%) were for the answer shown first.",
        ]

    def test_to_dict_is_json_and_complete(self):
        result = rank(Scripted())
        document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert document["ranking"][0]["arm"] == "long"
        assert document["n_verdicts"] == len(document["verdicts"]) == 72
        assert document["verdicts"][0]["reply"].startswith("Longer.")
        assert document["pairs"][0] == {
            "first": "short",
            "second": "middle",
            "first_wins": 0,
            "second_wins": 12,
            "ties": 0,
            "disagreements": 0,
            "abstentions": 0,
        }
        assert {each["winner"] for each in document["comparisons"]} == {"long", "middle"}
        assert document["judge"].startswith("LLMJudge(model='scripted'")

    def test_arms_may_have_the_names_of_outcomes(self):
        answers = {"tie": ANSWERS["short"], "abstained": ANSWERS["long"]}
        (pair,) = rank(Scripted(), answers=answers).pairs
        assert (pair.first_wins, pair.second_wins, pair.ties, pair.abstentions) == (0, 12, 0, 0)

    def test_names_and_order_of_the_arms_do_not_change_the_ranking(self):
        result = rank(Scripted())
        renamed = rank(Scripted(), answers={f"arm {name}": ANSWERS[name] for name in ("long", "short", "middle")})
        assert [arm.arm for arm in renamed.ranking] == [f"arm {arm.arm}" for arm in result.ranking]
        assert [arm.strength for arm in renamed.ranking] == pytest.approx([arm.strength for arm in result.ranking])

    def test_one_seed_one_result(self):
        def times(result):
            return result.to_dict() | {"judge": ""}

        assert times(rank(Scripted(), seed=5)) == times(rank(Scripted(), seed=5, concurrency=1))


class TestPrompts:
    def test_what_the_model_sees_and_what_not(self):
        model = Scripted()
        rank(model, ["Why?"], {"secret arm": ["So."], "other arm": ["Thus."]}, ["Because."], criteria="Prefer verse.")
        assert len(model.prompts) == 2
        for prompt in model.prompts:
            assert "<question>\nWhy?\n</question>" in prompt
            assert "<reference answer>\nBecause.\n</reference answer>" in prompt
            assert "Prefer verse." in prompt
            assert " arm" not in prompt

    def test_both_orders_are_asked(self):
        model = Scripted()
        rank(model, ["Why?"], {"x": ["So."], "y": ["Thus."]})
        orders = [shown([{"role": "user", "content": prompt}]) for prompt in model.prompts]
        assert sorted(orders) == [["So.", "Thus."], ["Thus.", "So."]]

    def test_equal_answers_are_a_tie_and_cost_nothing(self):
        model = Scripted()
        result = rank(model, ["Why?", "How?"], {"x": ["So.", "Thus."], "y": ["So.", "So."]})
        assert len(model.prompts) == 2
        assert [each.outcome for each in result.comparisons] == ["identical", "won"]
        assert result.pairs[0].wins == (1.5, 0.5)

    def test_equal_prompts_are_asked_once(self):
        model = Scripted()
        result = rank(model, ["Why?"], {"x": ["So."], "y": ["Thus."], "z": ["So."]})
        assert len(model.prompts) == 2
        assert len(result.verdicts) == 4

    def test_empty_and_broken_texts_are_answers(self):
        result = rank(Scripted(), ["Why?\ud83d"], {"x": [""], "y": ["So \udc00"]})
        assert result.ranking[0].arm == "y"

    @given(st.integers(2, 5), st.integers(1, 12), st.none() | st.integers(1, 15), st.integers(0, 99))
    @settings(max_examples=40)
    def test_pairings(self, k, n, at_most, seed):
        arms = [f"arm {index}" for index in range(k)]
        found = pairings(arms, n, at_most, seed)
        chosen = {each.question for each in found}
        assert len(chosen) == min(n, at_most or n)
        pairs = {(each.question, frozenset(each.arms)) for each in found}
        assert len(pairs) == len(found) == len(chosen) * k * (k - 1) // 2
        assert found == pairings(arms, n, at_most, seed)
        assert {each.question for each in pairings([*arms, "new"], n, at_most, seed)} == chosen

    def test_the_arm_shown_first_is_random(self):
        firsts = [each.arms[0] for each in pairings(["x", "y"], 200, None, 0)]
        assert 70 < firsts.count("x") < 130
        questions = [each.question for each in pairings(["x", "y"], 200, None, 0)]
        assert questions != sorted(questions)


class TestAbstentions:
    def test_are_recorded_word_for_word_and_left_out(self):
        def refuses(messages):
            return "I cannot judge this." if "ailment 3?" in messages[0]["content"] else Scripted()(messages)

        result = rank(refuses)
        assert result.n_abstentions == 6
        replies = {verdict.reply for verdict in result.verdicts if verdict.choice == "abstained"}
        assert replies == {"I cannot judge this."}
        assert [pair.abstentions for pair in result.pairs] == [1, 1, 1]
        assert result.pairs[0].wins == (0.0, 11.0)

    def test_everywhere_leave_no_ranking(self):
        with pytest.warns(rs.RankSelectWarning, match="The judge did not rank the arms"):
            result = rank(lambda messages: "lorem ipsum")
        assert result.ranking == ()
        assert result.n_abstentions == 72
        assert (
            "abstentions in all 36 comparisons, such as 'lorem ipsum'. The arms cannot be compared" in result.unranked
        )
        assert str(result).startswith("No ranking: ")
        assert "nan" not in json.dumps(result.to_dict()).lower()

    def test_that_cut_off_an_arm_leave_no_ranking(self):
        def refuses_long(messages):
            return "" if "rest" in messages[0]["content"] else Scripted()(messages)

        with pytest.warns(rs.RankSelectWarning, match="did not rank"):
            result = rank(refuses_long)
        assert "connect 'short' with every other arm, got none that connects it with 'long'" in result.unranked

    def test_in_most_comparisons_are_a_warning(self):
        def mostly_refuses(messages):
            return Scripted()(messages) if "ailment 3?" in messages[0]["content"] else "?"

        with pytest.warns(rs.RankSelectWarning, match="33 of 36 comparisons are left out"):
            rank(mostly_refuses)

    def test_a_clean_run_has_no_warnings(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rank(Scripted())


class TestCache:
    def test_a_second_run_costs_nothing(self, tmp_path):
        model, cache = Scripted(), tmp_path / "new" / "cache"
        judge = LLMJudge("scripted", complete=model, cache=cache)
        assert judge.n_calls(QUESTIONS, ANSWERS) == 72
        first = judge.rank(QUESTIONS, ANSWERS, progress=False)
        assert judge.n_calls(QUESTIONS, ANSWERS) == 0
        again = LLMJudge("scripted", complete=model, cache=cache)
        assert again.n_calls(QUESTIONS, ANSWERS) == 0
        assert again.rank(QUESTIONS, ANSWERS, progress=False) == first
        assert len(model.prompts) == len(list(cache.rglob("*.json"))) == 72
        assert not list(cache.rglob(".*"))

    def test_without_a_folder_the_judge_remembers(self):
        model = Scripted()
        judge = LLMJudge("scripted", complete=model)
        for _ in range(2):
            judge.rank(QUESTIONS, ANSWERS, progress=False)
        assert len(model.prompts) == 72

    def test_a_new_arm_needs_only_its_own_comparisons(self, tmp_path):
        judge = LLMJudge("scripted", complete=Scripted(), cache=tmp_path, max_questions=5)
        judge.rank(QUESTIONS, {name: ANSWERS[name] for name in ("long", "short")}, progress=False)
        assert judge.n_calls(QUESTIONS, ANSWERS) == 20

    @pytest.mark.parametrize(
        "other", [{"model": "other"}, {"temperature": 1.0}, {"max_tokens": 5}, {"criteria": "Prefer verse."}]
    )
    def test_other_settings_are_other_calls(self, tmp_path, other):
        first = {"model": "scripted", "complete": Scripted(), "cache": tmp_path}
        LLMJudge(**first).rank(QUESTIONS, ANSWERS, progress=False)
        assert LLMJudge(**first, seed=7).n_calls(QUESTIONS, ANSWERS) == 0
        assert LLMJudge(**(first | other)).n_calls(QUESTIONS, ANSWERS) == 72

    def test_0_and_0_point_0_are_one_temperature(self, tmp_path):
        LLMJudge("m", complete=Scripted(), cache=tmp_path, temperature=0).rank(QUESTIONS, ANSWERS, progress=False)
        assert LLMJudge("m", complete=Scripted(), cache=tmp_path, temperature=0.0).n_calls(QUESTIONS, ANSWERS) == 0

    def test_other_texts_are_other_calls(self, tmp_path):
        judge = LLMJudge("scripted", complete=Scripted(), cache=tmp_path)
        judge.rank(QUESTIONS, ANSWERS, progress=False)
        assert judge.n_calls(["Why?", *QUESTIONS[1:]], ANSWERS) == 6
        assert judge.n_calls(QUESTIONS, ANSWERS, ["So."] * 12) == 72

    @pytest.mark.parametrize("damage", ["", "{", '{"format": "rankselect.judge_reply", "version": 1}', "[]", "\x00"])
    def test_a_damaged_entry_is_asked_for_again(self, tmp_path, damage, caplog):
        model = Scripted()
        LLMJudge("scripted", complete=model, cache=tmp_path).rank(QUESTIONS, ANSWERS, progress=False)
        file = next(tmp_path.rglob("*.json"))
        whole = file.read_text()
        file.write_text(damage)
        with caplog.at_level(logging.WARNING):
            LLMJudge("scripted", complete=model, cache=tmp_path).rank(QUESTIONS, ANSWERS, progress=False)
        assert len(model.prompts) == 73
        assert "A stored reply cannot be used and is requested again" in caplog.text
        assert file.read_text() == whole

    def test_an_entry_of_another_request_is_asked_for_again(self, tmp_path):
        model = Scripted()
        LLMJudge("scripted", complete=model, cache=tmp_path).rank(QUESTIONS, ANSWERS, progress=False)
        one, other = list(tmp_path.rglob("*.json"))[:2]
        one.write_text(other.read_text())
        assert LLMJudge("scripted", complete=model, cache=tmp_path).n_calls(QUESTIONS, ANSWERS) == 1

    def test_a_folder_that_cannot_be_created(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(rs.RankSelectError, match=r"a cache folder that can be written, got .*file"):
            LLMJudge("scripted", complete=Scripted(), cache=tmp_path / "file")

    def test_a_disk_that_is_full(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("rankselect.metrics.judge.replies.write_document", full)
        with pytest.raises(rs.RankSelectError, match="got .*No space left on device"):
            rank(Scripted(), cache=tmp_path)


class TestInterruptions:
    def test_ctrl_c_keeps_every_answer(self, tmp_path):
        program = tmp_path / "program.py"
        program.write_text(INTERRUPTED)
        asked, cache = tmp_path / "asked", tmp_path / "cache"
        command = [sys.executable, program, asked, cache]
        with interrupts.start(command, stderr=subprocess.PIPE) as process:
            while len(list(cache.rglob("*.json"))) < 3:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=300)
        assert "KeyboardInterrupt" in errors
        n_asked = len(asked.read_text().splitlines())
        assert 3 <= n_asked < 200  # the rest was dropped, and what was asked is known
        assert len(list(cache.rglob("*.json"))) == n_asked
        assert not list(cache.rglob(".*"))

    def test_an_error_in_the_callable_is_passed_on_and_keeps_the_replies(self, tmp_path):
        model = Scripted()

        def breaks(messages):
            if len(model.prompts) == 10:
                raise ZeroDivisionError
            return model(messages)

        with pytest.raises(ZeroDivisionError):
            rank(breaks, cache=tmp_path, concurrency=1)
        assert LLMJudge("scripted", complete=model, cache=tmp_path).n_calls(QUESTIONS, ANSWERS) == 62

    def test_a_prompt_without_a_reply_abstains_and_is_asked_again(self, tmp_path):
        def filtered(messages):
            if "ailment 3?" in messages[0]["content"]:
                raise NoReplyError("a reply", "a content filter", "Leave the question out.")
            return Scripted()(messages)

        result = rank(filtered, cache=tmp_path)
        assert {verdict.reply for verdict in result.verdicts if verdict.question == 3} == {"No reply: a content filter"}
        assert result.n_abstentions == 6
        assert LLMJudge("scripted", complete=filtered, cache=tmp_path).n_calls(QUESTIONS, ANSWERS) == 6

    def test_what_is_not_text(self):
        with pytest.raises(rs.RankSelectError, match=r"text from complete\(\), got NoneType"):
            rank(lambda messages: None)

    def test_the_number_of_calls_is_logged_before_they_are_made(self, caplog):
        def checks(messages):
            assert "72 calls to make, 0 replies stored" in caplog.text
            return "[[tie]]"

        with caplog.at_level(logging.INFO, logger="rankselect"):
            rank(checks)


class TestBadInput:
    @pytest.mark.parametrize(
        ("questions", "answers", "references", "message"),
        [
            (["Why?"], {"x": ["a"]}, None, "answers of at least 2 arms, got answers of 1"),
            ([], {"x": [], "y": []}, None, "at least one question, got none"),
            ("Why?", {"x": ["a"] * 4, "y": ["b"] * 4}, None, "a sequence of texts as questions, got one string"),
            (["Why?"], {"x": "a", "y": ["b"]}, None, "a sequence of texts as answers of 'x', got one string"),
            (["Why?"], {"x": ["a"], "y": ["b", "c"]}, None, "1 answers of 'y', one for each question, got 2"),
            (["Why?"], {"x": ["a"], "y": [None]}, None, "text in answers of 'y', got NoneType at index 0"),
            (["Why?"], {"x": ["a"], "y": ["b"]}, [], "1 references, one for each question, got 0"),
            ([3], {"x": ["a"], "y": ["b"]}, None, "text in questions, got int at index 0"),
        ],
    )
    def test_texts(self, questions, answers, references, message):
        judge = LLMJudge("scripted", complete=Scripted())
        for call in (judge.rank, judge.n_calls):
            with pytest.raises(rs.RankSelectError, match=message):
                call(questions, answers, references)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"model": " "}, "text as model, got ' '"),
            ({"model": 3}, "text as model, got 3"),
            ({"criteria": ""}, "text as criteria, got ''"),
            ({"temperature": -1}, "a temperature of at least 0, or None, got -1"),
            ({"temperature": float("nan")}, "a temperature of at least 0, or None, got nan"),
            ({"max_tokens": 0}, "an integer of at least 1 for max_tokens, got 0"),
            ({"seed": -1}, "an integer of at least 0 for seed, got -1"),
            ({"concurrency": 0}, "at least 1 for concurrency, got 0"),
            ({"max_retries": None}, "at least 0 for max_retries, got None"),
            ({"max_questions": 0}, "at least 1 for max_questions, got 0"),
            ({"timeout": 0}, "a timeout above 0 seconds, got 0"),
            ({"base_url": "http://localhost/v1"}, "either complete= or base_url= and api_key=, got both"),
            ({"api_key": "k"}, "either complete= or base_url= and api_key=, got both"),
        ],
    )
    def test_arguments(self, arguments, message):
        with pytest.raises(rs.RankSelectError, match=message):
            LLMJudge(**({"model": "scripted", "complete": Scripted()} | arguments))

    @pytest.mark.parametrize(("name", "value"), [("confidence", 1.0), ("confidence", 0), ("n_resamples", 0)])
    def test_arguments_of_rank(self, name, value):
        model = Scripted()
        with pytest.raises(rs.RankSelectError, match=name.removeprefix("n_").removesuffix("s")):
            LLMJudge("scripted", complete=model).rank(QUESTIONS, ANSWERS, **{name: value})
        assert model.prompts == []
