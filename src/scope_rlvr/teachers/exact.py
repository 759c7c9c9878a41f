"""A teacher that is never wrong, where a problem family has a solver: for studies of what a teacher's mistakes cost."""

from __future__ import annotations

from collections.abc import Sequence

from scope_rlvr.core.ports import TeacherReply, TeacherRequest
from scope_rlvr.problems.family import ProblemFamily


class ExactTeacher:
    """Continues any right prefix with the right step, or the right rest, that a fixed order gives.

    A prefix that is already wrong has no right continuation: the reply is empty.

    >>> from scope_rlvr.problems.reduction import Reduction, make_problem
    >>> teacher = ExactTeacher(Reduction())
    >>> problem = make_problem([0, 3, 5])
    >>> right = TeacherRequest(problem, (), (), "0 + 5 = 5 : 3 5\\n\\n", max_tokens=99, stop_text="\\n\\n")
    >>> wrong = TeacherRequest(problem, (), (), "0 + 5 = 6 : 3 6\\n\\n", max_tokens=99, stop_text="\\n\\n")
    >>> [reply.text for reply in teacher.continue_from([right, wrong], seed=0)]
    ['3 + 5 = 8 : 8\\n\\n', '']
    """

    def __init__(self, family: ProblemFamily) -> None:
        self.family = family

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        """One reply for each request, in order. A token budget is the caller's to look at: nothing is cut off here."""
        return [self._reply(request) for request in requests]

    def _reply(self, request: TeacherRequest) -> TeacherReply:
        rest = self.family.canonical_rest(request.problem, request.prefix_text)
        if rest is None:
            return TeacherReply(text="")
        step, separator, _ = (rest, "", "") if request.stop_text is None else rest.partition(request.stop_text)
        return TeacherReply(text=step + separator, finished=not separator)
