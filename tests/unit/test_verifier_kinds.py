"""Every kind of verifier: from the configuration, and what it calls right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Outcome, Problem, Verdict
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.grading.function import FunctionVerifier
from scope_rlvr.grading.math_answer import MathVerifier
from scope_rlvr.grading.settings import KINDS, ChoiceKind, FunctionKind, MathKind, PatternKind, pattern_of, verifier_of
from scope_rlvr.grading.simple import ChoiceVerifier, ExactVerifier, NumericVerifier
from scope_rlvr.run.config import RunConfig, dump_config, load_config, validate_config
from scope_rlvr.run.verifier import answer_pattern, make_verifier

FUNCTIONS = "tests.unit.grading_functions"


def verdicts(verifier: Any, gold: str, *responses: str) -> list[Verdict]:
    return verifier.verify([(Problem("p", "?", gold), response) for response in responses])


def outcomes(verifier: Any, gold: str, *responses: str) -> str:
    """``r``, ``w`` or ``u`` for each response."""
    return "".join(verdict.outcome.value[0] for verdict in verdicts(verifier, gold, *responses))


# --- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], PatternKind()),
        ([r"verifier.answer_pattern=is (\d+)"], PatternKind(answer_pattern=r"is (\d+)")),
        (["verifier=math"], MathKind()),
        (["verifier.kind=math", "verifier.deadline=2"], MathKind(deadline=2)),
        (["verifier=choice", "verifier.letters=ABCD"], ChoiceKind(letters="ABCD")),
        (["verifier.kind=function", "verifier.path=my.module:right"], FunctionKind(path="my.module:right")),
    ],
)
def test_a_kind_is_chosen_by_its_name_and_the_pattern_needs_none(overrides: list[str], expected: Any) -> None:
    config = load_config(None, overrides)
    assert config.verifier == expected


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        ({"kind": "maths"}, ["verifier", "maths", "math"]),
        ({"kind": "math", "answer_pattern": "(x)"}, ["verifier.answer_pattern: unknown key", "deadline"]),
        ({"kind": "math", "deadlin": 3}, ["verifier.deadlin: unknown key", "did you mean 'deadline'?"]),
        ({"answer_patern": "(x)"}, ["verifier.answer_patern: unknown key", "did you mean 'answer_pattern'?"]),
        ({"answer_pattern": "(a)(b)"}, ["verifier.answer_pattern", "2 groups"]),
        ({"kind": "exact", "answer_pattern": "("}, ["verifier.answer_pattern", "not a regular expression"]),
        ({"kind": "math", "deadline": 0}, ["verifier.deadline", "got 0"]),
        ({"kind": "function"}, ["verifier.path", "required"]),
        ({"kind": "function", "path": "no colon"}, ["verifier.path", "no colon"]),
    ],
)
def test_mistakes_are_named(section: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        validate_config({"verifier": section}, "run.toml")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("section", [{}, "math", {"kind": "numeric", "relative_tolerance": 0.01}, {"kind": "choice"}])
def test_toml_and_back(section: Any, tmp_path: Path) -> None:
    config = validate_config({"verifier": section}, "x")
    (tmp_path / "run.toml").write_text(dump_config(config))
    assert load_config(tmp_path / "run.toml") == config


def test_the_configuration_makes_the_verifier_it_names() -> None:
    made = {
        "pattern": FinalAnswerVerifier,
        "math": MathVerifier,
        "choice": ChoiceVerifier,
        "exact": ExactVerifier,
        "numeric": NumericVerifier,
        "function": FunctionVerifier,
    }
    assert set(made) == set(KINDS)
    for kind, expected in made.items():
        section = {"kind": kind} | ({"path": f"{FUNCTIONS}:ends_in_seven"} if kind == "function" else {})
        verifier = make_verifier(validate_config({"verifier": section}, "x"))
        assert type(verifier) is expected
        if isinstance(verifier, MathVerifier | FunctionVerifier):
            verifier.close()


def test_the_family_says_how_answers_are_written_unless_the_configuration_does() -> None:
    assert outcomes(make_verifier(RunConfig()), "7", "answer 7", "7") == "rw"
    assert answer_pattern(RunConfig()) == r"answer (\d+)"
    assert pattern_of(PatternKind(answer_pattern="is (.)"), "(x)") == "is (.)"
    assert pattern_of(MathKind(), "(x)") is None
    assert outcomes(verifier_of(PatternKind(answer_pattern=r"it is (\d+)"), "(x)"), "7", "it is 7", "answer 7") == "rw"


# --- multiple choice ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (r"\boxed{B}", "r"),
        (r"\boxed{b}", "r"),
        (r"\boxed{(B)}", "r"),
        (r"\boxed{\text{B}}", "r"),
        (r"\boxed{\textbf{(B)}}", "r"),
        (r"\boxed{B.}", "r"),
        (r"\boxed{(B) 7}", "r"),
        (r"\boxed{B. seven}", "r"),
        (r"\boxed{B: seven}", "r"),
        (r"\boxed{C}", "w"),
        (r"\boxed{B or C}", "w"),
        (r"\boxed{B, C}", "w"),
        (r"\boxed{BC}", "w"),
        (r"\boxed{7}", "w"),
        (r"\boxed{}", "w"),
        (r"\boxed{B", "w"),
        (r"\boxed{C} The answer is B.", "w"),
        ("The answer is B.", "r"),
        ("the answer is (B)", "r"),
        ("Answer: B", "r"),
        ("**Answer:** B", "r"),
        ("The answer is **B**", "r"),
        ("The answer is C. No, the answer is B.", "r"),
        ("The answer is B. No, the answer is C.", "w"),
        ("The answer is B or C", "w"),
        ("The answer is B, C", "w"),
        ("The answer is Because", "w"),
        ("<think>The answer is B</think> I do not know", "w"),
        ("B", "w"),
        ("", "w"),
    ],
)
def test_letters(response: str, outcome: str) -> None:
    assert outcomes(ChoiceVerifier(), "B", response) == outcome


@pytest.mark.parametrize("gold", ["B", "b", "(B)", r"\text{(B)}", "B."])
def test_golds_of_multiple_choice_may_be_written_in_several_ways(gold: str) -> None:
    assert outcomes(ChoiceVerifier(), gold, r"\boxed{B}", r"\boxed{A}") == "rw"


def test_a_gold_that_is_no_choice_is_unknown() -> None:
    assert outcomes(ChoiceVerifier(letters="ABCD"), "E", r"\boxed{E}", r"\boxed{A}") == "uu"
    assert outcomes(ChoiceVerifier(), "", r"\boxed{A}", "the answer is A") == "uu"
    assert outcomes(ChoiceVerifier(letters="1234"), "2", r"\boxed{2}", r"\boxed{3}", r"\boxed{B}") == "rww"


def test_a_pattern_of_your_own_is_the_only_way_then() -> None:
    verifier = ChoiceVerifier(answer_pattern=r"FINAL: (\w)")
    assert outcomes(verifier, "B", "FINAL: B", r"\boxed{B}", "The answer is B", "FINAL: B FINAL: C") == "rwww"


# --- exact and numeric ----------------------------------------------------------------------------------------------


def test_exact() -> None:
    assert outcomes(ExactVerifier(), "Paris", r"\boxed{Paris}", r"\boxed{paris}", r"\boxed{Paris.}", "Paris") == "rwww"
    assert outcomes(ExactVerifier(ignore_case=True), "Paris", r"\boxed{PARIS}") == "r"
    assert outcomes(ExactVerifier(answer_pattern=r"is (\w+)"), "Paris", "it is Paris", "it is Rome") == "rw"
    assert verdicts(ExactVerifier(), "", r"\boxed{x}")[0] == Verdict(Outcome.UNKNOWN, "x", "no_gold")


def test_numbers_within_a_tolerance() -> None:
    verifier = NumericVerifier(relative_tolerance=0.01)
    right = [r"\boxed{100}", r"\boxed{101}", r"\boxed{99.1}", r"\boxed{1.00 \times 10^{2}}", r"\boxed{\frac{200}{2}}"]
    assert outcomes(verifier, "100", *right) == "r" * len(right)
    assert outcomes(verifier, "100", r"\boxed{98.9}", r"\boxed{102}", r"\boxed{-100}", r"\boxed{x}", "100") == "wwwww"
    assert outcomes(verifier, "4.5e33", r"\boxed{4.5\times 10^{33}}", r"\boxed{4.6\times 10^{33}}") == "rw"
    assert outcomes(verifier, "0", r"\boxed{0}", r"\boxed{0.0001}") == "rw"
    assert outcomes(NumericVerifier(absolute_tolerance=0.5), "0", r"\boxed{0.5}", r"\boxed{0.51}") == "rw"
    assert outcomes(verifier, "x", r"\boxed{1}") == "u"
    assert outcomes(verifier, r"100\text{ cm}", r"\boxed{100 \text{ m}}", r"\boxed{100 cm}") == "wr"


# --- a function of the user's ---------------------------------------------------------------------------------------


def test_a_function_says_what_is_right() -> None:
    with FunctionVerifier(f"{FUNCTIONS}:ends_in_seven", workers=1) as verifier:
        said = verdicts(verifier, "7", "it is 7", "it is 8", "7?")
    assert [(v.outcome.value, v.reason) for v in said] == [
        ("right", "function_said_right"),
        ("wrong", "function_said_wrong"),
        ("unknown", "function_does_not_know"),
    ]
    assert all(v.answer is None for v in said)


@pytest.mark.parametrize(("name", "reason"), [("says_maybe", "function_returned_other"), ("never_returns", "time_out")])
def test_what_a_function_does_wrong_is_unknown(name: str, reason: str) -> None:
    with FunctionVerifier(f"{FUNCTIONS}:{name}", workers=1, deadline=1.0) as verifier:
        [said] = verdicts(verifier, "7", "7")
    assert said.outcome is Outcome.UNKNOWN
    assert said.reason.startswith(reason)


def test_a_function_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text("def right(problem, response):\n    return problem.reference in response\n")
    monkeypatch.chdir(tmp_path)
    with FunctionVerifier("my_rewards:right", workers=1) as verifier:
        assert outcomes(verifier, "7", "77", "8") == "rw"


@pytest.mark.parametrize("function", ["no_such_module_here:right", f"{FUNCTIONS}:no_such_function"])
def test_a_function_that_is_not_there_is_a_mistake_of_the_configuration(function: str) -> None:
    with pytest.raises(UserError, match="no_such"):
        verifier_of(FunctionKind(path=function), "(x)")
