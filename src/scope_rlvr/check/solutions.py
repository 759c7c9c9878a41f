"""Worked solutions for the teacher and the calculator: whether there are some, whether they are right, what can be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scope_rlvr.core.findings import Finding, error, ok, warning
from scope_rlvr.core.ports import Verifier
from scope_rlvr.core.types import Problem
from scope_rlvr.grading.gold import spread
from scope_rlvr.problems.calculations import read_calculations
from scope_rlvr.run.config import RunConfig
from scope_rlvr.scorers.settings import CALCULATOR
from scope_rlvr.teachers.alignment import UnalignedError, WorkedSolution
from scope_rlvr.teachers.settings import SOLUTIONS

_LEAST_READ = 0.5
"""Of fewer solutions the calculator makes too little."""

SAMPLED_SOLUTIONS = 2000
"""Solutions that are verified and taken apart."""


def solution_findings(config: RunConfig, problems: Sequence[Problem], verifier: Verifier) -> Iterator[Finding]:
    """What a run can do with the solutions of its training problems, where they are its teacher or the calculator reads them."""
    solved = [problem for problem in problems if problem.solution is not None]
    if config.method.needs_teacher and config.teacher.model == SOLUTIONS:
        yield from _of_teacher(config, problems, solved, verifier)
    if config.method.needs_step_scorer and config.scorer.model == CALCULATOR:
        yield _calculated(spread(solved, SAMPLED_SOLUTIONS))


def _of_teacher(
    config: RunConfig, problems: Sequence[Problem], solved: Sequence[Problem], verifier: Verifier
) -> Iterator[Finding]:
    if len(solved) < len(problems):
        yield warning(
            "solutions",
            f"{len(problems) - len(solved)} of {len(problems)} training problems have no worked solution: the teacher says "
            "nothing about them",
            "leave these rows out, or take a teacher that is a model",
        )
    tried = spread(solved, SAMPLED_SOLUTIONS)
    yield _verified(tried, verifier)
    yield _aligned(tried, config.steps.separator)


def _verified(problems: Sequence[Problem], verifier: Verifier) -> Finding:
    """Whether the solutions are right as responses: only such a one is ever learned from as a whole."""
    verdicts = verifier.verify([(problem, problem.solution or "") for problem in problems])
    bad = [(problem, verdict) for problem, verdict in zip(problems, verdicts, strict=True) if not verdict.is_right]
    if not bad:
        return ok("solutions", f"the verifier calls {len(problems)} of {len(problems)} worked solutions right")
    (problem, verdict), remedy = (
        bad[0],
        "let solutions end as the verifier reads answers, by problems.solutions.final_line, or choose another verifier",
    )
    said = (
        f"the verifier calls {len(problems) - len(bad)} of {len(problems)} worked solutions right; that of {problem.id}, which "
        f"ends in {(problem.solution or '')[-60:]!r}, is {verdict.outcome.value}: {verdict.reason}"
    )
    return error("solutions", said, remedy) if len(bad) == len(problems) else warning("solutions", said, remedy)


def _aligned(problems: Sequence[Problem], separator: str) -> Finding:
    """In how many solutions a place can be found, by the results of their steps or by their words."""
    by_results = by_words = 0
    whole = []
    for problem in problems:
        solution = WorkedSolution.read(problem.solution or "", separator)
        if len(solution.steps) < 2 or not _finds_its_own_place(problem, solution, separator):
            whole.append(problem.id)
        elif solution.calculations:
            by_results += 1
        else:
            by_words += 1
    said = (
        f"of {len(problems)} worked solutions, {by_results} can go on from a prefix by the results in it and {by_words} by its "
        "words; the metric teacher/aligned says how many do"
    )
    if not whole:
        return ok("solutions", said)
    return warning(
        "solutions",
        f"{said}. {len(whole)} can only be used whole, such as that of {whole[0]}: they have one step, or steps that cannot be "
        "told from each other",
        f"cut solutions into steps by steps.separator = {separator!r} or by lines",
    )


def _calculated(problems: Sequence[Problem]) -> Finding:
    """How many solutions the calculator can read: without one it has nothing to compare results with."""
    if not problems:
        return warning(
            "calculator",
            "no training problem has a worked solution: nothing but false equations and wrong final answers is found",
            "name the column of solutions in problems.columns.solution, or take another scorer",
        )
    read = {problem.id: read_calculations(problem.solution or "") for problem in problems}
    num_read = sum(bool(reading.found) for reading in read.values())
    false = [name for name, reading in read.items() if any(c.is_true is False for c in reading.found)]
    partly = sum(not reading.is_complete for reading in read.values())
    said = (
        f"equations of {num_read} of {len(problems)} worked solutions can be read, and not all of them in {partly}; "
        f"{len(false)} have a false one{f', such as that of {false[0]}' if false else ''}"
    )
    if num_read > _LEAST_READ * len(problems):
        return ok("calculator", said)
    return warning(
        "calculator", said, "take another scorer: a step with nothing that can be worked out is never called wrong"
    )


def _finds_its_own_place(problem: Problem, solution: WorkedSolution, separator: str) -> bool:
    """Whether a solution goes on from its own first step with its second."""
    try:
        rest = solution.rest(problem.prompt, solution.steps[0] + separator, separator)
    except UnalignedError:
        return False
    return rest == solution.steps[1:]
