"""What a teacher is shown in the place of a problem."""

from __future__ import annotations

from scope_rlvr.core.ports import ScoreRequest, TeacherRequest
from scope_rlvr.core.prompts import fill


def shown_problem(template: str, request: TeacherRequest | ScoreRequest) -> str:
    """The template with what the request holds; what it does not hold is left empty.

    >>> from scope_rlvr.core.types import Problem
    >>> request = TeacherRequest(Problem("p", "2 + 2?", "4"), (), (), "", max_tokens=9, reference="4")
    >>> shown_problem("{problem} (It is {reference}.{rejected_step})", request)
    '2 + 2? (It is 4.)'
    """
    rejected_step = request.rejected_step if isinstance(request, TeacherRequest) else None
    return fill(
        template,
        problem=request.problem.prompt,
        reference=request.reference or "",
        rejected_step=rejected_step or "",
    )
