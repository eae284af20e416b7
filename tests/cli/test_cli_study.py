"""`rankselect study`: from the options to a report, with errors, failures and Ctrl-C."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import interrupts
import rankselect as rs
from cli.conftest import write_jsonl
from rankselect.cli.study_arguments import arms_of
from rankselect.testing import tiny_texts

QUICK = (
    *("--learning-rates", "1e-3,1e-2", "--seeds", "2", "--max-steps", "2", "--max-length", "64"),
    *("--max-new-tokens", "4", "--metric", "token-f1", "--metric", "perplexity", "--device-map", "cpu"),
)
ARMS = ("--arm", "base", "--arm", "two=fixed:rank=2", "--arm", "by-layer=per-layer-id")


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """Options with rows to train on and to score on."""
    folder = tmp_path_factory.mktemp("rows")
    for name, n, seed in (("train", 40, 0), ("test", 6, 1)):
        rows = [{"question": f"why {name} {i}", "answer": text} for i, text in enumerate(tiny_texts(n, seed=seed))]
        write_jsonl(folder / f"{name}.jsonl", rows)
    return ["--train", str(folder / "train.jsonl"), "--test", str(folder / "test.jsonl")]


@pytest.fixture(scope="session")
def finished(run, model, sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "new" / "study"
    command = ["study", model, *sources, *ARMS, *QUICK, "--out", folder, "--json"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    return folder, command, result


def test_the_answer_is_a_table_a_verdict_and_files(finished):
    folder, _, result = finished
    for said in ("trainable", "learning rate", "token-f1", "by-layer", "Caveats:", "2 seeds", str(folder)):
        assert said in result.stderr
    document = json.loads(result.stdout)
    assert [row["arm"] for row in document["summary"]] == ["base", "two", "by-layer"]
    assert document["summary"][0]["rank_mean"] is None
    assert document["summary"][1]["rank_mean"] == 2
    assert document["summary"][1]["learning_rate"] in {1e-3, 1e-2}
    assert document["verdict"]["headline"] in " ".join(result.stderr.split())
    assert document["failed"] == {}
    assert {file.rpartition(".")[2] for file in document["files"]} == {"csv", "json", "html", "md"}
    assert all(Path(file).stat().st_size for file in document["files"])
    ids = sorted(path.stem for path in (folder / "units").glob("final*"))
    assert ids == [f"final.{arm}.seed{seed}" for arm in ("base", "by-layer", "two") for seed in (0, 1)]


def test_the_same_command_repeats_no_run_and_another_one_is_an_error(run, finished):
    folder, command, result = finished
    before = {path: path.stat().st_mtime_ns for path in (folder / "units").iterdir()}
    again = run(*command)
    assert json.loads(again.stdout)["summary"] == json.loads(result.stdout)["summary"]
    assert {path: path.stat().st_mtime_ns for path in (folder / "units").iterdir()} == before
    other = run(*command, "--epochs", "2")
    assert other.exit_code == 2
    assert "epochs was 1.0 and is now 2.0" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arm", "rank-8"], "expected an arm as NAME=STRATEGY, or base alone"),
        (["--arm", "base=fixed:rank=8", "--arm", "base"], "expected arms with different names"),
        (["--arm", "one=fixd:rank=1"], "Did you mean fixed"),
        (["--arm", "one=fixed:ranks=1"], "expected arguments that fixed takes"),
        (["--arm", "a b=fixed:rank=1"], "expected a name of letters"),
        (["--learning-rates", "1e-4;3e-4"], "expected positive numbers separated by commas for --learning-rates"),
        (["--learning-rates", "1e-4,-1"], "got '1e-4,-1'"),
        (["--metric", "token-f2"], "Did you mean token-f1"),
        (["--address", "127.0.0.1:6379"], "expected --address with --executor ray"),
        (["--judge-url", "http://127.0.0.1:8000/v1"], "expected --judge-url with --judge NAME"),
        (["--judge", "whoever"], "OPENAI_API_KEY"),
        (["--template", "{question}"], "expected a template with {question}"),
        (["--test", "none.jsonl"], "none.jsonl"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_created(run, model, sources, tmp_path, arguments, said, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    out = tmp_path / "study"
    result = run("study", model, *sources, "--out", out, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (out / "units").exists()


def test_a_failed_arm_is_reported_and_does_not_stop_the_others(run, model, sources, tmp_path):
    arms = ["--arm", "base", "--arm", "two=fixed:rank=2", "--arm", "by-layer=per-layer-id"]
    options = [*QUICK, "--seeds", "1", "--learning-rates", "1e-3", "--target-modules", "q_proj,embed_tokens"]
    result = run("study", model, *sources, *arms, *options, "--out", tmp_path / "study")
    assert result.exit_code == 1
    assert "final.by-layer.seed0 failed: TargetError: expected target modules inside the model's" in result.stderr
    assert "Run the same command again to retry the failed runs." in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "study" / "report.html").is_file()


class _Judge(BaseHTTPRequestHandler):
    """Prefers the answer shown first."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "[[A]]"}
        body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def judge_url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")
