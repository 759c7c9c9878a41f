"""A teacher that recites: the worked solutions that the problems came with, as LUFFY and its successors use them."""

from __future__ import annotations

from collections.abc import Sequence

from scope_rlvr.core.ports import TeacherReply, TeacherRequest


class RecordedTeacher:
    r"""Answers a request for a whole solution with the problem's own, and any other with nothing.

    It knows one solution of each problem and cannot go on from what somebody else began. A problem without a solution gets
    nothing, too.

    >>> from scope_rlvr.core.types import Problem
    >>> problem = Problem("p", "1 + 1?", "2", solution="It is \\boxed{2}.")
    >>> whole = TeacherRequest(problem, (), (), "", max_tokens=99)
    >>> rest = TeacherRequest(problem, (), (7,), "One and", max_tokens=99)
    >>> [reply.text for reply in RecordedTeacher().continue_from([whole, rest], seed=0)]
    ['It is \\boxed{2}.', '']
    """

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        """One reply for each request, in order. A token budget is the caller's to look at: nothing is cut off here."""
        return [self._reply(request) for request in requests]

    def _reply(self, request: TeacherRequest) -> TeacherReply:
        asks_for_all = request.stop_text is None and not request.prefix_text
        return TeacherReply(text=(request.problem.solution or "") if asks_for_all else "", finished=True)
