"""What a step costs: seconds by phase, and what became of the questions to a teacher."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from scope_rlvr.core.ports import Effort, Fault, ScoreReply, TeacherReply


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent by phase."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started


@dataclass(slots=True)
class TeacherLog:
    """What became of the questions to a teacher: counts by their names in the metrics, and the latest message of each kind
    of fault. Of ``num_to_align`` prefixes that worked solutions were to go on from, they could from ``num_aligned``.

    >>> log = TeacherLog()
    >>> log.add([TeacherReply(text="3"), TeacherReply(error="no reply within 60 s", fault=Fault.TIMEOUT)])
    >>> dict(log.counts), log.messages
    ({'teacher/asked': 2, 'teacher/errors': 1, 'teacher/errors/timeout': 1}, {'timeout': 'no reply within 60 s'})
    """

    counts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(int))
    messages: dict[str, str] = field(default_factory=dict)
    num_aligned: int = 0
    num_to_align: int = 0

    def add(self, replies: Sequence[TeacherReply | ScoreReply]) -> None:
        failures = [reply for reply in replies if reply.error is not None]
        self.counts["teacher/asked"] += len(replies)
        self.counts["teacher/errors"] += len(failures)
        for reply in failures:
            fault = (reply.fault or Fault.OTHER).value
            self.counts[f"teacher/errors/{fault}"] += 1
            self.messages[fault] = reply.error or ""
        for reply in replies:
            is_aligned = reply.is_aligned if isinstance(reply, TeacherReply) else None
            self.num_to_align += is_aligned is not None
            self.num_aligned += bool(is_aligned)
            if reply.effort is not None:
                self._add_effort(reply.effort, is_known=reply.error is None and not reply.effort.num_requests)

    def _add_effort(self, effort: Effort, *, is_known: bool) -> None:
        self.counts["teacher/requests"] += effort.num_requests
        self.counts["teacher/retries"] += max(0, effort.num_requests - 1)
        self.counts["teacher/cache_hits"] += is_known
        self.counts["teacher/request_seconds"] += effort.seconds
        self.counts["teacher/prompt_tokens"] += effort.num_prompt_tokens
        self.counts["teacher/reply_tokens"] += effort.num_reply_tokens
        self.counts["teacher/money"] += effort.money
