"""The mathematical verifier: hand-made cases, the golds of real benchmarks, hostile answers, and what it remembers."""

from __future__ import annotations

import ast
import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

import scope_rlvr.grading
from benchmarks.grader import HOSTILE, HOSTILE_GOLD, endure, ordinary_pairs
from scope_rlvr.core.types import Outcome, Problem, Verdict
from scope_rlvr.grading.boxes import MAX_ANSWER_CHARS, last_box
from scope_rlvr.grading.math_answer import MathVerifier
from scope_rlvr.grading.math_judge import judge
from scope_rlvr.grading.normal import normal
from scope_rlvr.grading.reasons import REASONS
from tests.benchmark_data import benchmark_file
from tests.grading_cases import cases
from tests.surface.test_docs import doc, rows_of

SOURCES = Path(scope_rlvr.grading.__file__).parent


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(workers=1, deadline=30.0) as opened:
        yield opened


def graded(verifier: MathVerifier, *pairs: tuple[str, str]) -> list[Verdict]:
    return verifier.verify([(Problem("p", "?", gold), response) for gold, response in pairs])


def boxed(answer: str) -> str:
    return rf"The answer is $\boxed{{{answer}}}$."


# --- the table ------------------------------------------------------------------------------------------------------


def test_every_case_of_the_table_gets_the_verdict_it_deserves(verifier: MathVerifier) -> None:
    table = cases()
    assert len(table) >= 500
    verdicts = graded(verifier, *((case.gold, boxed(case.answer)) for case in table))
    found = [(case, v.reason) for case, v in zip(table, verdicts, strict=True) if v.outcome.value != case.expected]
    assert not found