def test_a_judge_ranks_the_answers_of_a_finished_study(run, finished, judge_url):
    folder, command, _ = finished
    result = run(*command, "--judge", "whoever", "--judge-url", judge_url, "--judge-questions", "3")
    assert result.exit_code == 0, result.output
    found = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
    assert found["arms"] == ["base", "by-layer", "two"]
    assert len(found["comparisons"]) == 9
    assert list((folder / "replies").iterdir())
    assert "The judge: LLMJudge" in (folder / "report.md").read_text(encoding="utf-8")
    (folder / "judge.json").unlink()


def test_a_report_without_questions(run, finished):
    folder, command, _ = finished
    questions = [row["question"] for row in json.loads((folder / "test_rows.json").read_text(encoding="utf-8"))["rows"]]
    for n in ("0", "25"):
        assert run(*command, "--report-questions", n).exit_code == 0
        report = (folder / "report.md").read_text(encoding="utf-8")
        assert sum(question in report for question in questions) == (len(questions) if int(n) else 0)


def test_output_of_an_executor_is_kept_out_of_the_json(run, finished, monkeypatch):
    class Talking(rs.Executor):
        def run(self, work, units):
            sys.stdout.write("(raylet) a worker died\n")
            yield from map(work, units)

    monkeypatch.setattr("rankselect.cli.study.executor_of", lambda name, address: Talking())
    result = run(*finished[1])
    assert "a worker died" in result.stderr
    assert json.loads(result.stdout)["failed"] == {}


def test_a_single_question_without_a_correct_answer_still_gives_a_report(run, model, sources, tmp_path):
    arms = ["--arm", "base", "--arm", "two=fixed:rank=2"]
    quick = ["--learning-rates", "1e-3", "--seeds", "1", "--max-steps", "1", "--device-map", "cpu"]
    options = [*quick, "--max-new-tokens", "2", "--metric", "exact-match", "--n-test", "1", "--out", tmp_path / "study"]
    result = run("study", model, *sources, *arms, *options, "--json")
    assert result.exit_code == 0, result.output
    assert "1 question: how much the scores depend" in " ".join(result.stderr.split())
    assert "one question cannot show a difference" in (tmp_path / "study" / "report.md").read_text(encoding="utf-8")
    document = json.loads(result.stdout)
    assert document["summary"][1]["exact-match"] == 0
    assert document["summary"][1]["exact-match_low"] is None


def test_the_report_is_written_even_if_the_tables_cannot_be(run, finished, monkeypatch):
    folder, command, _ = finished
    (folder / "report.html").unlink()

    def broken(results):
        raise ValueError("a table of nothing")

    monkeypatch.setattr(rs.StudyResults, "write", broken)
    result = run(*command)
    assert result.exit_code == 1
    assert "ValueError: a table of nothing" in result.stderr
    assert (folder / "report.html").is_file()


def test_a_verdict_that_fails_is_reported_with_the_other_results(run, finished, monkeypatch):
    def broken(results):
        raise ZeroDivisionError("of nothing")

    monkeypatch.setattr(rs.StudyResults, "verdict", broken)
    result = run(*finished[1])
    assert result.exit_code == 0
    assert "There is no verdict: computing it failed with ZeroDivisionError: of nothing." in " ".join(
        result.stderr.split()
    )
    assert len(json.loads(result.stdout)["summary"]) == 3


def test_an_unreachable_judge_does_not_affect_the_other_results(run, finished):
    folder, command, _ = finished
    (folder / "report.html").unlink()
    unreachable = ("--judge", "whoever", "--judge-url", "http://127.0.0.1:9/v1", "--judge-retries", "0")
    result = run(*command, *unreachable)
    assert result.exit_code == 1
    assert "No ranking by the judge: expected a connection to http://127.0.0.1:9/v1, got none (" in " ".join(
        result.stderr.split()
    )
    assert "retries" not in result.stderr
    assert "Traceback" not in result.stderr
    assert (folder / "report.html").is_file()
    assert json.loads(result.stdout)["verdict"]["headline"]


def test_default_arms_have_a_base_a_uniform_rank_and_a_control():
    arms = {arm.name: repr(arm.strategy) for arm in arms_of(())}
    assert list(arms) == ["base", "rank-8", "intrinsic-mean", "per-layer-id", "per-layer-id-control"]
    assert arms["base"] == "None"
    assert arms["rank-8"] == "Fixed(rank=8)"
    assert arms["per-layer-id-control"] == "SameParameters(strategy=PerLayerID())"


def test_ctrl_c_keeps_finished_runs_and_the_same_command_continues(run, model, sources, tmp_path):
    out = tmp_path / "study"
    command = ["study", str(model), *sources, *ARMS, *QUICK, "--max-steps", "10", "--out", str(out)]
    code, said = interrupts.run_and_press_ctrl_c(command, n_steps=13)
    assert code == 130, said
    assert f"are kept in {out}. Continue with: rankselect study {model}" in said
    assert "Traceback" not in said
    kept = {path: path.stat().st_mtime_ns for path in (out / "units").glob("[!.]*.json")}
    assert [path.name for path in kept] == ["grid.two.seed0.lr0.001.alpha8.json"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert len(list((out / "units").glob("[!.]*.json"))) == 10
