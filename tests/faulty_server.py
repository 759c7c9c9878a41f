"""A real HTTP server on a thread that speaks the OpenAI dialect and, as often as it is told to, fails in a chosen way.

What it writes where it does not fail comes from a function, by default the exact solver of the family ``reduction``.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from types import TracebackType
from typing import Any, Self

from scope_rlvr.core.types import Problem
from scope_rlvr.problems.reduction import Reduction

MODEL = "solver"
OTHERS_PROBLEM = "reduce 1 2 4 8\n\n"

FAULTS = (
    "refused",
    "reset in the body",
    "hang",
    "drip",
    "429",
    "429 with a delay",
    "500",
    "503",
    "truncated JSON",
    "wrong schema",
    "wrong count",
    "NaN log-probabilities",
    "somebody else's reply",
    "the same reply twice",
    "200 with an error inside",
    "empty text",
    "HTML page",
)

HOSTILE = (
    "huge usage count",
    "huge log-probability",
    "far Retry-After",
    "a million ids",
    "escape sequences",
    "deep nesting",
    "endless body",
)
"""Replies that no honest server sends. Each is made to break a reader that trusts it."""

ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e"
"""Clears a terminal, renames its window, turns the direction of text."""

Codec = tuple[Callable[[Sequence[int]], str], Callable[[str], Sequence[int]]]
"""How a server turns ids into text and text into ids."""


@dataclass
class FaultyServer:
    """``with FaultyServer(fault="hang", rate=0.1) as server: server.url``

    ``seed`` draws which requests fail: a share of ``rate``. ``codec`` makes it take and give token ids, as vLLM does.
    ``write`` maps the text before the cut to what comes after it.
    """

    fault: str | None = None
    rate: float = 1.0
    seed: int = 0
    codec: Codec | None = None
    write: Callable[[str], str] | None = None
    say: Callable[[str], str] | None = None
    """In the place of all that: what it answers to the last message of a conversation, or to a prompt."""
    delay: float = 0.05
    """Seconds that the fault "429 with a delay" asks to wait."""
    num_spared: int = 0
    """So many requests, the first ones, never fail."""
    scores_as: str = "prompt_logprobs"
    """How it gives out the log-probabilities of a prompt: "prompt_logprobs" (vLLM), "echo by id" (vLLM without these), "echo by
    text" (SGLang), "not at all" (llama.cpp, if it did not refuse)."""
    models: str = "listed"
    """What ``GET /models`` does: "listed", "drip", "endless body", "escape sequences"."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    num_faults: int = 0
    num_tokens: int = 0
    """Tokens of the right replies, as their ``usage`` counts them."""
    num_poured: int = 0
    """Bytes of endless bodies that were sent."""

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = _QuietServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def num_requests(self) -> int:
        return len(self.bodies)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()

    # --- right replies --------------------------------------------------------------------------------------------

    def _text_before(self, body: dict[str, Any]) -> str:
        if "messages" in body:
            asked = body["messages"][-1]["content"]
            _, _, rest = asked.partition("The problem:\n")
            problem, _, prefix = rest.partition("\n\nThe solution so far:\n")
            prefix = "" if prefix == "(nothing yet)" else prefix.split("\n\nThe step that stood here")[0]
            return f"{problem.strip()}\n\n{prefix}" + ("\n\n" if prefix else "")
        prompt = body["prompt"]
        return prompt if isinstance(prompt, str) else self._decode(prompt)

    def _decode(self, ids: Sequence[int]) -> str:
        assert self.codec is not None, "this server reads no token ids"
        return self.codec[0](ids)

    def reply_to(self, body: dict[str, Any], before: str | None = None) -> dict[str, Any]:
        """A complete reply: to the request's own prompt, or to the text that is given."""
        if body.get("echo"):
            return self._scores_of(body, before)
        if self.say is not None:
            return self._said(body)
        before = self._text_before(body) if before is None else before
        text = (self.write or solve)(before)
        finish, is_stopped = "stop", False
        for stop in body.get("stop", ()):
            head, found, _ = text.partition(stop)
            text, is_stopped = head + found * bool(body.get("include_stop_str_in_output")), bool(found)
        usage = {"prompt_tokens": len(before.split()), "completion_tokens": len(text.split())}
        if "messages" in body:
            is_step = "Write that one step" in body["messages"][-1]["content"]
            step, _, more = text.partition("\n\n")
            content = (step if more else f"{step}\n[end]") if is_step else text
            choice: dict[str, Any] = {"message": {"role": "assistant", "content": content}}
        else:
            choice = {"text": text, "stop_reason": "stop" if is_stopped else None}
        if body.get("return_token_ids") and self.codec is not None:
            ids = list(self.codec[1](text))
            choice |= {"token_ids": ids, "prompt_token_ids": list(self.codec[1](before))}
            choice |= {"logprobs": {"token_logprobs": [-0.25] * len(ids)}} if body.get("logprobs") else {}
        return {
            "id": "cmpl-1",
            "model": body["model"],
            "choices": [choice | {"index": 0, "finish_reason": finish}],
            "usage": usage,
        }

    def _said(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self.say is not None
        asked = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        text = self.say(asked)
        said = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        usage = {"prompt_tokens": len(asked.split()), "completion_tokens": len(text.split())}
        return {"choices": [said | {"index": 0, "finish_reason": "stop"}], "usage": usage}

    def _scores_of(self, body: dict[str, Any], before: str | None) -> dict[str, Any]:
        """The prompt's log-probabilities in one of the shapes of real servers."""
        ids = body["prompt"] if before is None or self.codec is None else list(self.codec[1](before))
        scores = [None, *map(logprob_of, ids[1:])]
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1}
        choice: dict[str, Any] = {"text": "", "finish_reason": "length", "index": 0}
        if self.scores_as == "prompt_logprobs":
            listed = [None if score is None else alternatives(i, score) for i, score in zip(ids, scores, strict=True)]
            choice |= {"prompt_logprobs": listed, "prompt_token_ids": ids}
        elif self.scores_as == "echo by id":
            tokens = [f"token_id:{i}" for i in ids]
            choice |= {"logprobs": {"tokens": [*tokens, "token_id:9"], "token_logprobs": [*scores, -0.5]}}
        elif self.scores_as == "echo by text":
            choice |= {"logprobs": {"tokens": ["x"] * len(ids), "token_logprobs": scores}, "prompt_token_ids": ids}
        return {"id": "cmpl-2", "model": body["model"], "choices": [choice], "usage": usage}

    # --- the wire -------------------------------------------------------------------------------------------------

    def _draw(self) -> bool:
        with self._lock:
            is_spared = len(self.bodies) <= self.num_spared
            fails = self.fault is not None and not is_spared and self._rng.random() < self.rate
            self.num_faults += fails
            return fails

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                listed = json.dumps({"data": [{"id": MODEL}]}).encode()
                try:
                    if server.models == "drip":
                        server._drip(self, listed)
                    elif server.models == "endless body":
                        server._pour(self)
                    elif server.models == "escape sequences":
                        self.send(200, json.dumps({"data": [{"id": MODEL}, {"id": ESCAPES}]}).encode())
                    else:
                        self.send(200, listed)
                except OSError:
                    self.close_connection = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.bodies.append(body)
                    server.headers.append(dict(self.headers))
                try:
                    if server._draw():
                        server._fail(self, body)
                    elif body["model"] != MODEL:
                        self.send(404, json.dumps({"error": {"message": f"no model {body['model']}"}}).encode())
                    else:
                        reply = server.reply_to(body)
                        server.num_tokens += sum(reply["usage"].values())
                        self.send(200, json.dumps(reply).encode())
                except OSError:
                    self.close_connection = True

            def send(self, status: int, content: bytes, kind: str = "application/json", **headers: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(content)

            def reset(self) -> None:
                """End the connection as a dying process does."""
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True

        return Handler

    def _fail(self, http: Any, body: dict[str, Any]) -> None:
        right = self.reply_to(body)
        content = json.dumps(right).encode()
        if self.fault == "refused":
            http.reset()
        elif self.fault == "reset in the body":
            http.send_response(200)
            http.send_header("Content-Length", str(len(content)))
            http.end_headers()
            http.wfile.write(content[: len(content) // 2])
            http.reset()
        elif self.fault == "hang":
            self._closing.wait()
        elif self.fault == "drip":
            self._drip(http, content)
        elif self.fault in ("429", "429 with a delay"):
            headers = {"Retry_After": str(self.delay)} if self.fault.endswith("delay") else {}
            http.send(429, b'{"error": {"message": "too many requests"}}', **headers)
        elif self.fault in ("500", "503"):
            http.send(int(self.fault), b"worker died")
        elif self.fault == "truncated JSON":
            http.send(200, content[: len(content) // 2])
        elif self.fault == "HTML page":
            http.send(200, b"<!doctype html><title>Sign in</title>", "text/html")
        elif self.fault in HOSTILE:
            self._attack(http, right)
        elif self.fault == "the same reply twice":
            http.send(200, content)
            http.send(200, content)
        else:
            http.send(200, json.dumps(self._altered(right, body)).encode())

    def _drip(self, http: Any, content: bytes) -> None:
        """A byte now and then: no wait for a single byte is long."""
        http.send_response(200)
        http.send_header("Content-Length", str(len(content)))
        http.end_headers()
        for byte in content:
            http.wfile.write(bytes([byte]))
            if self._closing.wait(0.05):
                return

    def _pour(self, http: Any) -> None:
        """Blanks without end."""
        http.send_response(200)
        http.send_header("Content-Length", str(1 << 40))
        http.end_headers()
        while not self._closing.is_set():
            http.wfile.write(b" " * (1 << 16))
            self.num_poured += 1 << 16

    def _attack(self, http: Any, right: dict[str, Any]) -> None:
        (choice,) = right["choices"]
        if self.fault == "endless body":
            self._pour(http)
        elif self.fault == "far Retry-After":
            http.send(429, b"slow", Retry_After="Wed, 21 Oct 2015 07:28:00 +99999999999999")
        elif self.fault == "escape sequences":
            http.send(400, f"no such field {ESCAPES}".encode())
        elif self.fault == "deep nesting":
            content = json.dumps(right).encode()
            http.send(200, content[:-1] + b', "more": ' + b"[" * 900 + b"]" * 900 + b"}")
        else:
            if self.fault == "huge usage count":
                right = right | {"usage": {"prompt_tokens": 10**400, "completion_tokens": 10**400}}
            elif self.fault == "huge log-probability":
                right = right | {"choices": [choice | {"logprobs": {"token_logprobs": [-int("9" * 400)]}}]}
            else:
                right = right | {"choices": [choice | {"token_ids": [5] * 1_000_000}]}
            http.send(200, json.dumps(right).encode())

    def _altered(self, right: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        (choice,) = right["choices"]
        if self.fault == "wrong schema":
            return {"choices": [{"words": choice.get("text")}], "object": "list"}
        if self.fault == "wrong count":
            return right | {"choices": [choice, choice]}
        if self.fault == "NaN log-probabilities":
            return right | {"choices": [choice | {"logprobs": {"token_logprobs": [float("nan")]}}]}
        if self.fault == "somebody else's reply":
            return self.reply_to(body, OTHERS_PROBLEM)
        if self.fault == "200 with an error inside":
            return {"error": {"message": "the engine is dead", "code": 400}}
        assert self.fault == "empty text", f"there is no fault {self.fault!r}"
        empty = {"message": {"content": ""}} if "message" in choice else {"text": ""}
        return right | {"choices": [{**empty, "index": 0, "finish_reason": "stop"}]}


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no error of the test."""


def solve(before: str) -> str:
    """The right rest of a solution of the family ``reduction``, after its prompt and its beginning."""
    prompt, separator, prefix = before.partition("\n\n")
    problem = Problem("?", prompt + separator, "?")
    return Reduction().canonical_rest(problem, prefix) or "answer 0"


def logprob_of(token: int) -> float:
    """What this server's model thinks of a token, whatever comes before it.

    >>> logprob_of(5), logprob_of(8)
    (-1.375, -0.375)
    """
    return -0.125 - 0.25 * (token % 7)


def alternatives(token: int, score: float) -> dict[str, Any]:
    """A token and two others at one place, as vLLM names them."""
    listed = {token: score, 0: -0.0625, 1: -3.0}
    return {str(i): {"logprob": logprob, "rank": 1, "decoded_token": "?"} for i, logprob in listed.items()}
