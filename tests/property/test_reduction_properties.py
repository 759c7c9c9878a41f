"""What must hold for every problem of the family "reduction", whatever the order of steps."""

from __future__ import annotations

import re
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.embedded.tokenizer import make_tokenizer
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.problems.reduction import MODULUS, Reduction, make_problem

FAMILY = Reduction()
TOKENIZER = make_tokenizer()
PROBLEMS = st.lists(st.integers(0, MODULUS - 1), min_size=2, max_size=10).map(make_problem)
RANDOM = st.integers(0, 2**32).map(Random)


@given(PROBLEMS, RANDOM)
def test_every_solution_is_right(problem, rng):
    for solution in (FAMILY.canonical_solution(problem), FAMILY.random_solution(problem, rng)):
        steps = solution.split(FAMILY.separator)
        assert len(steps) == problem.level
        assert FAMILY.first_wrong_step(problem, steps) is None
        assert FinalAnswerVerifier(FAMILY.answer_pattern).verify([(problem, solution)])[0].is_right


@given(PROBLEMS, RANDOM, st.integers(1, MODULUS - 1))
def test_one_altered_number_is_found_in_its_step(problem, rng, shift):
    steps = FAMILY.random_solution(problem, rng).split(FAMILY.separator)
    at = rng.randrange(len(steps))
    number = rng.choice(list(re.finditer(r"\d+", steps[at])))
    altered = (int(number[0]) + shift) % MODULUS
    steps[at] = f"{steps[at][: number.start()]}{altered}{steps[at][number.end() :]}"
    assert FAMILY.first_wrong_step(problem, steps) == at


@given(PROBLEMS, RANDOM)
def test_a_missing_step_is_found(problem, rng):
    steps = FAMILY.random_solution(problem, rng).split(FAMILY.separator)
    at = rng.randrange(len(steps) - 1)
    found = FAMILY.first_wrong_step(problem, steps[:at] + steps[at + 1 :])
    assert found is not None
    assert found >= at


@given(PROBLEMS, RANDOM)
def test_wrong_sums_are_found_where_the_first_was_written(problem, rng):
    wrong_at: list[bool] = []

    def write_sum(a: int, b: int) -> int:
        wrong_at.append(rng.random() < 0.3)
        return (a + b + wrong_at[-1]) % MODULUS

    steps = FAMILY.random_solution(problem, rng, write_sum=write_sum).split(FAMILY.separator)
    assert FAMILY.first_wrong_step(problem, steps) == (wrong_at.index(True) if any(wrong_at) else None)


@given(PROBLEMS, st.lists(st.text(), max_size=5))
def test_the_checker_never_fails_on_any_text(problem, steps):
    found = FAMILY.first_wrong_step(problem, steps)
    assert found is None or 0 <= found < len(steps)


@given(PROBLEMS, RANDOM)
def test_the_tokenizer_keeps_every_text_wherever_it_is_cut(problem, rng):
    text = problem.prompt + FAMILY.random_solution(problem, rng)
    ids = TOKENIZER.encode(text)
    cut = rng.randrange(len(ids) + 1)
    assert TOKENIZER.unk_token_id not in ids
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.decode(ids[:cut]) + TOKENIZER.decode(ids[cut:]) == text
    assert TOKENIZER.encode(TOKENIZER.decode(ids[:cut])) + TOKENIZER.encode(TOKENIZER.decode(ids[cut:])) == ids
