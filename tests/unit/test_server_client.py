"""The client against a real server that fails: deadlines, repetitions, pauses, budgets, what is kept, what is never said."""

from __future__ import annotations

import asyncio
import gzip
import json
import multiprocessing
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Fault
from scope_rlvr.servers.client import Client, ServerAnswer, ServerQuestion
from scope_rlvr.servers.replies import BadReply
from scope_rlvr.servers.settings import NO_CACHE, ServerSettings
from tests.faulty_server import MODEL, FaultyServer
from tests.waiting import wait_until

PATH = "/completions"


def settings(**changes: Any) -> ServerSettings:
    values: dict[str, Any] = {
        "cache": NO_CACHE,
        "request_seconds": 10.0,
        "batch_seconds": 20.0,
        "backoff_seconds": 0.01,
    }
    return ServerSettings(**(values | changes))


def text_of(reply: Any) -> str:
    try:
        return str(reply["choices"][0]["text"])
    except (KeyError, TypeError, IndexError) as error:
        raise BadReply(Fault.MALFORMED, "no text") from error


def question(number: int = 0, read: Callable[[Any], str] = text_of) -> ServerQuestion[str]:
    body = {"model": MODEL, "prompt": "reduce 1 2 3\n\n", "max_tokens": 9, "number": number}
    return ServerQuestion(body, num_prompt_tokens=10, num_reply_tokens=40, read=read)


def ask(client: Client, *questions: ServerQuestion[str], **how: Any) -> list[ServerAnswer[str]]:
    return client.ask(PATH, list(questions) or [question()], **how)


@contextmanager
def raw_server(*payloads: bytes) -> Iterator[str]:
    """A server that sends these bytes, one payload a connection (the last one again and again), and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for number in range(1000):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    data = b""
                    while b"\r\n\r\n" not in data:
                        data += connection.recv(65536)
                    connection.sendall(payloads[min(number, len(payloads) - 1)])
                except OSError:
                    continue

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


RIGHT = json.dumps({"choices": [{"text": "fine"}]}).encode()

# --- answers --------------------------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_questions() -> None:
    with FaultyServer(write=lambda before: before.split()[1]) as server:
        client = Client(server.url, settings())
        questions = [ServerQuestion({"model": MODEL, "prompt": f"reduce {i} 1\n\n"}, 1, 1, text_of) for i in range(40)]
        assert [answer.value for answer in client.ask(PATH, questions)] == [str(i) for i in range(40)]


def test_no_more_questions_are_under_way_than_allowed() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def write(before: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return "x"

    with FaultyServer(write=write) as server:
        ask(Client(server.url, settings(concurrency=3)), *(question(i) for i in range(20)))
    assert most <= 3


def test_equal_questions_are_asked_once_and_read_each_in_its_own_way() -> None:
    def refuse(reply: Any) -> str:
        raise BadReply(Fault.EMPTY, "I wanted something else")

    with FaultyServer() as server:
        answers = ask(Client(server.url, settings()), question(), question(), question(read=refuse), question(1))
        assert server.num_requests == 2
    assert answers[0].value == answers[1].value
    assert [answer.effort.num_requests for answer in answers] == [1, 0, 0, 1]
    assert answers[2].fault is Fault.EMPTY


def test_a_running_event_loop_is_no_obstacle() -> None:
    with FaultyServer() as server:
        client = Client(server.url, settings())

        async def in_a_notebook() -> list[ServerAnswer[str]]:
            return ask(client)

        (answer,) = asyncio.run(in_a_notebook())
    assert answer.fault is None


def test_no_question_is_no_request() -> None:
    assert Client("http://127.0.0.1:9", settings()).ask(PATH, []) == []


# --- failures -------------------------------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (answer,) = ask(Client(f"http://127.0.0.1:{port}", settings(retries=2)))
    assert answer.fault is Fault.CONNECTION
    assert answer.effort.num_requests == 3


@pytest.mark.parametrize(
    ("fault", "kind", "num_requests"),
    [
        ("refused", Fault.CONNECTION, 3),
        ("reset in the body", Fault.CONNECTION, 3),
        ("429", Fault.RATE_LIMIT, 3),
        ("500", Fault.SERVER, 3),
        ("503", Fault.SERVER, 3),
        ("truncated JSON", Fault.MALFORMED, 1),
        ("wrong schema", Fault.MALFORMED, 1),
        ("200 with an error inside", Fault.REPORTED, 1),
        ("HTML page", Fault.MALFORMED, 1),
    ],
)
def test_only_what_may_pass_is_tried_again(fault: str, kind: Fault, num_requests: int) -> None:
    with FaultyServer(fault) as server:
        (answer,) = ask(Client(server.url, settings(retries=2)))
        assert (answer.fault, server.num_requests) == (kind, num_requests)
    assert answer.value is None
    assert answer.message


def test_a_failure_that_passes_leaves_nothing_but_a_retry() -> None:
    with raw_server(http(b"busy", status="503 Busy"), http(RIGHT)) as url:
        (answer,) = ask(Client(url, settings()))
    assert (answer.value, answer.effort.num_requests) == ("fine", 2)


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_request_ends_at_its_deadline(fault: str) -> None:
    with FaultyServer(fault) as server:
        (answer,) = ask(Client(server.url, settings(request_seconds=0.3, retries=0)))
    assert answer.fault is Fault.TIMEOUT
    assert answer.message == "no whole reply within 0.3 s"


def test_a_batch_ends_at_its_deadline_whatever_is_still_to_be_asked() -> None:
    with FaultyServer("hang") as server:
        patience = settings(request_seconds=60, batch_seconds=0.5, concurrency=2, pause_after=1000)
        answers = ask(Client(server.url, patience), *(question(i) for i in range(20)))
        assert server.num_requests <= 2
    assert {answer.fault for answer in answers} == {Fault.TIMEOUT}
    # What was asked got what was left of the batch's time, and not the time of a request.
    waits = [
        float(found[1]) for answer in answers if (found := re.match(r"no whole reply within (.+?) s\b", answer.message))
    ]
    assert len(waits) <= 2
    assert all(wait <= 0.5 for wait in waits)
    assert [answer.message for answer in answers].count("not asked: the batch's time was up") == 20 - len(waits)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client means to wait between requests; it does not really wait."""
    seconds: list[float] = []

    async def sleep(wait: float) -> None:
        seconds.append(wait)

    monkeypatch.setattr("scope_rlvr.servers.client.anyio.sleep", sleep)
    return seconds


