"""How often a teacher fails: each kind of fault is told once, and too many of them are a reason to stop."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from scope_rlvr.core.accounting import TeacherLog


@dataclass
class TeacherFailureMonitor:
    """The questions of the latest ``window`` steps with a question, and how many of them were not answered.

    >>> monitor = TeacherFailureMonitor(max_share=0.5, window=2)
    >>> for step in (1, 2):
    ...     log = TeacherLog()
    ...     log.counts |= {"teacher/asked": 4, "teacher/errors": 3, "teacher/errors/timeout": 3}
    ...     log.messages["timeout"] = "no whole reply within 60 s"
    ...     list(monitor.record(step, log))
    ['the teacher failed (timeout): no whole reply within 60 s']
    []
    >>> monitor.reason_to_stop()
    'the teacher did not answer 6 of 8 questions in the last 2 steps that asked it (timeout 6; the latest: no whole reply within 60 s), more than teacher.max_failure_share = 0.5 allows; mend it, then go on with --resume'
    """

    max_share: float
    window: int
    _steps: deque[tuple[int, Counter[str]]] = field(default_factory=deque)
    _latest: str = ""
    _told: set[str] = field(default_factory=set)

    def record(self, step: int, log: TeacherLog) -> Iterator[str]:
        """Take in what was asked at a step; a line for each kind of fault that is new."""
        if not log.counts.get("teacher/asked"):
            return
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append((step, Counter()))
        self._steps[-1][1].update({name: int(n) for name, n in log.counts.items() if name.startswith(_COUNTED)})
        if len(self._steps) > self.window:
            self._steps.popleft()
        for fault, message in log.messages.items():
            self._latest = message
            if fault not in self._told:
                self._told.add(fault)
                yield f"the teacher failed ({fault}): {message}"

    def reason_to_stop(self) -> str:
        """The reason to stop the run; empty while there is none, and until the window is full."""
        counts = sum((counted for _, counted in self._steps), Counter[str]())
        asked, errors = counts["teacher/asked"], counts["teacher/errors"]
        if len(self._steps) < self.window or errors <= self.max_share * asked:
            return ""
        faults = sorted((name.rpartition("/")[2], n) for name, n in counts.items() if name.startswith(_BY_FAULT))
        kinds = ", ".join(f"{fault} {n}" for fault, n in faults)
        return (
            f"the teacher did not answer {errors} of {asked} questions in the last {self.window} steps that asked it ({kinds}; "
            f"the latest: {self._latest}), more than teacher.max_failure_share = {self.max_share:g} allows; mend it, then go on "
            "with --resume"
        )


_COUNTED = ("teacher/asked", "teacher/errors")
_BY_FAULT = "teacher/errors/"
