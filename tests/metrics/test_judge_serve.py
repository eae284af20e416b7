"""The judge against `transformers serve`, a real endpoint, with a model whose replies are nonsense."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import rankselect as rs
from rankselect.metrics.judge import LLMJudge

pytest.importorskip("openai")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

SECONDS_TO_START = 300


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of the server and the name of its model, an untrained Phi."""
    from rankselect.training.small_phi import small_phi

    folder = tmp_path_factory.mktemp("served")
    model, tokenizer = small_phi(steps=0, progress=False)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", folder / "model", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as server,
    ):
        try:
            wait_for(server, f"http://127.0.0.1:{port}/health", folder / "log")
            yield f"http://127.0.0.1:{port}/v1", str(folder / "model")
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_for(server, address, log):
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not start: {log.read_text()[-2000:]}")


def test_nonsense_is_recorded_as_abstentions(served, tmp_path):
    address, model = served
    questions = ["What causes anaemia?", "What helps against flu?"]
    answers = {"short": ["Iron.", "Rest."], "long": ["Too little iron.", "Rest and fluids."]}
    judge = LLMJudge(model, base_url=address, max_tokens=8, concurrency=2, cache=tmp_path)
    assert judge.n_calls(questions, answers) == 4
    with pytest.warns(rs.RankSelectWarning, match="did not rank the arms"):
        result = judge.rank(questions, answers, progress=False)
    assert result.ranking == ()
    assert (len(result.verdicts), result.n_abstentions) == (4, 4)
    assert all(verdict.reply for verdict in result.verdicts)
    assert "abstentions in all 2 comparisons" in str(result)
    assert judge.n_calls(questions, answers) == 0


def test_temperature_0_is_repeatable(served):
    address, model = served
    texts = ["What causes anaemia?"], {"x": ["Iron."], "y": ["Too little iron."]}
    runs = []
    for _ in range(2):
        with pytest.warns(rs.RankSelectWarning, match="did not rank the arms"):
            runs.append(LLMJudge(model, base_url=address, max_tokens=8).rank(*texts, progress=False).verdicts)
    assert runs[0] == runs[1]
