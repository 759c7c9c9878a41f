"""Several processes of one run, started by ``torchrun`` or ``accelerate launch``.

They speak over a group of their own, by gloo and on the CPU, whatever carries the gradients: it notices at once when
a process is gone, and the objects that go through it never touch a graphics processor.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.core.processes import ONE_PROCESS, Processes, ProcessFailed, num_launched

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_Result = TypeVar("_Result")

_MARKS = ("gloo", "NCCL", "ProcessGroup", "Connection closed by peer", "c10d")
"""What stands in the messages of errors between processes."""


def meet(wait_seconds: float = 1800) -> Processes:
    """The processes of this run, once all of them are there; whoever calls it again gets the same.

    Where one does not answer for ``wait_seconds``, which the first call decides, the others give the run up.
    """
    global _met
    if num_launched() == 1:
        return ONE_PROCESS
    if _met is None:
        _met = _Launched.join(timedelta(seconds=wait_seconds))
    return _met


def leave(exit_code: int) -> None:
    """End this process, once all others have come here, too; the only process of a run goes on, and ends as ever.

    A launcher ends all processes as soon as one of them has failed, also those that still have something to say.
    """
    if _met is None:
        return
    with suppress(ProcessFailed):
        _met.together("leaving", lambda: None)
    # A thread of gloo's that still holds the last message aborts an interpreter that is being taken down.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


@contextmanager
def noticing_the_lost() -> Iterator[None]:
    """Errors between processes, whoever was speaking to the others, become :class:`ProcessFailed`."""
    try:
        yield
    except RuntimeError as error:
        if _met is None or isinstance(error, ProcessFailed) or not _is_between_processes(error):
            raise
        raise ProcessFailed(_met.lost(error)) from error


@dataclass(frozen=True, slots=True)
class _Report:
    """What a process tells the others of its work."""

    what: str
    value: Any
    error: str = ""
    is_user_error: bool = False


class _Launched(Processes):
    """The processes that a launcher started."""

    def __init__(self, index: int, count: int, group: ProcessGroup, wait: timedelta) -> None:
        self.index = index
        self.count = count
        self._group = group
        self._wait = wait

    @classmethod
    def join(cls, wait: timedelta) -> _Launched:
        import torch
        import torch.distributed as dist
        from accelerate import PartialState

        try:
            if not dist.is_initialized():
                PartialState(cpu=not torch.cuda.is_available(), timeout=wait)
            group = dist.new_group(backend="gloo", timeout=wait)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"WORLD_SIZE says that this is one of {num_launched()} processes, and they could not meet: "
                f"{first_line(error)}; start them by torchrun or accelerate launch"
            ) from error
        return cls(dist.get_rank(), dist.get_world_size(), group, wait)

    def together(self, what: str, work: Callable[[], _Result]) -> list[_Result]:
        failure: Exception | None = None
        report = _Report(what, None)
        try:
            report = _Report(what, work())
        except Exception as error:
            failure = error
            told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
            report = _Report(what, None, told or type(error).__name__, isinstance(error, UserError))
        try:
            reports = self._exchange(report)
        finally:
            if failure is not None:
                raise failure
        for index, other in enumerate(reports):
            if other.is_user_error:
                raise UserError(other.error if index == 0 else f"process {index}: {other.error}")
            if other.error:
                raise ProcessFailed(f"process {index} of {self.count} failed in {other.what}: {other.error}")
            if other.what != what:
                raise ProcessFailed(
                    f"the processes have lost step: process {self.index} is at {what!r}, process {index} at {other.what!r}"
                )
        return [other.value for other in reports]

    def _exchange(self, report: _Report) -> list[_Report]:
        import torch.distributed as dist

        reports: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(reports, report, group=self._group)
        except RuntimeError as error:
            raise ProcessFailed(self.lost(error)) from error
        return reports

    def lost(self, error: RuntimeError) -> str:
        """What to say where the others cannot be reached."""
        minutes = self._wait.total_seconds() / 60
        return (
            f"process {self.index} of {self.count} has lost the others: one of them failed, was killed, or did not answer for "
            f"{minutes:g} minutes; what it says itself stands above; mend it, then go on with --resume ({first_line(error)})"
        )


_met: _Launched | None = None


def _is_between_processes(error: RuntimeError) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(mark in str(error) for mark in _MARKS)
