"""The judge with a real local HTTP server that fails in every way an endpoint can."""

from __future__ import annotations

import json
import logging
import pickle
import re
import socket
import struct
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import rankselect as rs
from rankselect.metrics.judge import LLMJudge
from rankselect.metrics.judge.endpoint import open_endpoint
from rankselect.metrics.judge.failures import NoReplyError, retry_after, seconds_to_wait

pytest.importorskip("openai")

KEY = "sk-test-b5f1c9d27e8a4063"
QUESTIONS = [f"What helps against ailment {n}?" for n in range(4)]
ANSWERS = {"short": [f"{n} pills." for n in range(4)], "long": [f"{n} pills and a lot of rest." for n in range(4)]}
CHAT = [{"role": "user", "content": "Which is better?"}]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


class Server(ThreadingHTTPServer):
    """Answers the n-th call with what the script gives: a status, headers and a body; or None for no answer."""

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.calls, self.lock = script, [], threading.Lock()

    def handle_error(self, *_):
        if not issubclass(sys.exc_info()[0], OSError):  # clients that hang up are part of the tests
            super().handle_error(*_)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.calls)
            self.server.calls.append((self.path, self.headers, body))
        answer = self.server.script(number, body, self)
        if answer is None:
            return
        status, headers, text = answer
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": len(text.encode()),
            **headers,
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@contextmanager
def serving(script):
    server = Server(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(text, **message):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
    document = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return 200, {}, json.dumps(document)


def refusal(status, message, code=None, **headers):
    return status, headers, json.dumps({"error": {"message": message, "type": "some_error", "code": code}})


def chain(error):
    """An error with its causes and contexts, shown or not."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def prefers_longer(number, body, handler):
    first, second = re.findall(r"<answer [AB]>\n(.*?)\n</answer", body["messages"][0]["content"], re.DOTALL)
    return completion("It says more. [[A]]" if len(first) > len(second) else "It says more. [[B]]")


def call(script, waits=None, **arguments):
    """Make one call; waits are recorded but not carried out."""
    waits = [] if waits is None else waits
    with serving(script) as server:
        endpoint = open_endpoint("m", server.url, KEY, **arguments)
        object.__setattr__(endpoint, "wait", waits.append)
        try:
            return endpoint(CHAT), server.calls, waits
        except rs.RankSelectError as error:
            return error, server.calls, waits


def first(failure, then=None):
    """Return the listed failures, then replies."""
    failures = failure if isinstance(failure, list) else [failure]
    return lambda number, *_: failures[number] if number < len(failures) else completion("[[A]]")


class TestOneCall:
    def test_what_is_sent(self):
        reply, calls, _ = call(first([]), settings={"temperature": 0.0})
        assert reply == "[[A]]"
        ((path, headers, body),) = calls
        assert path == "/v1/chat/completions"
        assert headers["Authorization"] == f"Bearer {KEY}"
        assert body == {"model": "m", "messages": CHAT, "temperature": 0.0}

    def test_429_waits_as_long_as_it_is_told(self):
        reply, calls, waits = call(first(refusal(429, "Slow down.", **{"Retry-After": "7"})))
        assert (reply, len(calls), waits) == ("[[A]]", 2, [7.0])

    def test_429_with_a_date(self):
        date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
        _, _, (wait,) = call(first(refusal(429, "Slow down.", **{"Retry-After": date})))
        assert 25 < wait <= 30

    def test_429_without_a_time_backs_off(self):
        reply, _, waits = call(first([refusal(429, "Slow down.")] * 4))
        assert (reply, waits) == ("[[A]]", [1.0, 2.0, 4.0, 8.0])

    def test_a_wait_until_tomorrow_is_an_error(self):
        error, calls, waits = call(first(refusal(429, "Daily limit.", **{"Retry-After": "86400"})))
        assert (len(calls), waits) == (1, [])
        assert "got status 429 (Daily limit). Try again later. It asks to wait 86400 seconds." in str(error)

    def test_no_credit_left(self):
        error, calls, _ = call(first(refusal(429, "You exceeded your quota.", "insufficient_quota")))
        assert len(calls) == 1
        assert "expected credit at http://127.0.0.1" in str(error)

    @pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 529])
    def test_temporary_failures_then_success(self, status):
        reply, calls, waits = call(first([refusal(status, "Oops.")] * 3))
        assert (reply, len(calls), waits) == ("[[A]]", 4, [1.0, 2.0, 4.0])

    def test_temporary_failures_without_end(self):
        error, calls, waits = call(first([refusal(500, "Oops. More.")] * 9), max_retries=2)
        assert isinstance(error, rs.RankSelectError)
        assert (len(calls), waits) == (3, [1.0, 2.0])
        assert re.fullmatch(r"a response from http://127.0.0.1:\d+/v1", error.expected)
        assert (error.got, error.remedy) == ("status 500 (Oops) after 2 retries", "Try again later.")

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refused_key_is_not_tried_again(self, status):
        error, calls, waits = call(first([refusal(status, f"Incorrect API key provided: {KEY}.")] * 9))
        assert (len(calls), waits) == (1, [])
        assert f"got status {status} (Incorrect API key provided: ***). Set OPENAI_API_KEY or pass api_key=." in str(
            error
        )
        assert str(error).startswith("expected a key that is accepted by http://127.0.0.1")

    def test_a_missing_model(self):
        error, calls, _ = call(first([refusal(404, "The model m does not exist")] * 9))
        assert len(calls) == 1
        assert "got status 404 (The model m does not exist). Check the model's name, and base_url=" in str(error)

    def test_a_setting_that_is_not_accepted(self):
        error, calls, _ = call(first([refusal(400, "Unsupported value: 'temperature'", "unsupported_value")] * 9))
        assert len(calls) == 1
        assert not isinstance(error, NoReplyError)
        assert "leave it out: temperature=None" in str(error)

    @pytest.mark.parametrize(
        "answer",
        [
            refusal(400, "Filtered.", "content_filter"),
            refusal(400, "This model's maximum context length is 512 tokens."),
            refusal(413, "Too large."),
            (200, {}, json.dumps({"id": "1", "object": "chat.completion", "choices": []})),
        ],
    )
    def test_a_prompt_that_gets_no_reply(self, answer):
        error, calls, _ = call(first([answer] * 9))
        assert isinstance(error, NoReplyError)
        assert len(calls) == 1

    def test_a_hanging_server(self):
        mended, over, waits = threading.Event(), threading.Event(), []

        def hangs(number, body, handler):
            if mended.is_set():
                return completion("[[A]]")
            over.wait(60)
            return None

        def wait(seconds):
            waits.append(seconds)
            if len(waits) == 2:
                mended.set()
                endpoint.client.timeout = 60.0  # however slow this machine is

        with serving(hangs) as server:
            endpoint = open_endpoint("m", server.url, KEY, timeout=0.2)
            object.__setattr__(endpoint, "wait", wait)
            assert endpoint(CHAT) == "[[A]]"
            over.set()
        assert waits == [1.0, 2.0]

    def test_a_server_that_hangs_without_end(self):
        error, _, _ = call(lambda *_: time.sleep(0.4), timeout=0.1, max_retries=1)
        assert re.search(
            r"a response in time from http.*, got none within 0.1 s after 1 retries. Raise timeout=.", str(error)
        )

    def test_a_connection_reset(self):
        def resets(number, body, handler):
            if number == 0:
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handler.connection.close()
                return None
            return completion("[[A]]")

        reply, calls, waits = call(resets)
        assert (reply, len(calls), waits) == ("[[A]]", 2, [1.0])

    def test_no_server(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        endpoint = open_endpoint("m", f"http://127.0.0.1:{port}/v1", KEY, max_retries=2)
        waits = []
        object.__setattr__(endpoint, "wait", waits.append)
        with pytest.raises(
            rs.RankSelectError, match=r"a connection to http.*, got none \(.*refused.*\) after 2 retries"
        ):
            endpoint(CHAT)
        assert waits == [1.0, 2.0]

    @pytest.mark.parametrize(
        "answer",
        [
            (200, {}, '{"choices": [{"mess'),
            (200, {}, ""),
            (200, {}, "null"),
            (200, {}, "[]"),
            (200, {}, '"text"'),
            (200, {}, "{}"),
            (200, {}, '{"choices": null}'),
            (200, {}, '{"choices": {"a": 1}}'),
            (200, {}, '{"choices": [null]}'),
            (200, {}, '{"choices": ["text"]}'),
            (200, {}, '{"choices": [{}]}'),
            (200, {}, '{"choices": [{"message": "text"}]}'),
            (200, {}, '{"choices": [{"message": {"content": 3}}]}'),
            (200, {"Content-Type": "text/html"}, "<html>Welcome</html>"),
        ],
    )
    def test_answers_of_another_form(self, answer):
        reply, calls, waits = call(first(answer))
        assert (reply, len(calls), waits) == ("[[A]]", 2, [1.0])
        error, calls, _ = call(first([answer] * 9), max_retries=1)
        assert len(calls) == 2
        assert re.search(
            r"a response in the format of OpenAI's API from http.*, got another format \(.+\) after 1 retries",
            str(error),
        )

    def test_refusals_and_empty_replies_are_replies(self):
        assert call(lambda *_: completion(None, refusal="I cannot help."))[0] == "I cannot help."
        assert call(lambda *_: completion(None))[0] == ""
        assert call(lambda *_: completion(""))[0] == ""


class TestOpening:
    def test_from_the_environment(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
        with serving(first([])) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/")
            assert open_endpoint("m")(CHAT) == "[[A]]"
            assert server.calls[0][1]["Authorization"] == f"Bearer {KEY}"
            assert LLMJudge("m").base_url == server.url

    def test_arguments_come_before_the_environment(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "other")
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        with serving(first([])) as server:
            assert open_endpoint("m", server.url, KEY)(CHAT) == "[[A]]"
            assert server.calls[0][1]["Authorization"] == f"Bearer {KEY}"

    def test_your_own_server_needs_no_key(self):
        with serving(first([])) as server:
            assert open_endpoint("m", server.url)(CHAT) == "[[A]]"

    def test_openai_does(self):
        with pytest.raises(rs.RankSelectError, match="an API key, got none. Set OPENAI_API_KEY or pass api_key="):
            LLMJudge("m")

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("localhost:8000/v1", "a base URL that starts with http:// or https://, got 'localhost:8000/v1'"),
            ("ftp://host", "got 'ftp://host'"),
            ("https://", "got 'https://'"),
            ("http://[::1/v1", "a base URL, got one that cannot be parsed"),
            ("http://host:99999999/v1", "a base URL, got one that cannot be parsed"),
            (f"https://user:{KEY}@host/v1", r"without user name, password or query, got one with them \(host host\)"),
            (f"https://host/v1?key={KEY}", r"without user name, password or query, got one with them \(host host\)"),
        ],
    )
    def test_addresses(self, url, message):
        with pytest.raises(rs.RankSelectError, match=message) as caught:
            LLMJudge("m", base_url=url)
        assert KEY not in str(caught.value)

    @pytest.mark.parametrize("key", [f"{KEY}ü", f"{KEY}\n{KEY}", f"Bearer {KEY}", f"{KEY}\x00"])
    def test_keys_that_cannot_be_one(self, key):
        with pytest.raises(rs.RankSelectError, match="an API key of printable ASCII characters") as caught:
            LLMJudge("m", base_url="http://127.0.0.1:1/v1", api_key=key)
        assert KEY not in str(caught.value)

    def test_without_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "openai", None)
        with pytest.raises(rs.errors.MissingExtraError, match=r"rankselect\[judge\]"):
            LLMJudge("m", api_key=KEY)
        LLMJudge("m", complete=lambda messages: "")


class TestWaits:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"retry-after": "0"}, 0.0),
            ({"retry-after": "1.5"}, 1.5),
            ({"retry-after-ms": "20", "retry-after": "1"}, 0.02),
            ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
            ({"retry-after": "soon"}, None),
            ({"retry-after": "-1"}, None),
            ({"retry-after": "nan"}, None),
            ({"retry-after": "inf"}, None),
            ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
            ({}, None),
        ],
    )
    def test_headers(self, headers, seconds):
        assert retry_after(headers) == seconds

    def test_backoff(self):
        assert [seconds_to_wait(n, None) for n in (0, 1, 2, 5, 6, 99999)] == [1, 2, 4, 32, 60, 60]


class TestRanking:
    def test_through_http(self, tmp_path):
        with serving(prefers_longer) as server:
            judge = LLMJudge("m", base_url=server.url, api_key=KEY, cache=tmp_path, max_tokens=64)
            assert judge.n_calls(QUESTIONS, ANSWERS) == 8
            result = judge.rank(QUESTIONS, ANSWERS, progress=False)
            assert [arm.arm for arm in result.ranking] == ["long", "short"]
            assert len(server.calls) == 8
            assert {(body["model"], body["temperature"], body["max_tokens"]) for _, _, body in server.calls} == {
                ("m", 0, 64)
            }
            again = LLMJudge("m", base_url=server.url, cache=tmp_path, max_tokens=64).rank(QUESTIONS, ANSWERS)
            assert again.ranking == result.ranking
            assert len(server.calls) == 8
        assert LLMJudge("m", base_url="http://127.0.0.1:1/v1", cache=tmp_path).n_calls(QUESTIONS, ANSWERS) == 8

    def test_never_more_calls_at_once_than_allowed(self):
        now, most, lock, three = [0], [0], threading.Lock(), threading.Barrier(3)

        def counts(number, body, handler):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            if number < 3:
                three.wait(60)
            time.sleep(0.02)
            with lock:
                now[0] -= 1
            return prefers_longer(number, body, handler)

        with serving(counts) as server:
            LLMJudge("m", base_url=server.url, concurrency=3).rank(QUESTIONS, ANSWERS, progress=False)
        assert most[0] == 3

    def test_a_refused_key_is_one_error_at_once(self, tmp_path):
        with serving(lambda *_: refusal(401, "Wrong key.")) as server:
            judge = LLMJudge("m", base_url=server.url, api_key=KEY, cache=tmp_path)
            with pytest.raises(rs.RankSelectError) as caught:
                judge.rank(QUESTIONS, ANSWERS, progress=False)
            assert len(server.calls) <= 4  # those under way at once
        assert type(caught.value).__name__ == "EndpointError"
        assert str(caught.value) == (
            f"expected a key that is accepted by {server.url}, got status 401 (Wrong key). Set OPENAI_API_KEY or pass "
            f"api_key=. 0 of 8 replies are kept in {tmp_path}."
        )
        assert caught.value.__cause__ is None

    def test_an_endpoint_that_goes_away_loses_nothing(self, tmp_path):
        def goes_away(number, body, handler):
            return prefers_longer(number, body, handler) if number < 5 else refusal(500, "Gone.")

        with serving(goes_away) as server:
            judge = LLMJudge("m", base_url=server.url, cache=tmp_path, max_retries=0, concurrency=1)
            with pytest.raises(rs.RankSelectError, match=f"5 of 8 replies are kept in {tmp_path}"):
                judge.rank(QUESTIONS, ANSWERS, progress=False)
            assert judge.n_calls(QUESTIONS, ANSWERS) == 3
            server.script = prefers_longer
            assert judge.rank(QUESTIONS, ANSWERS, progress=False).ranking[0].arm == "long"
            assert len(server.calls) == 9  # 5, the failed one, 3

    def test_a_failed_run_does_not_wait_for_the_others_backoff(self):
        """One call fails permanently while others wait for half a minute: the run ends at once."""

        def script(number, body, handler):
            if number == 0:
                time.sleep(0.2)
                return refusal(401, "Wrong key.")
            return refusal(429, "Slow down.", **{"Retry-After": "30"})

        with serving(script) as server:
            judge = LLMJudge("m", base_url=server.url)
            with pytest.raises(rs.RankSelectError, match="Wrong key"):
                judge.rank(QUESTIONS, ANSWERS, progress=False)
            assert len(server.calls) <= 4  # no call was repeated after half a minute

    def test_temporary_failures_do_not_change_the_result(self, monkeypatch):
        monkeypatch.setattr("rankselect.metrics.judge.failures._FIRST_WAIT", 0.01)

        def flaky(number, body, handler):
            if number % 3 == 0:
                return refusal(503, "Busy.")
            return (200, {}, "{") if number % 3 == 1 else prefers_longer(number, body, handler)

        with serving(flaky) as server:
            judge = LLMJudge("m", base_url=server.url, max_retries=30)
            result = judge.rank(QUESTIONS, ANSWERS, progress=False)
        assert result.n_abstentions == 0
        assert result.ranking[0].arm == "long"


class TestTheKeyIsNowhere:
    """The endpoint returns the key in replies and error messages, and everything is logged; we never show it."""

    @pytest.mark.parametrize(
        "script",
        [
            lambda *_: completion(f"Your key is {KEY}. [[A]]"),
            lambda *_: refusal(401, f"Wrong key: {KEY}"),
            lambda *_: refusal(403, "x" * 150 + KEY),
            lambda *_: refusal(400, f"Header Authorization: Bearer {KEY} is odd"),
            lambda *_: refusal(400, f"Filtered with {KEY}", "content_filter"),
            lambda *_: refusal(500, f"Oops {KEY}"),
            lambda *_: (200, {}, f"<html>{KEY}</html>"),
            lambda *_: (200, {}, f'"{KEY}'),
            lambda *_: (500, {"Content-Type": "text/plain"}, KEY),
        ],
    )
    @pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")
    def test_whatever_the_endpoint_says(self, script, tmp_path, caplog):
        caplog.set_level(logging.DEBUG)
        said = []
        with serving(script) as server:
            judge = LLMJudge("m", base_url=server.url, api_key=KEY, cache=tmp_path, max_retries=0)
            said += [repr(judge), str(judge), repr(judge._call)]
            try:
                result = judge.rank(QUESTIONS, ANSWERS, progress=False)
                said += [repr(result), str(result), json.dumps(result.to_dict())]
            except rs.RankSelectError as error:
                said += [text for each in chain(error) for text in (repr(each), repr(vars(each)))]
                said += traceback.format_exception(error)
            assert server.calls[0][1]["Authorization"] == f"Bearer {KEY}"
        said += [file.read_text() for file in Path(tmp_path).rglob("*") if file.is_file()]
        said += [caplog.text, *(repr(vars(record)) for record in caplog.records)]
        assert caplog.records
        for text in said:
            assert KEY not in text
            assert KEY[:12] not in text

    def test_nor_in_a_pickle_of_the_judge(self):
        with pytest.raises(TypeError) as caught:
            pickle.dumps(LLMJudge("m", base_url="http://127.0.0.1:1/v1", api_key=KEY))
        assert KEY not in str(caught.value)

    def test_a_placeholder_is_no_secret(self):
        """A key of one letter, which local servers accept, is not removed from the replies."""
        with serving(lambda *_: completion("An example. [[A]]")) as server:
            assert open_endpoint("m", server.url, "x")(CHAT) == "An example. [[A]]"
