"""Questions to an HTTP server that speaks JSON: many at once, each with a deadline, and a reason for every missing answer."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Effort, Fault
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.visible import visible
from scope_rlvr.servers.cache import ReplyCache
from scope_rlvr.servers.limits import Budget, CircuitBreaker
from scope_rlvr.servers.replies import BadReply, count, parsed, retry_after
from scope_rlvr.servers.settings import ServerSettings
from scope_rlvr.store.digests import value_digest

MAX_REPLY_BYTES = 1 << 24
"""The longest reply to a question that names no limit of its own."""

_MAX_LISTING_BYTES = 1 << 20
_LISTING_SECONDS = 10.0
_LONGEST_BACKOFF = 30.0
_LONGEST_MESSAGE = 400
_LONGEST_EXCERPT = 200
_BUSY = frozenset({408, 425, 429})
_WORTH_REPEATING = frozenset({Fault.CONNECTION, Fault.TIMEOUT, Fault.RATE_LIMIT, Fault.SERVER})
_SAYS_NOTHING_OF_THE_SERVER = frozenset({Fault.RATE_LIMIT, Fault.EMPTY})

T = TypeVar("T")


@dataclass(frozen=True)
class ServerQuestion(Generic[T]):
    """The body of a request, the most tokens that it can cost, and how a reply to it is read.

    ``read`` turns the JSON of a reply into a value, or raises :class:`BadReply`. A reply of more than ``max_bytes`` is not
    parsed.
    """

    body: dict[str, Any]
    num_prompt_tokens: int
    num_reply_tokens: int
    read: Callable[[Any], T]
    max_bytes: int = MAX_REPLY_BYTES


@dataclass(frozen=True)
class ServerAnswer(Generic[T]):
    """A reply and what was read from it, or the kind and the story of a failure."""

    reply: Any = None
    value: T | None = None
    fault: Fault | None = None
    message: str = ""
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True)
class _Attempt(Generic[T]):
    """One request: the reply as it came and as it was read, or the fault; ``wait`` is what the server asks to wait."""

    reply: Any = None
    value: T | None = None
    fault: Fault | None = None
    message: str = ""
    is_worth_repeating: bool = False
    wait: float = 0.0


@dataclass(frozen=True)
class _RequestBatch:
    """What the questions of one call share; ``deadline`` is a time of ``time.monotonic``."""

    http: httpx2.AsyncClient
    path: str
    deadline: float


class Client:
    """Asks one server. It remembers between calls whether the server is up, and what it has cost.

    ``tokens_spent`` and ``money_spent`` are what an earlier part of the run has taken from the budget, as far as its
    metrics know; ``spending`` is the file that a limited budget is kept in (see :class:`~scope_rlvr.servers.limits.Budget`).
    Raises :class:`UserError` where the environment variable of the API key is not set.
    """

    def __init__(
        self,
        url: str,
        settings: ServerSettings,
        seed: int = 0,
        *,
        tokens_spent: int = 0,
        money_spent: float = 0.0,
        spending: Path | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.settings = settings
        self.seed = seed
        self.cache = ReplyCache(settings.cache if settings.keeps_replies else None)
        self.breaker = CircuitBreaker(settings.pause_after, settings.pause_seconds)
        self.budget = Budget(
            max_tokens=settings.max_tokens,
            max_money=settings.max_money,
            prompt_price=settings.prompt_price,
            reply_price=settings.reply_price,
            num_tokens=tokens_spent,
            money=money_spent,
            record=spending if settings.max_tokens or settings.max_money else None,
        )
        self._key = _read_key(settings.api_key_env)

    def ask(
        self, path: str, questions: Sequence[ServerQuestion[T]], *, use_cache: bool = True
    ) -> list[ServerAnswer[T]]:
        """One answer a question, in order; never raises because of the server, and returns after ``batch_seconds``.

        Only replies that can be read are kept. Questions with equal bodies are asked once.
        """
        keys = [value_digest(question.body) for question in questions]
        firsts: dict[str, ServerQuestion[T]] = {}
        for key, question in zip(keys, questions, strict=True):
            firsts.setdefault(key, question)
        # A loop of its own in a thread of its own: the caller may have one already, as notebooks do. Leaving the block by
        # an exception (a second Ctrl-C) cancels what is still under way.
        with start_blocking_portal() as portal:
            answers = portal.call(partial(self._ask_all, path, list(firsts.values()), use_cache))
        first_answers = dict(zip(firsts, answers, strict=True))
        return [
            first_answers[key] if question is firsts[key] else _same_answer(first_answers[key], question)
            for key, question in zip(keys, questions, strict=True)
        ]

    def get(self, path: str) -> Any:
        """What a GET request gives, ``None`` where it gives nothing that can be read, soon and in a few lines."""
        with start_blocking_portal() as portal:
            return portal.call(self._get, path)

    async def _get(self, path: str) -> Any:
        with anyio.move_on_after(min(self.settings.request_seconds, _LISTING_SECONDS)):
            try:
                async with self._http(1) as http, http.stream("GET", self.url + path) as response:
                    body = await _body(response, _MAX_LISTING_BYTES)
                    return parsed(body) if response.is_success and len(body) <= _MAX_LISTING_BYTES else None
            except (httpx2.HTTPError, OSError, ValueError):
                return None
        return None

    def _http(self, num_connections: int) -> httpx2.AsyncClient:
        # A connection for each request: where one is used again, a reply that a server sends twice answers the next request.
        limits = httpx2.Limits(max_connections=num_connections, max_keepalive_connections=0)
        return httpx2.AsyncClient(headers=self._headers(), limits=limits, timeout=None)

    async def _ask_all(
        self, path: str, questions: Sequence[ServerQuestion[T]], use_cache: bool
    ) -> list[ServerAnswer[T]]:
        deadline = time.monotonic() + self.settings.batch_seconds
        limiter = anyio.CapacityLimiter(self.settings.concurrency)
        answers: dict[int, ServerAnswer[T]] = {}

        async def ask(number: int, question: ServerQuestion[T]) -> None:
            known = self._known(path, question) if use_cache else None
            if known is not None:
                answers[number] = known
                return
            async with limiter:
                answers[number] = await self._ask(question, batch)

        async with self._http(self.settings.concurrency) as http:
            batch = _RequestBatch(http, path, deadline)
            async with anyio.create_task_group() as tasks:
                for number, question in enumerate(questions):
                    tasks.start_soon(ask, number, question)
        return [answers[number] for number in range(len(questions))]

    def _known(self, path: str, question: ServerQuestion[T]) -> ServerAnswer[T] | None:
        reply = self.cache.get(self._identity(path, question))
        if reply is None:
            return None
        try:
            return ServerAnswer(reply, question.read(reply))
        except BadReply:
            return None

    def _identity(self, path: str, question: ServerQuestion[T]) -> dict[str, Any]:
        return {"url": self.url + path, "body": question.body}

    async def _ask(self, question: ServerQuestion[T], batch: _RequestBatch) -> ServerAnswer[T]:
        """One question until it is answered, or until asking again cannot help."""
        started, num_requests = time.monotonic(), 0
        # Seeded by the question, so that the waits of a run do not depend on the order in which replies come.
        rng = random.Random(derive_seed(self.seed, "retry", value_digest(question.body)))
        attempt: _Attempt[T] = _Attempt(fault=Fault.TIMEOUT, message="not asked: the batch's time was up")
        while time.monotonic() < batch.deadline:
            if not self.breaker.allows(time.monotonic()):
                if not num_requests:
                    told = f"{self.breaker.num_failures} requests in a row had failed (the last: {self.breaker.cause})"
                    attempt = _Attempt(fault=Fault.PAUSED, message=f"not asked: {told}")
                break
            if not self.budget.set_aside(question.num_prompt_tokens, question.num_reply_tokens):
                attempt = _Attempt(
                    fault=Fault.BUDGET, message=f"not asked: the budget is spent ({self._budget_text()})"
                )
                break
            num_requests += 1
            attempt = await self._attempt(question, batch)
            if not attempt.is_worth_repeating or num_requests > self.settings.retries:
                break
            backoff = min(self.settings.backoff_seconds * 2 ** (num_requests - 1), _LONGEST_BACKOFF)
            wait = max(backoff * rng.uniform(0.5, 1.0), attempt.wait)
            if time.monotonic() + wait >= batch.deadline:
                attempt = replace(
                    attempt, message=f"{attempt.message}; no time is left to ask again {wait:.3g} s later"
                )
                break
            await anyio.sleep(wait)
        effort = replace(self._spent(attempt, question), num_requests=num_requests, seconds=time.monotonic() - started)
        return ServerAnswer(attempt.reply, attempt.value, attempt.fault, attempt.message, effort)

    async def _attempt(self, question: ServerQuestion[T], batch: _RequestBatch) -> _Attempt[T]:
        """One request, and what is learned from it. Its cost at most is set aside already, and stays so where the request is
        broken off: the server may have answered it."""
        asked_at = time.monotonic()
        attempt = await self._send(question, batch)
        spent = self._spent(attempt, question)
        self.budget.settle(
            question.num_prompt_tokens,
            question.num_reply_tokens,
            num_prompt_tokens=spent.num_prompt_tokens,
            num_reply_tokens=spent.num_reply_tokens,
        )
        if attempt.fault is None:
            self.breaker.succeeded(time.monotonic())
            self.cache.put(self._identity(batch.path, question), attempt.reply)
        elif attempt.fault not in _SAYS_NOTHING_OF_THE_SERVER:
            self.breaker.failed(time.monotonic(), attempt.message, asked_at=asked_at)
        return attempt

    async def _send(self, question: ServerQuestion[T], batch: _RequestBatch) -> _Attempt[T]:
        seconds = min(self.settings.request_seconds, batch.deadline - time.monotonic())
        # One limit around everything: a server that sends a byte now and then never runs into a limit for each byte.
        with anyio.move_on_after(seconds):
            try:
                async with batch.http.stream("POST", self.url + batch.path, json=question.body) as response:
                    return self._read(response, await _body(response, question.max_bytes), question)
            except (httpx2.HTTPError, OSError) as error:
                story = self._safe(str(error) or type(error).__name__)
                return _Attempt(fault=Fault.CONNECTION, message=story, is_worth_repeating=True)
        return _Attempt(fault=Fault.TIMEOUT, message=f"no whole reply within {seconds:.3g} s", is_worth_repeating=True)

    def _read(self, response: httpx2.Response, body: bytes, question: ServerQuestion[T]) -> _Attempt[T]:
        if not response.is_success:
            fault = _fault_of(response.status_code)
            message = f"HTTP {response.status_code}: {self._excerpt(body)}"
            wait = retry_after(response.headers.get("retry-after"))
            return _Attempt(fault=fault, message=message, is_worth_repeating=fault in _WORTH_REPEATING, wait=wait)
        if len(body) > question.max_bytes:
            told = f"a reply of more than {question.max_bytes} bytes, the most that an answer can need"
            return _Attempt(fault=Fault.MALFORMED, message=told)
        try:
            reply = parsed(body)
        except ValueError as error:
            return _Attempt(fault=Fault.MALFORMED, message=f"the reply is not JSON ({error}): {self._excerpt(body)}")
        if isinstance(reply, dict) and reply.get("error"):
            code = reply["error"].get("code") if isinstance(reply["error"], dict) else None
            is_passing = isinstance(code, int) and _fault_of(code) in _WORTH_REPEATING
            message = f"status 200 with an error inside: {self._excerpt(body)}"
            return _Attempt(reply, fault=Fault.REPORTED, message=message, is_worth_repeating=is_passing)
        try:
            return _Attempt(reply, question.read(reply))
        except BadReply as error:
            return _Attempt(reply, fault=error.fault, message=self._safe(str(error)))

    def _spent(self, attempt: _Attempt[T], question: ServerQuestion[T]) -> Effort:
        """Tokens and money of a reply: as it says itself, else the most that it can have cost."""
        if attempt.reply is None:
            return Effort()
        usage = attempt.reply.get("usage") if isinstance(attempt.reply, dict) else None
        prompt, reply = question.num_prompt_tokens, question.num_reply_tokens
        if isinstance(usage, dict):
            prompt = count(usage.get("prompt_tokens"), prompt)
            reply = count(usage.get("completion_tokens"), reply)
        return Effort(num_prompt_tokens=prompt, num_reply_tokens=reply, money=self.budget.price(prompt, reply))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def _budget_text(self) -> str:
        spent = [f"{self.budget.num_tokens} of {self.settings.max_tokens} tokens"] if self.settings.max_tokens else []
        spent += [f"{self.budget.money:.4g} of {self.settings.max_money:.4g} money"] if self.settings.max_money else []
        return ", ".join(spent)

    def _excerpt(self, body: bytes) -> str:
        text = self._safe(body[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace"))
        return f"{text[:_LONGEST_EXCERPT]} …" if len(text) > _LONGEST_EXCERPT else text or "no text"

    def _safe(self, text: str) -> str:
        """A text of the server on one short line: without the API key, which servers like to quote, and without anything
        that acts on a terminal."""
        text = text.replace(self._key, "***") if self._key else text
        line = visible(" ".join(text[:_LONGEST_MESSAGE].split()))
        return f"{line} …" if len(text) > _LONGEST_MESSAGE else line


def _same_answer(answer: ServerAnswer[T], question: ServerQuestion[T]) -> ServerAnswer[T]:
    """The answer to another question with the same body: it costs nothing, and is read in its own way."""
    if answer.fault is not None:
        return replace(answer, effort=Effort())
    try:
        return ServerAnswer(answer.reply, question.read(answer.reply))
    except BadReply as error:
        return ServerAnswer(answer.reply, None, error.fault, str(error))


def _read_key(name: str | None) -> str | None:
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise UserError(
            f"api_key_env = {name!r}, and there is no such environment variable, or it is empty; set it first"
        )
    return key


async def _body(response: httpx2.Response, max_bytes: int) -> bytes:
    """The reply's bytes, given up as soon as they are more than allowed."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            break
    return bytes(body)


def _fault_of(status: int) -> Fault:
    if status == 429:
        return Fault.RATE_LIMIT
    return Fault.SERVER if status >= 500 or status in _BUSY else Fault.REFUSED