def test_retry_after_is_honoured(waits: list[float]) -> None:
    with raw_server(http(b"", "Retry-After: 7", status="429 Slow"), http(RIGHT)) as url:
        (answer,) = ask(Client(url, settings()))
    assert answer.value == "fine"
    assert waits == [7.0]


def test_a_wait_beyond_the_deadline_is_not_begun(waits: list[float]) -> None:
    with raw_server(http(b"", "Retry-After: 3600", status="429 Slow")) as url:
        (answer,) = ask(Client(url, settings(batch_seconds=5)))
    assert waits == []
    assert answer.fault is Fault.RATE_LIMIT
    assert "3.6e+03 s later" in answer.message


def test_a_redirection_is_not_followed() -> None:
    with raw_server(http(b"", "Location: http://127.0.0.1:9/", status="307 Elsewhere")) as url:
        (answer,) = ask(Client(url, settings()))
    assert (answer.fault, answer.effort.num_requests) == (Fault.REFUSED, 1)


def test_an_error_inside_that_passes_is_tried_again() -> None:
    with raw_server(http(b'{"error": {"code": 502, "message": "upstream"}}'), http(RIGHT)) as url:
        (answer,) = ask(Client(url, settings()))
    assert answer.value == "fine"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b"[" * 200_000,
        b'{"choices": NaN}',
        b"\xff\xfe\x00",
        b'{"choices": [{"text": ' + b"9" * 9999,
    ],
)
def test_hostile_bodies_are_malformed_replies(body: bytes) -> None:
    with raw_server(http(body)) as url:
        (answer,) = ask(Client(url, settings()))
    # A server that closes right after a large body may reset the connection before it was read.
    assert answer.fault is Fault.MALFORMED or (len(body) > 100_000 and answer.fault is Fault.CONNECTION)


def test_a_reply_that_never_ends_is_given_up() -> None:
    limited = replace(question(), max_bytes=10_000)
    with raw_server(http(b" " * 100_000)) as url:
        (answer,) = ask(Client(url, settings()), limited)
    assert answer.fault is Fault.MALFORMED
    assert "10000 bytes" in answer.message


def test_a_small_reply_that_unpacks_to_a_large_one_is_given_up() -> None:
    limited = replace(question(), max_bytes=10_000)
    with raw_server(http(gzip.compress(b" " * 10_000_000), "Content-Encoding: gzip")) as url:
        (answer,) = ask(Client(url, settings()), limited)
    assert answer.fault is Fault.MALFORMED


def test_a_reply_that_comes_twice_answers_one_question() -> None:
    with FaultyServer("the same reply twice", write=lambda before: before.split()[1]) as server:
        client = Client(server.url, settings(concurrency=1))
        questions = [ServerQuestion({"model": MODEL, "prompt": f"reduce {i} 1\n\n"}, 1, 1, text_of) for i in range(10)]
        assert [answer.value for answer in client.ask(PATH, questions)] == [str(i) for i in range(10)]