@pytest.mark.parametrize(
    "part",
    ["1", "1,", "1 000 ", ".1e", r"\text{a", "²", ",\\! ", "cm ", "sqrt(", r"\frac{", "^(", "1 1/2 ", "(1, ", "12:30 "],
)
def test_a_long_text_is_brought_into_its_form_in_time_that_grows_with_its_length(part: str) -> None:
    # In the training process itself, so that nothing would end it.
    def seconds(num_chars: int) -> float:
        text, best = part * (num_chars // len(part)), math.inf
        for _ in range(3):
            started = time.process_time()
            normal(text)
            best = min(best, time.process_time() - started)
        return best

    # Eight times the text takes eight times as long; 64 times would be the square of it.
    assert seconds(48_000) < 24 * seconds(6_000)


# --- golds ----------------------------------------------------------------------------------------------------------

MALFORMED: frozenset[str] = frozenset()
"""Golds that no rule can mend, by id."""


def golds(name: str) -> dict[str, str]:
    lines = benchmark_file(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["answer"] for row in map(json.loads, lines)}


@pytest.mark.parametrize("name", ["math500", "minerva", "gsm8k", "aime24", "amc23"])
def test_every_gold_is_equal_to_itself(name: str, verifier: MathVerifier) -> None:
    found = golds(name)
    verdicts = graded(verifier, *((gold, boxed(gold)) for gold in found.values()))
    assert {id_ for id_, v in zip(found, verdicts, strict=True) if not v.is_right} == MALFORMED & set(found)


@pytest.mark.parametrize("name", ["math500", "minerva"])
def test_every_gold_can_be_parsed(name: str, verifier: MathVerifier) -> None:
    """Equal text is right without parsing; against another answer the gold must be understood."""
    found = golds(name)
    verdicts = graded(verifier, *((gold, boxed("123456.789")) for gold in found.values()))
    assert {id_ for id_, v in zip(found, verdicts, strict=True) if v.outcome is not Outcome.WRONG} <= MALFORMED


def test_golds_in_e_notation_accept_the_ordinary_form_and_no_other_number(verifier: MathVerifier) -> None:
    numbers = [re.fullmatch(r"([\d.]+)e(-?\d+)", gold.strip()) for gold in golds("minerva").values()]
    found = [(match[0], match[1], int(match[2])) for match in numbers if match]
    assert len(found) == 58
    right = [(gold, boxed(rf"{a} \times 10^{{{b}}}")) for gold, a, b in found]
    wrong = [(gold, boxed(rf"{a} \times 10^{{{b + 1}}}")) for gold, a, b in found]
    twice = [(gold, boxed(rf"{2 * float(a):g} \times 10^{{{b}}}")) for gold, a, b in found]
    assert all(v.is_right for v in graded(verifier, *right))
    assert all(v.outcome is Outcome.WRONG for v in graded(verifier, *wrong, *twice))


def test_no_gold_is_taken_for_that_of_another_problem(verifier: MathVerifier) -> None:
    every = sorted({*golds("math500").values(), *golds("minerva").values()})
    pairs = [tuple(Random(seed).sample(every, 2)) for seed in range(150)]
    verdicts = graded(verifier, *((gold, boxed(other)) for gold, other in pairs))
    assert [pair for pair, v in zip(pairs, verdicts, strict=True) if v.outcome is not Outcome.WRONG] == []


# --- where the answer is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "answer", "reason"),
    [
        (r"\boxed{5}", "5", ""),
        (r"<think> \boxed{4} </think> \boxed{5}", "5", ""),
        (r"thinking \boxed{4} </think> \boxed{5}", "5", ""),
        (r"<think> \boxed{5} </think> It is 5.", None, "no_box"),
        (r"<think> \boxed{5}", None, "unfinished_thinking"),
        (r"\boxed{5} </think> <think> \boxed{6}", None, "unfinished_thinking"),
        (r"\boxed{5}, or rather \boxed{6}", "6", ""),
        (r"\boxed{5} \boxed{}", None, "empty_box"),
        (r"\boxed{5} \boxed{  }", None, "empty_box"),
        (r"\boxed{5} \boxed{6", None, "malformed_box"),
        (r"\boxed{5} \boxed 6", None, "malformed_box"),
        (r"\boxed{\frac{1}{2}", None, "malformed_box"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", ""),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right.", ""),
        (r"\fbox{5}", "5", ""),
        (r"\boxed {5}", "5", ""),
        (r"\boxed{\boxed{5}}", "5", ""),
        ("the answer is 5", None, "no_box"),
        ("", None, "no_box"),
        (r"\boxedanswer{5}", None, "no_box"),
        (rf"\boxed{{{'1' * MAX_ANSWER_CHARS}}}", "1" * MAX_ANSWER_CHARS, ""),
        (rf"\boxed{{{'1' * (MAX_ANSWER_CHARS + 1)}}}", None, "too_long"),
    ],
)
def test_the_answer_is_the_last_box_and_nothing_mends_it(response: str, answer: str | None, reason: str) -> None:
    found = last_box(response)
    assert (found.answer, found.reason) == (answer, reason)


def test_without_an_answer_the_verdict_is_wrong_and_names_none(verifier: MathVerifier) -> None:
    assert graded(verifier, ("5", "5"), ("5", r"\boxed{5")) == [
        Verdict(Outcome.WRONG, None, "no_box"),
        Verdict(Outcome.WRONG, None, "malformed_box"),
    ]


def test_a_gold_that_nobody_can_read_is_unknown_and_never_right_or_wrong(verifier: MathVerifier) -> None:
    verdicts = graded(verifier, ("", boxed("5")), ("  ", "5"), (r"\frac{", boxed("5")), (r"\frac{1}{0}", boxed("5")))
    assert [v.outcome for v in verdicts] == [Outcome.UNKNOWN] * 4
    assert [v.reason for v in verdicts] == ["no_gold", "no_gold", "gold_unparsable", "gold_unparsable"]
    assert [v.pay for v in verdicts] == [None] * 4


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("5", "5", ("right", "same_text")),
        ("5", "5.0", ("right", "equal")),
        ("5", "6", ("wrong", "unequal")),
        ("5", "4=5", ("wrong", "unequal_chain")),
        ("5", r"\frac{", ("wrong", "answer_unparsable")),
        (r"10\text{ cm}", r"10\text{ m}", ("wrong", "other_unit")),
        ("12_8", "12_9", ("wrong", "other_base")),
        (r"\text{east}", "East", ("right", "same_words")),
        (r"\text{east}", "west", ("wrong", "other_words")),
        (r"\frac{", "5", ("unknown", "gold_unparsable")),
    ],
)
def test_every_reason_of_the_judge(gold: str, answer: str, verdict: tuple[str, str]) -> None:
    assert judge(gold, answer) == verdict


