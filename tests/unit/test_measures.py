"""What is measured on a problem's samples, by name, and how an evaluator gets there."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import cycle, islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.ports import Continuation, Sampling
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment, Verdict
from scope_rlvr.evaluation.evaluate import EvaluationSet, Evaluator
from scope_rlvr.evaluation.measures import METRICS, Sample, choose, figures, measure, names_in_a_run
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.grading.plain import value_key
from scope_rlvr.problems.stories.family import Stories
from tests.doubles import END_MARK, CharCodec, sampled


def sample(*verdicts: str, tokens: int = 3) -> Sample:
    """A problem's samples: ``+7`` is right with answer 7, ``-3`` wrong with 3, ``-`` wrong without one, ``?`` unknown."""
    outcomes = {"+": Outcome.RIGHT, "-": Outcome.WRONG, "?": Outcome.UNKNOWN}
    members = tuple(
        Member(
            Rollout((1,), (Segment((5,) * tokens, Origin.POLICY),), is_truncated=verdict == "-"),
            Verdict(outcomes[verdict[0]], verdict[1:] or None),
        )
        for verdict in verdicts
    )
    return Sample(Group(Problem("p", "?", "7"), members), tuple(f"answer {verdict}" for verdict in verdicts))


def value(name: str, *verdicts: str) -> float | None:
    return measure([sample(*verdicts)], [name])[0][name]


def test_shares_by_hand():
    verdicts = ("+7", "-3", "-", "?")
    assert value("avg@4", *verdicts) == 1 / 4
    assert value("pass@2", *verdicts) == pytest.approx(1 - 3 / 6)
    assert value("truncated", *verdicts) == 1 / 4
    assert value("response_tokens", *verdicts) == 3


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("+7", "+7", "-3", "-4"), 1.0),
        (("+7", "-3", "-3", "-4"), 0.0),
        (("+7", "-3"), 1 / 2),
        (("+7", "-3", "-4"), 1 / 3),
        # One answer, however it is written: right ones by the verdict, wrong ones by value.
        (("+7", "+07", "+seven", "-3", "-3"), 1.0),
        (("+7", "-3", "-03"), 0.0),
        (("+7", "-a", "-b"), 1 / 3),
        (("+7", r"-1/2", "-0.5", r"-\frac{2}{4}", "+7"), 0.0),
        (("+7", "-1, 2", "-2, 1"), 0.0),
        (("+7", "-Paris", r"-\text{paris}"), 0.0),
        # Who says nothing does not vote.
        (("+7", "-", "-"), 1.0),
        (("-", "-"), 0.0),
    ],
)
def test_the_most_frequent_answer(verdicts: tuple[str, ...], expected: float):
    assert value(f"maj@{len(verdicts)}", *verdicts) == pytest.approx(expected)


def test_answers_of_one_value_are_one_answer_to_the_entropy_too():
    assert value("answer_entropy", "-1/2", "-0.5") == 0
    assert value("answer_entropy", "+7", "+seven", "+7.0") == 0
    assert value("answer_entropy", "+7", "-3", "-", "?7") == pytest.approx(math.log(4))


@settings(deadline=None)
@given(st.text() | st.text("0123456789,.eE^{}\\%/- "))
@example("1" + ",000" * 3000)
@example("9" * 5000)
def test_any_answer_has_a_key(text: str):
    assert value_key(f" {text} ") == value_key(text)


def test_unknown_verdicts_do_not_vote_and_too_few_known_ones_leave_it_open():
    assert value("maj@2", "+7", "-3", "?7") == 1 / 2
    assert value("maj@3", "+7", "-3", "?7") is None


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [(("+7", "+7"), 0.0), (("-3", "-"), 0.0), (("+7", "-3"), 1.0), (("+7", "?"), 0.0), (("?", "?"), None)],
)
def test_a_group_is_effective_where_right_and_wrong_meet(verdicts: tuple[str, ...], expected: float | None):
    assert value("effective_groups", *verdicts) == expected


def test_failures_that_begin_right():
    family = Stories("stories")
    problem = family.sample(3, 1, seed=0)[0]
    first, second, third, answer = problem.solution.split("\n\n")
    texts = (
        problem.solution,
        f"{first}\n\n2 + 2 = 5\n\n{answer}0",
        f"{first}\n\n{second}\n\n{third}",
        f"2 + 2 = 5\n\n{first}\n\n{answer}0",
        f"Let us see.\n\n{answer}0",
    )
    outcomes = (Outcome.RIGHT, *[Outcome.WRONG] * 4)
    rollout = Rollout((1,), (Segment((5,), Origin.POLICY),))
    members = tuple(Member(rollout, Verdict(outcome)) for outcome in outcomes)
    # Of four failures two begin with a right step; words without a calculation are none.
    assert measure([Sample(Group(problem, members), texts)], ["right_prefix"])[0]["right_prefix"] == 1 / 2
    assert measure([Sample(Group(problem, members[:1]), texts[:1])], ["right_prefix"])[0]["right_prefix"] is None
    assert value("right_prefix", "+7", "-3") is None


