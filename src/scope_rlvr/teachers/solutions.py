"""A teacher without a model: the worked solutions that the problems came with."""

from __future__ import annotations

from collections.abc import Sequence

from scope_rlvr.core.ports import Fault, TeacherReply, TeacherRequest
from scope_rlvr.core.teacher_text import ends_a_step
from scope_rlvr.teachers.alignment import UnalignedError, WorkedSolution


class SolutionTeacher:
    r"""Answers with the problem's own solution: all of it, or what a policy's prefix lacks of it.

    A request without a prefix gets the solution as it is. One with a prefix gets the next step that the prefix lacks, or all
    of them where the rest is asked for, cut and joined by ``separator``. :mod:`scope_rlvr.teachers.alignment` says which
    steps these are. A problem without a solution, a solution that does not go on from the prefix, and a prefix that ends
    inside a step get a reply with an error.

    >>> from scope_rlvr.core.types import Problem
    >>> problem = Problem("p", "2 boxes of 6 eggs; 5 break.", "7", solution="2 x 6 = 12\n12 - 5 = 7\nAnswer: 7")
    >>> step = TeacherRequest(problem, (), (1,), "6 x 2 = 12 eggs\n\n", max_tokens=99, stop_text="\n\n")
    >>> lost = TeacherRequest(problem, (), (1,), "6 - 5 = 1\n\n", max_tokens=99, stop_text="\n\n")
    >>> [reply.text or reply.error for reply in SolutionTeacher().continue_from([step, lost], seed=0)]
    ['12 - 5 = 7\n\n', 'the solution of problem p cannot go on from the prefix: it has none of the results that are there']
    """

    def __init__(self, separator: str = "\n\n") -> None:
        self.separator = separator

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        """One reply for each request, in order. A token budget is the caller's to look at: nothing is cut off here."""
        return [self._reply(request) for request in requests]

    def _reply(self, request: TeacherRequest) -> TeacherReply:
        problem = request.problem
        if problem.solution is None:
            return TeacherReply(error=f"problem {problem.id} has no worked solution", fault=Fault.NO_SOLUTION)
        if request.stop_text is None and not request.prefix_text:
            return TeacherReply(text=problem.solution, finished=True, is_aligned=True)
        try:
            return self._rest(request, WorkedSolution.read(problem.solution, self.separator))
        except UnalignedError as error:
            told = f"the solution of problem {problem.id} cannot go on from the prefix: {error}"
            return TeacherReply(error=told, fault=Fault.UNALIGNED, is_aligned=False)

    def _rest(self, request: TeacherRequest, solution: WorkedSolution) -> TeacherReply:
        prefix = request.prefix_text
        if prefix.strip() and not ends_a_step(prefix, self.separator):
            raise UnalignedError("the prefix ends inside a step")
        steps = solution.rest(request.problem.prompt, prefix, self.separator)
        if request.stop_text is None:
            return TeacherReply(text=self.separator.join(steps), finished=True, is_aligned=True)
        is_last = len(steps) == 1
        return TeacherReply(text=steps[0] + ("" if is_last else request.stop_text), finished=is_last, is_aligned=True)
