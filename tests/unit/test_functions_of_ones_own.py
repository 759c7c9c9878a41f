"""A user's function as the step scorer and as the teacher: what it says counts, and what it does wrong costs no run."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Fault, TeacherReply, TeacherRequest
from scope_rlvr.core.types import Problem
from scope_rlvr.grading.function import FunctionSettings
from scope_rlvr.scorers.families import Function
from scope_rlvr.scorers.function import FunctionScorer
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.settings import ScorerSection
from scope_rlvr.teachers.function import FunctionTeacher
from scope_rlvr.teachers.settings import TeacherSection

SCORERS, TEACHERS = "tests.unit.scorers.functions", "tests.unit.teacher_functions"
PROBLEM = Problem("p", "Count to 3.", "3")


def section(name: str, **options: float) -> ScorerSection:
    family = {"kind": "function", "path": f"{SCORERS}:{name}", "workers": 1, **options}
    return ScorerSection.model_validate({"model": "function", "family": family})


def ask(name: str, *prefixes: str, separator: str | None = ";", deadline: float = 60.0) -> list[TeacherReply]:
    teacher = FunctionTeacher(FunctionSettings(path=f"{TEACHERS}:{name}", workers=1, deadline=deadline))
    try:
        requests = [TeacherRequest(PROBLEM, (), (), prefix, max_tokens=9, stop_text=separator) for prefix in prefixes]
        return teacher.continue_from(requests, seed=0)
    finally:
        teacher.close()


def test_a_function_scores_steps() -> None:
    scorer = load_scorer(section("half_right"))
    assert scorer.score([(PROBLEM, ["a", "b", "c", "d"]), (PROBLEM, [])]) == [(1.0, 0.5, 1 / 3, 0.25), None]
    assert scorer.rule.first_wrong((1.0, 0.5, 1 / 3)) == 2


def test_that_a_scorer_does_not_know_is_no_mistake() -> None:
    assert load_scorer(section("does_not_know")).score([(PROBLEM, ["a"])]) == [None]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("too_few", "1 scores for 3 steps"),
        ("too_high", "the score 2 does not lie between 0 and 1"),
        ("a_word", "could not convert"),
        ("fails", "LookupError: nothing here"),
        ("never_returns", "no verdict within 1 s"),
    ],
)
def test_a_scorer_that_fails_is_told_before_the_run_and_costs_single_solutions_in_it(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_scorer(section(name, deadline=1.0))
    family = section(name, deadline=1.0).family
    assert isinstance(family, Function)
    scorer = FunctionScorer(family, Function.default_rule)
    assert scorer.score([(PROBLEM, ["a", "b"])]) == [None]
    scorer.close()


def test_a_function_writes_the_next_step_or_the_rest() -> None:
    first, second, last, nothing = ask("next_number", "", "1;", "1;2;", "1;2;3")
    assert [(r.text, r.finished) for r in (first, second, last)] == [("1;", False), ("2;", False), ("3", True)]
    assert (nothing.text, nothing.fault) == (None, Fault.EMPTY)
    (rest,) = ask("next_number", "", separator=None)
    assert (rest.text, rest.finished) == ("1;2;3", True)


@pytest.mark.parametrize(
    ("name", "fault", "told"),
    [
        ("writes_a_number", Fault.MALFORMED, "int instead of a text"),
        ("fails", Fault.OTHER, "LookupError: nothing here"),
        ("never_returns", Fault.TIMEOUT, "within 1 s"),
    ],
)
def test_a_teacher_that_fails_is_a_reply_with_an_error(name: str, fault: Fault, told: str) -> None:
    (reply,) = ask(name, "", deadline=1.0)
    assert (reply.text, reply.fault) == (None, fault)
    assert told in (reply.error or "")


@pytest.mark.parametrize("path", ["no_such_module_here:f", f"{SCORERS}:no_such_function"])
def test_a_function_that_is_not_there_is_a_mistake_of_the_configuration(path: str) -> None:
    with pytest.raises(UserError, match="no_such"):
        load_scorer(ScorerSection.model_validate({"model": "function", "family": {"kind": "function", "path": path}}))
    with pytest.raises(UserError, match="no_such"):
        FunctionTeacher(FunctionSettings(path=path))


def test_names_and_functions_belong_together() -> None:
    with pytest.raises(ValidationError, match="name the family, function"):
        ScorerSection(model="function")
    with pytest.raises(ValidationError, match="wants 'function' as its model"):
        ScorerSection.model_validate({"model": "my/model", "family": {"kind": "function", "path": "a:b"}})
    with pytest.raises(ValidationError, match="belong together"):
        TeacherSection(model="function")
    with pytest.raises(ValidationError, match="belong together"):
        TeacherSection.model_validate({"model": "my/model", "function": {"path": "a:b"}})
    with pytest.raises(ValidationError, match=r"path"):
        TeacherSection.model_validate({"model": "function", "function": {"path": "no colon"}})
    assert TeacherSection.model_validate({"model": "function", "function": {"path": "a:b"}}).folders == []
