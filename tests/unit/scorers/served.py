"""A real HTTP server on a thread that answers as a function says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scope_rlvr.servers.settings import NO_CACHE, ServerSettings

HANG = "hang"
PATIENCE = ServerSettings(
    cache=NO_CACHE, request_seconds=0.5, batch_seconds=3.0, retries=1, backoff_seconds=0.01, pause_after=1000
)


@dataclass
class Served:
    """``answer(body)`` is a JSON value, a status, or :data:`HANG`; ``models`` is what ``GET .../models`` lists."""

    answer: Callable[[dict[str, Any]], Any]
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "theirs"}])
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""


@contextmanager
def served(answer: Callable[[dict[str, Any]], Any]) -> Iterator[Served]:
    state, closing = Served(answer), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self.reply(200 if self.path == "/v1/models" else 404, {"data": state.models})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, body))
            said = state.answer(body)
            if said == HANG:
                closing.wait()
            elif isinstance(said, int):
                self.reply(said, {"error": "broken"})
            else:
                self.reply(200, said)

        def reply(self, status: int, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
