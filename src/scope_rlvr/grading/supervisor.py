"""The process that stands between a program and its grading workers: it hands out questions, watches, kills, replaces.

It is started as a fresh interpreter (``python -c``), so it never holds a model, a thread or a device, and it makes the
judge once: whatever the judge imports and warms up is there. Workers are forks of it and therefore ready at once, which
is why a killed one costs milliseconds. It ends, and its workers with it, when its program closes the pipe or dies.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

import psutil

from scope_rlvr.grading.pipes import CRASHED, OUT_OF_MEMORY, TIME_OUT, Lines, send

Judge = Callable[..., tuple[str, str] | tuple[str, str, Any]]
"""Takes the fields of a question by name; returns an :class:`~scope_rlvr.core.types.Outcome` by value, the reason, and where it
has more to say a value that JSON can hold."""

_CPU_SECONDS_BEYOND_DEADLINE = 10
_GLANCE_SECONDS = 0.05
_IDLE_SECONDS = 1.0


def main() -> None:
    """Serve until the program that asks is gone: a line with the set-up, then a question a line."""
    answers = os.dup(1)
    os.dup2(2, 1)  # Whatever a judge prints goes to standard error, never between the answers.
    questions = Lines(0)
    messages = questions.read()
    if not messages:
        return
    setup = messages[0]
    try:
        module, _, name = setup["judge"].partition(":")
        judge = getattr(importlib.import_module(module), name)(**setup["options"])
    except Exception as error:
        send(answers, {"error": f"{type(error).__name__}: {error}"})
        return
    send(answers, {"ready": True})
    supervisor = Supervisor(judge, questions, answers, setup["num_workers"], setup["deadline"], setup["memory_mib"])
    signal.signal(signal.SIGTERM, lambda *_: supervisor.end())
    supervisor.run()


class Supervisor:
    """Answers the questions that arrive at ``questions``, by workers that are forked from here."""

    def __init__(
        self, judge: Judge, questions: Lines, answers: int, num_workers: int, deadline: float, memory_mib: int
    ) -> None:
        self._judge = judge
        self._questions = questions
        self._answers = answers
        self._num_workers = num_workers
        self._deadline = deadline
        self._memory_mib = memory_mib
        self._parent = os.getppid()
        self._waiting: deque[dict[str, Any]] = deque()
        self._workers: dict[int, _Worker] = {}

    def run(self) -> NoReturn:
        while os.getppid() == self._parent:
            self._hand_out()
            for file in self._files_with_news():
                if file == self._questions.file:
                    messages = self._questions.read()
                    if messages is None:
                        self.end()
                    self._waiting.extend(messages)
                elif file in self._workers:
                    self._hear(self._workers[file])
            for worker in list(self._workers.values()):
                self._watch(worker)
        self.end()

    def end(self) -> NoReturn:
        """Kill every worker and leave."""
        for worker in self._workers.values():
            worker.kill()
        os._exit(0)

    def _hand_out(self) -> None:
        idle = [worker for worker in self._workers.values() if not worker.is_busy]
        while self._waiting and (idle or len(self._workers) < self._num_workers):
            worker = idle.pop() if idle else self._fork()
            worker.give(self._waiting.popleft())

    def _fork(self) -> _Worker:
        worker = _Worker(self._judge, self._deadline, [self._questions.file, self._answers, *self._files_of_workers()])
        self._workers[worker.file] = worker
        return worker

    def _files_of_workers(self) -> list[int]:
        return [file for worker in self._workers.values() for file in worker.files]

    def _files_with_news(self) -> list[int]:
        """Wait until somebody speaks or has to be looked at."""
        busy = [worker for worker in self._workers.values() if worker.is_busy]
        seconds = (
            min([self._deadline - worker.seconds for worker in busy] + [_GLANCE_SECONDS]) if busy else _IDLE_SECONDS
        )
        with selectors.DefaultSelector() as selector:
            for file in (self._questions.file, *self._workers):
                selector.register(file, selectors.EVENT_READ)
            return [key.fd for key, _ in selector.select(max(0.0, seconds))]

    def _hear(self, worker: _Worker) -> None:
        messages = worker.read()
        if messages is None:
            self._lose(worker, f"{CRASHED}: {worker.how_it_ended()}")
        for message in messages or ():
            self._reply(worker, message)

    def _watch(self, worker: _Worker) -> None:
        """Kill a worker that takes too long or too much."""
        if not worker.is_busy:
            return
        if worker.seconds >= self._deadline:
            self._lose(worker, f"{TIME_OUT}: no verdict within {self._deadline:g} s")
        elif worker.seconds > _GLANCE_SECONDS and worker.memory_mib() > self._memory_mib:
            self._lose(worker, f"{OUT_OF_MEMORY}: the grader took more than {self._memory_mib} MiB")

    def _lose(self, worker: _Worker, reason: str) -> None:
        if worker.is_busy:
            self._reply(worker, {"outcome": "unknown", "reason": reason})
        del self._workers[worker.file]
        worker.kill()

    def _reply(self, worker: _Worker, message: dict[str, Any]) -> None:
        seconds = worker.seconds
        try:
            send(self._answers, message | {"id": worker.finish(), "seconds": seconds})
        except BrokenPipeError:
            self.end()


class _Worker:
    """A forked process that answers one question at a time, seen from the supervisor."""

    def __init__(self, judge: Judge, deadline: float, not_its_files: list[int]) -> None:
        hears, self._speaks = os.pipe()
        self.file, says = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _work(judge, deadline, hears, says, [*not_its_files, self._speaks, self.file])
        os.close(hears)
        os.close(says)
        self._lines = Lines(self.file)
        self._id: int | None = None
        self._given_at = 0.0

    @property
    def files(self) -> tuple[int, int]:
        return self._speaks, self.file

    @property
    def is_busy(self) -> bool:
        return self._id is not None

    @property
    def seconds(self) -> float:
        """How long it has been working on its question."""
        return time.monotonic() - self._given_at

    def give(self, message: dict[str, Any]) -> None:
        self._id, self._given_at = message["id"], time.monotonic()
        # One that has died is noticed where it is read.
        with contextlib.suppress(BrokenPipeError):
            send(self._speaks, message["question"])

    def finish(self) -> int:
        """The id of the question that is answered now."""
        assert self._id is not None, "only a worker that was asked answers"
        answered, self._id = self._id, None
        return answered

    def read(self) -> list[dict[str, Any]] | None:
        return self._lines.read()

    def memory_mib(self) -> float:
        try:
            return float(psutil.Process(self.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0

    def how_it_ended(self) -> str:
        """Of a worker that has closed its pipe, and so has ended or is about to."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it left with exit code {code}"

    def kill(self) -> None:
        """End it and what it started, reap it, and close the pipes."""
        if self.pid:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        for file in self.files:
            os.close(file)


def _work(judge: Judge, deadline: float, hears: int, says: int, not_mine: list[int]) -> NoReturn:
    """What a worker does: answers until nobody asks. It never returns into the supervisor's code."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setpgid(0, 0)
        # A pipe of another worker that stayed open here would keep that one waiting for ever.
        for file in not_mine:
            os.close(file)
        questions = Lines(hears)
        while (messages := questions.read()) is not None:
            for question in messages:
                _limit_cpu(deadline + _CPU_SECONDS_BEYOND_DEADLINE)
                send(says, _answer(judge, question))
    finally:
        os._exit(0)


def _answer(judge: Judge, question: dict[str, Any]) -> dict[str, Any]:
    try:
        outcome, reason, *value = judge(**question)
    except MemoryError:
        return {"outcome": "unknown", "reason": OUT_OF_MEMORY}
    except Exception as error:
        return {"outcome": "unknown", "reason": f"grader_error: {type(error).__name__}: {str(error)[:200]}"}
    return {"outcome": outcome, "reason": reason} | ({"value": value[0]} if value else {})


def _limit_cpu(seconds: float) -> None:
    """The kernel ends a worker that computes longer than this on a question: one whose supervisor was killed."""
    soft = int(time.process_time() + seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