CODE = re.compile(r"([a-z]+(?:_[a-z]+)*)(?::|$)")
NO_CODES = {"answer_pattern", "free_symbols", "math_verify", "memory_mib", "num_workers"}


def codes_in_the_sources() -> set[str]:
    """Every text constant of the graders that looks like a code."""
    files = [
        file for file in SOURCES.glob("*.py") if file.stem not in {"reasons", "settings", "final_answer", "reward"}
    ]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    found = {match[1] for match in map(CODE.match, texts) if match}
    return {code for code in found if "_" in code or code in {"equal", "unequal"}} - NO_CODES


def test_every_reason_code_is_explained_in_the_code_and_on_the_page() -> None:
    assert codes_in_the_sources() == set(REASONS)
    rows = rows_of(doc("grading.md"), "## Reasons")
    assert {code: meaning.strip("| ") for code, meaning in rows.items()} == REASONS


# --- hostile answers ------------------------------------------------------------------------------------------------


OVERLONG = {name for name, answer in HOSTILE.items() if len(answer) > MAX_ANSWER_CHARS}
DEADLINE = 1.5


def test_hostile_answers_are_never_right_and_cost_no_healthy_one_its_verdict() -> None:
    names = ["power tower", "factorial", "huge powers that cancel", "improper integral", *sorted(OVERLONG)]
    found = endure(workers=2, deadline=DEADLINE, hostile=names)
    assert (found.num_hostile, found.num_hostile_right) == (len(names), 0)
    assert found.num_healthy_right == found.num_answered_afterwards == found.num_healthy == len(names)


def questions_to_workers(verifier: MathVerifier, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What the verifier asks its workers from now on; nobody answers."""
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(verifier.pool, "ask", lambda questions: asked.extend(questions) or [])
    return asked


def test_through_the_verifier_long_answers_are_wrong_at_once_and_time_outs_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with MathVerifier(workers=2, deadline=DEADLINE) as verifier:
        pairs = [(HOSTILE_GOLD, boxed(HOSTILE[name])) for name in ("power tower", "factorial", *sorted(OVERLONG))]
        verdicts = graded(verifier, *pairs)
        assert [v.outcome.value for v in verdicts] == ["unknown"] * 2 + ["wrong"] * len(OVERLONG)
        assert [v.reason.split(":")[0] for v in verdicts] == ["time_out"] * 2 + ["too_long"] * len(OVERLONG)
        asked = questions_to_workers(verifier, monkeypatch)
        assert graded(verifier, *pairs) == verdicts
        assert asked == []


def test_the_benchmark_grades_ordinary_answers_right_and_wrong(verifier: MathVerifier) -> None:
    pairs = ordinary_pairs(60)
    outcomes = Counter(v.outcome for v in graded(verifier, *((gold, boxed(answer)) for gold, answer in pairs)))
    assert outcomes[Outcome.UNKNOWN] == 0
    assert min(outcomes[Outcome.RIGHT], outcomes[Outcome.WRONG]) > 15


def test_equal_questions_are_asked_once(verifier: MathVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = (r"\sqrt{50}", boxed(r"5\sqrt{2}"))
    first = graded(verifier, *[pair] * 5)
    assert len(set(first)) == 1
    asked = questions_to_workers(verifier, monkeypatch)
    assert graded(verifier, pair) == first[:1]
    assert asked == []