def test_everything_is_measured_where_nothing_is_asked_for():
    names = choose([], 6)
    assert {name.partition("@")[0] for name in names} == set(METRICS)
    assert [name for name in names if "@" in name] == [
        "avg@6",
        *(f"{m}@{k}" for m in ("pass", "maj") for k in (1, 2, 4, 6)),
    ]
    assert set(names_in_a_run(6)) < set(names)


def test_one_sample_is_compared_with_nothing():
    assert not {"text_bleu", "equations", "steps", "embedding", "effective_groups"} & set(choose([], 1))
    with pytest.raises(UserError, match="compares samples"):
        choose(["text_bleu"], 1)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("pas", "did you mean 'pass'"),
        ("text-bleu", "did you mean 'text_bleu'"),
        ("pass@", "no metric 'pass@'"),
        ("pass@two", "no metric"),
        ("text_bleu@4", "no metric"),
        ("", "no metric ''"),
        ("pass@16", "pass@16 needs at least 16 samples a problem, got 8; raise --samples"),
        ("maj@9", "needs at least 9"),
        ("pass@0", "k is at least 1"),
        ("avg@4", "mean over all samples and there are 8"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_remedy(asked: str, part: str):
    with pytest.raises(UserError, match=part):
        choose(["avg", asked], 8)


def test_figures_leave_out_problems_for_which_a_measure_is_not_defined():
    found = figures([{"a": 1.0, "b": None, "c": None}, {"a": 0.0, "b": 0.5, "c": None}])
    assert set(found) == {"a", "b"}
    assert (found["a"].value, found["a"].num_problems) == (0.5, 2)
    assert (found["b"].value, found["b"].interval, found["b"].num_problems) == (0.5, (0.5, 0.5), 1)
    assert figures([]) == {}


# --- evaluator ------------------------------------------------------------------------------------------------------


class Codec(CharCodec):
    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return self.encode(text)


@dataclass
class Cycling:
    """Answers every row in turn from a script, whatever the batch."""

    script: tuple[str, ...]
    sizes: list[int] = field(default_factory=list)

    def extend(self, prefixes, sampling: Sampling, *, max_tokens, seed: int) -> list[Continuation]:
        texts = list(islice(cycle(self.script), sum(self.sizes), sum(self.sizes) + len(prefixes)))
        self.sizes.append(len(prefixes))
        rows = [sampled(text)[:budget] for text, budget in zip(texts, max_tokens, strict=True)]
        return [Continuation(row, (-1.0,) * len(row), finished=row[-1] == 0) for row in rows]


def evaluator(batch_rows: int, num_samples: int, script: tuple[str, ...]) -> Evaluator:
    verifier = FinalAnswerVerifier(r"(\d)")
    return Evaluator(Cycling(script), Codec(), verifier, Sampling(), num_samples, 8, seed=0, batch_rows=batch_rows)


def problems(count: int) -> EvaluationSet:
    return EvaluationSet("digits", "", None, tuple(Problem(f"p{i}", "?", "7", level=i % 2) for i in range(count)))


SCRIPT = (*(text + END_MARK for text in ("7", "3", "x", "7", "1")), "endless words")


@given(st.integers(1, 40))
def test_the_size_of_batches_changes_nothing_but_what_is_drawn(batch_rows: int):
    heard: list[int] = []
    small, whole = evaluator(batch_rows, 5, SCRIPT), evaluator(100, 5, SCRIPT)
    assert small.evaluate(problems(7), on_progress=heard.append).measured == whole.evaluate(problems(7)).measured
    assert sum(heard) == 35
    assert max(small.policy.sizes) == min(batch_rows, 35)


def test_a_result_counts_and_its_record_says_so():
    result = evaluator(4, 6, SCRIPT).evaluate(problems(4))
    assert [(m.num_right, m.num_unknown, m.num_truncated) for m in result.measured] == [(2, 0, 1)] * 4
    record = result.record()
    assert record["accuracy"] == pytest.approx(2 / 6)
    assert record["pass_at_1"] == pytest.approx(2 / 6)
    assert [key for key in record if key.startswith("pass_at_")] == ["pass_at_1", "pass_at_2", "pass_at_4", "pass_at_6"]
    # Answers 7 twice, 3 and 1 once, two without one.
    assert record["maj_at_6"] == 1.0
    assert (record["num_truncated"], record["effective_groups"]) == (4, 1.0)
    assert record["diversity"]["answer_entropy"] == pytest.approx(2 / 3 * math.log(3) + 1 / 3 * math.log(6))
    assert list(result.by_level()) == [0, 1]
    assert [len(measured) for measured in result.by_level().values()] == [2, 2]