# --- replies that no honest server sends ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("huge usage count", {Fault.MALFORMED}),
        ("huge log-probability", {Fault.MALFORMED}),
        ("far Retry-After", {Fault.RATE_LIMIT}),
        ("a million ids", {None}),  # no reader here looks at them
        ("escape sequences", {Fault.REFUSED}),
        ("deep nesting", {None, Fault.MALFORMED}),  # as deep as this Python reads
        ("endless body", {Fault.MALFORMED}),
    ],
)
def test_hostile_replies_cost_one_answer_each(fault: str, kinds: set[Fault | None], tmp_path: Path) -> None:
    with FaultyServer(fault) as server:
        limits = settings(cache=tmp_path, retries=0, max_money=1.0, reply_price=1.0)
        (answer,) = ask(Client(server.url, limits))
    assert answer.fault in kinds
    assert all(char.isprintable() for char in answer.message)
    assert len(answer.message) < 1000


def test_a_reply_is_read_no_further_than_its_question_allows() -> None:
    with FaultyServer("endless body") as server:
        (answer,) = ask(Client(server.url, settings()), replace(question(), max_bytes=100_000))
        assert answer.fault is Fault.MALFORMED
        assert "100000 bytes" in answer.message
        # What the sockets hold is sent, too.
        assert server.num_poured < 50_000_000


def test_a_list_of_models_ends_at_a_deadline() -> None:
    with FaultyServer(models="drip") as server:
        assert Client(server.url, settings(request_seconds=0.3)).get("/models") is None
        # Whoever waits is given the whole list, and not None.
        assert Client(server.url, settings(request_seconds=60)).get("/models")["data"][0]["id"] == MODEL


def test_a_list_of_models_ends_at_a_size() -> None:
    with FaultyServer(models="endless body") as server:
        assert Client(server.url, settings()).get("/models") is None
        assert server.num_poured < 50_000_000


def test_a_story_of_the_server_is_one_short_line() -> None:
    with raw_server(http(b"\x1b[2Jbad\n\tluck " + b"x" * 9999, status="400 No")) as url:
        (answer,) = ask(Client(url, settings()))
    assert answer.message.startswith("HTTP 400: ⟨U+001B⟩[2Jbad luck xxx")
    assert len(answer.message) < 400


# --- pauses and budgets ---------------------------------------------------------------------------------------------


def test_a_server_that_is_down_is_left_alone_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer("500") as server:
        client = Client(server.url, settings(retries=0, pause_after=3, pause_seconds=600, concurrency=1))
        answers = ask(client, *(question(i) for i in range(10)))
        assert server.num_requests == 3
        assert [answer.fault for answer in answers] == [Fault.SERVER] * 3 + [Fault.PAUSED] * 7
        assert "3 requests in a row" in answers[-1].message
        assert "HTTP 500: worker died" in answers[-1].message
        server.fault = None
        now = time.monotonic()
        monkeypatch.setattr("scope_rlvr.servers.client.time", SimpleNamespace(monotonic=lambda: now + 600))
        assert [answer.fault for answer in ask(client, *(question(i) for i in range(10)))] == [None] * 10


def test_a_busy_server_is_not_taken_for_a_broken_one() -> None:
    with FaultyServer("429") as server:
        client = Client(server.url, settings(retries=0, pause_after=2, concurrency=1))
        assert {answer.fault for answer in ask(client, *(question(i) for i in range(6)))} == {Fault.RATE_LIMIT}
        assert server.num_requests == 6


def test_nothing_is_asked_beyond_the_budget() -> None:
    with FaultyServer(write=lambda before: "word " * 5) as server:
        client = Client(server.url, settings(max_tokens=200, concurrency=4))
        answers = ask(client, *(question(i) for i in range(40)))
    # A question may cost 50; a reply says that it cost 4 + 5.
    spent = sum(answer.effort.num_prompt_tokens + answer.effort.num_reply_tokens for answer in answers)
    assert spent == client.budget.num_tokens <= 200
    assert {answer.fault for answer in answers} == {None, Fault.BUDGET}
    assert "of 200 tokens" in next(answer.message for answer in answers if answer.fault)


def test_money_is_counted_by_what_the_server_says() -> None:
    with FaultyServer(write=lambda before: "word " * 5) as server:
        client = Client(server.url, settings(prompt_price=1_000_000.0, reply_price=2_000_000.0))
        (answer,) = ask(client)
    assert answer.effort.money == 4 * 1.0 + 5 * 2.0
    assert client.budget.money == answer.effort.money


