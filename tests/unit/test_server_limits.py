"""The cache on disk, the breaker, the budget, what a server asks to wait."""

from __future__ import annotations

import json
import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.servers.cache import ReplyCache
from scope_rlvr.servers.limits import Budget, CircuitBreaker
from scope_rlvr.servers.replies import retry_after
from scope_rlvr.store.digests import value_digest

QUESTION = {"url": "http://here/v1", "body": {"model": "m", "prompt": [1, 2]}}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def only_file(folder: Path) -> Path:
    (file,) = [file for file in folder.rglob("*") if file.is_file()]
    return file


# --- cache ----------------------------------------------------------------------------------------------------------


@given(reply=JSON)
def test_what_is_kept_comes_back(tmp_path_factory: pytest.TempPathFactory, reply: Any) -> None:
    cache = ReplyCache(tmp_path_factory.mktemp("cache"))
    assert cache.get(QUESTION) is None
    cache.put(QUESTION, reply)
    assert cache.get(QUESTION) == reply


def test_any_other_question_is_not_known(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path)
    cache.put(QUESTION, "reply")
    for other in ({**QUESTION, "url": "http://there/v1"}, {**QUESTION, "body": {"model": "m", "prompt": [1, 3]}}):
        assert cache.get(other) is None


def test_the_file_can_be_read_by_a_person(tmp_path: Path) -> None:
    ReplyCache(tmp_path).put(QUESTION, {"text": "3"})
    entry = json.loads(only_file(tmp_path).read_text())
    assert entry["question"] == QUESTION
    assert entry["reply"] == {"text": "3"}
    assert only_file(tmp_path).name == f"{value_digest(QUESTION)}.json"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_torn_entry_is_a_miss_and_is_mended(tmp_path: Path, share: float) -> None:
    cache = ReplyCache(tmp_path)
    cache.put(QUESTION, {"text": "3"})
    file = only_file(tmp_path)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert cache.get(QUESTION) is None
    cache.put(QUESTION, {"text": "3"})
    assert cache.get(QUESTION) == {"text": "3"}


@pytest.mark.parametrize(
    "change",
    [
        {"reply": {"text": "4"}},
        {"key": "0" * 64},
        {"schema": 2},
        {"digest": None},
    ],
)
def test_an_altered_entry_is_a_miss(tmp_path: Path, change: dict[str, Any]) -> None:
    cache = ReplyCache(tmp_path)
    cache.put(QUESTION, {"text": "3"})
    file = only_file(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert cache.get(QUESTION) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'"text"'])
def test_anything_else_in_its_place_is_a_miss(tmp_path: Path, content: bytes) -> None:
    cache = ReplyCache(tmp_path)
    cache.put(QUESTION, "x")
    only_file(tmp_path).write_bytes(content)
    assert cache.get(QUESTION) is None


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = ReplyCache(tmp_path / "file")
    cache.put(QUESTION, 1)
    cache.put(QUESTION, 1)
    assert cache.get(QUESTION) is None
    assert len([r for r in caplog.records if "cannot be written" in r.getMessage()]) == 1


def _fill(folder: Path, seed: int) -> None:
    cache = ReplyCache(folder)
    for number in range(200):
        cache.put({"number": number % 10}, {"text": f"{number % 10}" * 2000})
        known = cache.get({"number": (number + seed) % 10})
        if known not in (None, {"text": f"{(number + seed) % 10}" * 2000}):
            os._exit(1)


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=_fill, args=(tmp_path, i)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 10
    assert all(file.suffix == ".json" for file in files)


# --- breaker and budget ---------------------------------------------------------------------------------------------


def test_the_breaker_counts_failures_in_a_row() -> None:
    breaker = CircuitBreaker(pause_after=3, pause_seconds=10)
    for at in (0.0, 1.0):
        breaker.failed(at, "down", asked_at=at)
    breaker.succeeded(1.5)
    for at in (2.0, 3.0):
        breaker.failed(at, "down", asked_at=at)
    assert breaker.allows(3.5)
    breaker.failed(4.0, "down", asked_at=4.0)
    assert not breaker.allows(13.9)


def test_of_requests_under_way_together_those_that_hang_are_not_failures_in_a_row() -> None:
    breaker = CircuitBreaker(pause_after=3, pause_seconds=10)
    breaker.succeeded(0.2)
    for _ in range(20):
        breaker.failed(1.0, "no reply", asked_at=0.1)
    assert breaker.allows(1.0)
    for _ in range(3):
        breaker.failed(1.5, "no reply", asked_at=0.5)
    assert not breaker.allows(1.6)


def test_after_a_pause_a_single_request_tries() -> None:
    breaker = CircuitBreaker(pause_after=1, pause_seconds=10)
    breaker.failed(0.0, "down", asked_at=0.0)
    assert [breaker.allows(at) for at in (9.9, 10.0, 10.1, 19.9, 20.0)] == [False, True, False, False, True]
    breaker.failed(21.0, "still down", asked_at=20.0)
    assert not breaker.allows(30.9)
    assert breaker.allows(31.0)


@given(costs=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30), limit=st.integers(1, 300))
def test_what_is_set_aside_never_exceeds_the_budget(costs: list[tuple[int, int]], limit: int) -> None:
    budget = Budget(max_tokens=limit)
    for number, (prompt, reply) in enumerate(costs):
        if budget.set_aside(prompt, reply) and number % 2:
            budget.settle(prompt, reply, num_prompt_tokens=prompt, num_reply_tokens=reply // 2)
        assert budget.num_tokens <= limit


def test_money_is_tokens_by_price() -> None:
    budget = Budget(max_money=0.01, prompt_price=1.0, reply_price=10.0)
    assert budget.set_aside(5000, 400)
    assert not budget.set_aside(1000, 1)
    budget.settle(5000, 400, num_prompt_tokens=5000, num_reply_tokens=100)
    assert budget.money == pytest.approx(0.006)
    assert budget.set_aside(3000, 100)


# --- Retry-After ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("1.5", 1.5),
        ("-5", 0),
        ("nan", 0),
        ("", 0),
        ("Wed, 99 Oct", 0),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999", 0),
        ("9" * 99, 0),
        ("Tue, 20 Oct 2015 07:28:00 GMT", 0),
    ],
)
def test_what_a_server_asks_to_wait(value: str, seconds: float) -> None:
    assert retry_after(value, datetime(2015, 10, 21, tzinfo=UTC)) == seconds


def test_a_date_without_a_zone_does_no_harm() -> None:
    assert retry_after("Wed, 21 Oct 2015 00:01:00 -0000", datetime(2015, 10, 21, tzinfo=UTC)) in (0.0, 60.0)
