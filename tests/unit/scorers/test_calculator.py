"""The scorer that works equations out: what it calls wrong, right, unmatched, and what it is silent about."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.problems import families
from scope_rlvr.problems.calculations import read_calculations
from scope_rlvr.problems.sources import SourceSettings, Wanted, load_problems
from scope_rlvr.scorer_lab.altered import altered, altered_solutions
from scope_rlvr.scorer_lab.sources import read_source
from scope_rlvr.scorers.calculator import CalculatorScorer, stated_answer
from scope_rlvr.scorers.families import Calculator
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.settings import ScorerSection

FALSE, UNMATCHED, SILENT, RIGHT = 0.0, 0.25, 0.75, 1.0
SOLUTION = "7 x 6 = 42 eggs\n42 + 9 = 51 eggs\n51 - 5 = 46 eggs"
PROBLEM = Problem("eggs", "7 boxes of 6 eggs, 9 at home, 5 break", "46", solution=SOLUTION)
SCORER = load_scorer(ScorerSection(model="calculator"))


def scores_of(*steps: str, problem: Problem = PROBLEM) -> tuple[float, ...]:
    (scores,) = SCORER.score([(problem, steps)])
    assert scores is not None
    return scores


@pytest.mark.parametrize(
    ("step", "score"),
    [
        ("6 * 7 = 42", RIGHT),
        ("6 * 7 = 43", FALSE),
        ("6 * 7 = 42, and 42 + 9 = 50", FALSE),
        ("7 + 6 = 13", UNMATCHED),
        ("42 + 9 - 5 = 46", RIGHT),
        ("Let us see.", SILENT),
        ("x + 9 = 51", SILENT),
        ("42 / 9 = 5", SILENT),
        ("Answer: 46", RIGHT),
        ("Answer: 51", FALSE),
        (r"So it is \boxed{51}.", FALSE),
        ("51 - 5 = 46, so the answer is 47", FALSE),
        ("#### 46", RIGHT),
    ],
)
def test_a_step_is_scored_by_what_it_comes_to(step: str, score: float) -> None:
    assert scores_of(step) == (score,)


def test_another_way_to_the_same_results_is_right() -> None:
    # 9 - 5 = 4 is no step of the solution, and 42 + 4 = 46 needs it.
    assert scores_of("9 - 5 = 4", "7 * 6 = 42", "42 + 4 = 46") == (RIGHT, RIGHT, RIGHT)
    # Here it leads nowhere.
    assert scores_of("9 - 5 = 4", "7 * 6 = 42", "42 * 4 = 168") == (UNMATCHED, RIGHT, UNMATCHED)


def test_a_given_number_that_a_right_step_uses_does_not_make_another_step_right() -> None:
    assert scores_of("7 + 2 = 9", "42 + 9 = 51") == (UNMATCHED, RIGHT)


def test_without_a_solution_only_false_equations_and_answers_are_told() -> None:
    problem = Problem("p", "7 boxes of 6 eggs", "42")
    assert scores_of("7 * 6 = 42", "7 + 6 = 13", "7 * 6 = 41", "Answer: 13", problem=problem) == (
        *(SILENT, SILENT, FALSE, FALSE),
    )


def test_without_a_reference_answers_are_not_judged() -> None:
    assert scores_of("Answer: 13", problem=Problem("p", "?", "")) == (SILENT,)
    assert scores_of("Answer: 13", problem=Problem("p", "?", "Paris")) == (SILENT,)


def test_whether_unmatched_steps_are_wrong_is_a_setting() -> None:
    steps = ["7 + 6 = 13", "42 + 9 = 50"]
    for unmatched, first_wrong in ((0.25, 0), (0.5, 1)):
        section = ScorerSection.model_validate(
            {"model": "calculator", "family": {"kind": "calculator", "unmatched": unmatched}}
        )
        scorer = load_scorer(section)
        (scores,) = scorer.score([(PROBLEM, steps)])
        assert scores == (unmatched, FALSE)
        assert scorer.rule.first_wrong(scores) == first_wrong


def test_names_and_families_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="leave family out"):
        ScorerSection.model_validate({"model": "calculator", "family": "qwen"})
    with pytest.raises(ValidationError, match="wants 'calculator' as its model"):
        ScorerSection.model_validate({"model": "embedded:step_scorer", "family": "calculator"})
    assert ScorerSection(model="calculator").folders == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 1,200.", "1200"),
        ("**Answer:** 3/4", "3/4"),
        (r"The answer is \(\boxed{30}\).", "30"),
        ("the answer is $5.50 a day", "11/2"),
        ("#### 72", "72"),
        ("The answer is 3 x 4 = 12", "None"),
        ("There are 5 answers", "None"),
    ],
)
def test_the_answer_that_a_step_states(text: str, answer: str) -> None:
    assert str(stated_answer(text)) == answer


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(0, 10**6))
def test_right_solutions_of_stories_are_right_in_any_order(level: int, seed: int) -> None:
    family = families.get("stories")
    (problem,) = family.sample(level, 1, seed)
    steps = family.random_solution(problem, Random(seed)).split(family.separator)
    assert set(scores_of(*steps, problem=problem)) == {RIGHT}


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_a_mistake_is_where_it_is_said_to_be_and_the_rest_goes_on_from_it(seed: int) -> None:
    family = families.get("stories")
    (problem,) = family.sample(4, 1, seed)
    steps = family.canonical_solution(problem).split(family.separator)
    made = altered(problem, steps, Random(seed))
    if made.first_wrong is None:
        assert made.steps == tuple(steps)
        return
    assert made.steps[: made.first_wrong] == tuple(steps[: made.first_wrong])
    assert made.steps[made.first_wrong] != steps[made.first_wrong]
    for step in made.steps[made.first_wrong + 1 :]:
        assert all(c.is_true is not False for c in read_calculations(step).found), made.steps


def test_altered_stories_have_the_checkers_label() -> None:
    source = read_source("altered:stories:3", embedded_split="test")
    family = families.get("stories")
    assert (source.name, len(source.solutions)) == ("stories-3-altered", 500)
    for solution in source.solutions[:50]:
        assert solution.first_wrong == family.first_wrong_step(solution.problem, solution.steps)
    share_right = sum(s.first_wrong is None for s in source.solutions) / 500
    assert 0.2 < share_right < 0.35


def test_altered_solutions_of_a_file(tmp_path) -> None:
    rows = [
        f'{{"problem": "{n} + 3 eggs?", "answer": "{n + 3}", "solution": "{n} + 3 = {n + 3}"}}' for n in range(1, 30)
    ]
    (tmp_path / "sums.jsonl").write_text("\n".join(rows))
    source = read_source(f"altered:{tmp_path / 'sums.jsonl'}")
    assert source.name == "sums-altered"
    assert {s.first_wrong for s in source.solutions} == {None, 0}
    (tmp_path / "bare.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}')
    with pytest.raises(UserError, match="has a worked solution"):
        read_source(f"altered:{tmp_path / 'bare.jsonl'}")


def test_the_same_problems_get_the_same_mistakes() -> None:
    problems = load_problems(SourceSettings(source="stories:3"), Wanted("train", 20)).problems
    assert altered_solutions(problems, "\n\n", 7) == altered_solutions(problems, "\n\n", 7)
    assert altered_solutions(problems, "\n\n", 7) != altered_solutions(problems, "\n\n", 8)


def test_a_calculator_can_be_a_member_of_an_ensemble() -> None:
    members = [{"model": "calculator"}, {"model": "calculator", "rule": {"kind": "threshold", "threshold": 0.2}}]
    scorer = load_scorer(
        ScorerSection.model_validate({"model": "ensemble", "family": {"kind": "ensemble", "members": members}})
    )
    (scores,) = scorer.score([(PROBLEM, ["7 + 6 = 13", "42 + 9 = 50"])])
    assert scores == (0.5, 0.0)


def test_the_rule_of_the_class_is_that_of_the_family() -> None:
    assert isinstance(SCORER, CalculatorScorer)
    assert SCORER.rule == Calculator.default_rule