def test_what_an_earlier_part_of_the_run_spent_counts() -> None:
    with FaultyServer() as server:
        (answer,) = ask(Client(server.url, settings(max_tokens=100), tokens_spent=60))
    assert answer.fault is Fault.BUDGET


def spending_in_a_process(url: str, record: Path, number: int) -> None:
    """Ask one question of 50 tokens at most, out of a budget of 200, and hang."""
    client = Client(url, settings(max_tokens=200, request_seconds=60, batch_seconds=60), spending=record)
    ask(client, question(number))


def test_a_budget_survives_being_killed(tmp_path: Path) -> None:
    record = tmp_path / "spending.json"
    fresh = multiprocessing.get_context("spawn")
    with FaultyServer("hang") as server:
        for number in range(3):
            child = fresh.Process(target=spending_in_a_process, args=(server.url, record, number))
            child.start()
            wait_until(lambda number=number: server.num_requests > number, "a request of the process")
            child.kill()
            child.join()
        server.fault = None
        client = Client(server.url, settings(max_tokens=200), spending=record)
        assert client.budget.num_tokens == 150
        answers = ask(client, question(10), question(11))
    # Only one of them fits in: 150 + 50 = 200.
    assert [answer.fault for answer in answers].count(Fault.BUDGET) == 1
    assert json.loads(record.read_bytes())["tokens"] == client.budget.num_tokens <= 200


def test_a_record_that_says_nothing_is_not_taken_for_zero(tmp_path: Path) -> None:
    record = tmp_path / "spending.json"
    for text in ("", "[]", '{"schema": 1}', '{"schema": 2, "tokens": 0}'):
        record.write_text(text)
        with pytest.raises(UserError, match="does not say what the run has spent"):
            Client("http://127.0.0.1:9", settings(max_tokens=9), spending=record)


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_a_repeated_run_asks_nothing_twice(tmp_path: Path) -> None:
    with FaultyServer() as server:
        first = ask(Client(server.url, settings(cache=tmp_path)), question(1), question(2))
        again = ask(Client(server.url, settings(cache=tmp_path)), question(2), question(1), question(3))
        assert server.num_requests == 3
    assert [answer.value for answer in again[:2]] == [first[1].value, first[0].value]
    assert [answer.effort.num_requests for answer in again] == [0, 0, 1]


def test_failures_are_not_kept(tmp_path: Path) -> None:
    for fault in ("wrong schema", "500", "empty text"):
        with FaultyServer(fault) as server:
            ask(
                Client(server.url, settings(cache=tmp_path, retries=0)), question(read=lambda r: text_of(r) or refuse())
            )
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def refuse() -> str:
    raise BadReply(Fault.EMPTY, "nothing")


def test_a_live_question_is_not_answered_from_the_cache(tmp_path: Path) -> None:
    with FaultyServer() as server:
        client = Client(server.url, settings(cache=tmp_path))
        ask(client)
        ask(client, use_cache=False)
        assert server.num_requests == 2


def test_another_server_is_another_question(tmp_path: Path) -> None:
    for _ in range(2):
        with FaultyServer() as server:
            ask(Client(server.url, settings(cache=tmp_path)))
            assert server.num_requests == 1


# --- the key --------------------------------------------------------------------------------------------------------

KEY = "sk-canary-7c1f"


def test_the_key_is_sent_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with FaultyServer() as server:
        client = Client(server.url, settings(api_key_env="TEACHER_KEY", cache=tmp_path))
        ask(client)
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert all(KEY not in file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert KEY not in repr(client)


def test_a_key_that_a_server_quotes_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with raw_server(http(f"Incorrect API key provided: {KEY}".encode(), status="401 No")) as url:
        (answer,) = ask(Client(url, settings(api_key_env="TEACHER_KEY")))
    assert answer.message == "HTTP 401: Incorrect API key provided: ***"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_key_is_said_at_once(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEACHER_KEY", value)
    with pytest.raises(UserError, match="'TEACHER_KEY', and there is no such environment variable"):
        Client("http://127.0.0.1:9", settings(api_key_env="TEACHER_KEY"))


def test_an_interruption_ends_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    main = threading.main_thread().ident
    assert main is not None
    with FaultyServer("hang") as server:
        client = Client(server.url, settings(request_seconds=60, batch_seconds=60))
        ended: list[Any] = []
        send = client._send

        async def noted(*args: Any) -> Any:
            ended.append(await send(*args))
            return ended[-1]

        def interrupt() -> None:
            wait_until(lambda: server.num_requests, "the request")
            signal.pthread_kill(main, signal.SIGINT)

        monkeypatch.setattr(client, "_send", noted)
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            ask(client)
    assert ended == [], "it was waited for to its deadline"
