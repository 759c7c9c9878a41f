"""Grading in processes that can be killed: a question that is not answered in time costs its worker, never the run.

Answers of a model are hostile by accident: a tower of powers, a huge factorial or an integral keeps a computer algebra
system busy for hours, inside C code that no signal handler and no thread can interrupt. Here every worker is a process
with one question at a time, killed at the deadline or when it holds too much memory, and replaced at once
(:mod:`scope_rlvr.grading.supervisor`).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Outcome
from scope_rlvr.grading.pipes import CRASHED, Lines, send

_START_SECONDS = 300.0
_SILENT_SECONDS = 30.0
_MOST_UNDER_WAY = 64


class WorkerStartError(UserError):
    """The workers cannot be started: what the judge needs is missing, or cannot be imported."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question: the outcome, why, the seconds that a worker spent on it, and what else the judge said."""

    outcome: Outcome
    reason: str
    seconds: float = 0.0
    value: Any = None


class WorkerPool:
    """Asks a judge in processes of its own; a judge that does not answer is killed, and the answer is unknown.

    ``judge`` is ``module:function``, called once with ``options`` to make the judge, which gets the fields of a question
    by name and returns an outcome by value and a reason. ``deadline`` is in seconds from the moment a worker is given a
    question; ``memory_mib`` the most that a worker may hold, looked at every 50 ms. ``num_workers`` questions are worked
    on at a time.

    The processes start when the pool is made, and their imports take a second or two meanwhile. They work from any
    thread (one batch at a time) and after a fork (the child starts its own). Ctrl-C does not reach them; they are killed
    and reaped by :meth:`close`, when the pool is collected, when the program ends, and when it is killed.

    Raises :class:`WorkerStartError` where the judge cannot be made.

    >>> with WorkerPool("scope_rlvr.grading.math_judge:make_judge", {}) as pool:
    ...     [answer] = pool.ask([{"gold": r"\\frac{1}{2}", "answer": "2/4"}])
    >>> answer.outcome.value, answer.reason
    ('right', 'equal')
    """

    def __init__(
        self,
        judge: str,
        options: dict[str, Any],
        *,
        num_workers: int = 1,
        deadline: float = 5.0,
        memory_mib: int = 1024,
    ) -> None:
        self.deadline = deadline
        self._setup = {
            "judge": judge,
            "options": options,
            "num_workers": num_workers,
            "deadline": deadline,
            "memory_mib": memory_mib,
        }
        self._lock = threading.Lock()
        self._next_id = 0
        self._end: weakref.finalize[Any, Any] | None = None
        self._link = self._start()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The supervising process; the workers are its children."""
        return self._link.pid

    def close(self) -> None:
        """Kill and reap every process. The pool starts new ones when it is asked again."""
        self._link.end()

    def wait_until_ready(self) -> None:
        """Return when questions can be asked; raises :class:`WorkerStartError` where that will never be."""
        with self._lock:
            self._require_ready()

    def ask(self, questions: Sequence[dict[str, Any]]) -> list[Answer]:
        """One answer for each question, in order; a question is the judge's arguments by name, as JSON holds them."""
        if not questions:
            return []
        with self._lock:
            try:
                return self._ask(questions)
            except BaseException:
                # Interrupted: what is under way would delay the next batch.
                self._link.end()
                raise

    def _ask(self, questions: Sequence[dict[str, Any]]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        waiting = deque(range(len(questions)))
        under_way: dict[int, int] = {}
        while len(answers) < len(questions):
            self._require_ready()
            self._send_some(questions, waiting, under_way)
            messages = self._link.read(self.deadline + _SILENT_SECONDS)
            if messages is None:
                crash = Answer(Outcome.UNKNOWN, f"{CRASHED}: the supervising process died or fell silent")
                answers.update(dict.fromkeys(under_way.values(), crash))
                under_way.clear()
                self._link.end()
                continue
            for message in messages:
                number = under_way.pop(message["id"])
                answers[number] = Answer(
                    Outcome(message["outcome"]), message["reason"], message["seconds"], message.get("value")
                )
        return [answers[number] for number in range(len(questions))]

    def _send_some(self, questions: Sequence[dict[str, Any]], waiting: deque[int], under_way: dict[int, int]) -> None:
        """Keep the supervisor busy, and the pipe short enough that neither side waits for the other to read."""
        while waiting and len(under_way) < _MOST_UNDER_WAY:
            self._next_id += 1
            under_way[self._next_id] = waiting.popleft()
            with contextlib.suppress(BrokenPipeError):
                self._link.send({"id": self._next_id, "question": questions[under_way[self._next_id]]})

    def _require_ready(self) -> None:
        if not self._link.is_usable:
            self._link = self._start()
        if self._link.is_ready:
            return
        messages = self._link.read(_START_SECONDS)
        if not messages or "ready" not in messages[0]:
            why = messages[0]["error"] if messages else f"it ended, or was not ready after {_START_SECONDS:g} s"
            self._link.end()
            raise WorkerStartError(f"the grading process cannot be started: {why}")
        self._link.is_ready = True

    def _start(self) -> _Link:
        if self._end is not None:
            self._end.detach()
        link = _Link(self._setup)
        self._end = weakref.finalize(self, link.end)
        return link


class _Link:
    """The supervising process, and the pipes to it."""

    def __init__(self, setup: dict[str, Any]) -> None:
        # A group of its own, so that Ctrl-C does not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from scope_rlvr.grading.supervisor import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions = self._process.stdin.fileno()
        self._lines = Lines(self._process.stdout.fileno())
        self._owner = os.getpid()
        self._has_ended = False
        self.is_ready = False
        with contextlib.suppress(BrokenPipeError):
            self.send(setup)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether it runs and belongs to this process, rather than to the one that this is a fork of."""
        return not self._has_ended and self._owner == os.getpid()

    def send(self, message: dict[str, Any]) -> None:
        send(self._questions, message)

    def read(self, seconds: float) -> list[dict[str, Any]] | None:
        """The next messages; ``None`` where it has died, or says nothing for so long."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._lines.file, selectors.EVENT_READ)
            return self._lines.read() if selector.select(seconds) else None

    def end(self) -> None:
        """Let it kill its workers, and reap it; kill it where it does not obey. A fork leaves it to its owner."""
        if not self.is_usable:
            return
        self._has_ended = True
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
