"""The processes that share a run. There is one, unless a launcher started more.

A method does the same in every process, on the groups of the whole batch, so it need not know of processes: baselines, buffers
and random draws are the same as in one process. Only expensive work (sampling, judging, scoring) is split: each process does a
part, and all of them get the results.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from scope_rlvr.core.errors import ExitCode

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ProcessFailed(RuntimeError):
    """Another process of the run failed, or is gone, so that this one cannot go on."""


class Processes:
    """The processes of a run as one of them sees them; this class is the only process of its run.

    Every process calls these methods in the same order. ``what`` says in a few words what is done, for messages. An error
    in one process is an error in all of them.

    >>> Processes().spread("doubling", [1, 2, 3], lambda part: [2 * number for number in part])
    [2, 4, 6]
    """

    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes the run folder and prints."""
        return self.index == 0

    def together(self, what: str, work: Callable[[], _Result]) -> list[_Result]:
        """Each process does its work; all are given the results of all, in the order of the processes."""
        return [work()]

    def once(self, what: str, work: Callable[[], _Result]) -> _Result:
        """The main process does the work; all are given the result."""
        return self.together(what, lambda: work() if self.is_main else _NOTHING)[0]

    def spread(
        self, what: str, items: Sequence[_Item], work: Callable[[Sequence[_Item]], Sequence[_Result]]
    ) -> list[_Result]:
        """One result for each item, in order; each process does the work of a part, which is never empty."""
        parts = self.together(f"{what} ({len(items)} in all)", lambda: _done(what, self._part_of(items), work))
        return [result for part in parts for result in part]

    def _part_of(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """The consecutive items that are this process's to work on."""
        return items[len(items) * self.index // self.count : len(items) * (self.index + 1) // self.count]

    @contextmanager
    def as_one(self, what: str) -> Iterator[None]:
        """No process goes on after the block unless all came through it. The block itself makes no collective call."""
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error

        def tell() -> None:
            if failure is not None:
                raise failure

        self.together(what, tell)

    def require_equal(self, what: str, value: Callable[[], object]) -> None:
        """Refuse to go on where processes differ in what must be the same in all of them."""
        if self.count == 1:
            return
        first, *others = self.together(f"comparing {what}", value)
        for index, other in enumerate(others, start=1):
            if other != first:
                raise ProcessFailed(f"{what} of process 0 and of process {index} differ, and must not")


ONE_PROCESS = Processes()
"""The only process of its run."""

_NOTHING: Any = None


def _done(what: str, items: Sequence[_Item], work: Callable[[Sequence[_Item]], Sequence[_Result]]) -> Sequence[_Result]:
    results = work(items) if items else []
    if len(results) != len(items):
        raise ValueError(f"{what} gave {len(results)} results for {len(items)} items")
    return results


def num_launched() -> int:
    """How many processes the launcher started (``torchrun``, ``accelerate launch``), by ``WORLD_SIZE``; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def end_with_launcher() -> None:
    """From now on, end this process soon after the launcher that started it is gone.

    A launcher that is killed outright leaves its processes behind, which would train on and write unseen.
    """
    if num_launched() == 1:
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os.write(2, b"scope: the launcher of this process is gone; go on with --resume\n")
        os._exit(ExitCode.INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


_SECONDS_BETWEEN_LOOKS = 0.5


def launched_zero_stage() -> int:
    """The stage of DeepSpeed's ZeRO that ``accelerate launch`` was told to use; 0 without DeepSpeed."""
    is_used = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    return int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")) if is_used else 0
