"""Figures of a step, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment, Verdict
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods import Grpo, Method, Scope
from scope_rlvr.methods.metrics import Tally, group_tally, why_no_gradient
from scope_rlvr.methods.step import edit_groups
from tests.doubles import ScriptedPolicy, ScriptedTeacher, group, toolbox

FAILURE = "good 1\n\nbad 2\n\nanswer 3|"
RIGHT = "answer 7|"


def step(
    method: Method, groups: list[Group], tools: Toolbox | None = None
) -> tuple[list[Group], list[tuple[Streams, ...]]]:
    edited = edit_groups(method, groups, tools or toolbox())
    value = {Outcome.RIGHT: 1.0, Outcome.WRONG: 0.0, Outcome.UNKNOWN: None}
    rewards_PG = [[value[m.verdict.outcome] for m in g.members] for g in edited]
    return edited, method.credit(edited, rewards_PG, Normalisation.NONE)


def figures(method: Method, groups: list[Group], tools: Toolbox | None = None) -> dict[str, float]:
    return group_tally(*step(method, groups, tools)).flush()


def test_accuracy_is_that_of_the_policy_alone():
    for insertion in ("replace", "append", "pair"):
        found = figures(Scope(insertion=insertion), [group(FAILURE, RIGHT, RIGHT, "answer ?|")])
        assert found["accuracy"] == pytest.approx(2 / 3)
        assert found["verdicts/unknown"] == 0.25
        assert found["rollouts/tokens"] == (24 + 9 + 9 + 9) / 4
        assert found["salvage/failures"] == 1


def test_salvages_are_counted_from_failure_to_admission():
    groups = [
        group(FAILURE, FAILURE),  # one admitted, one not chosen
        group("bad|", FAILURE),  # one too short, one still wrong
        group("good 1\n\nanswer 3|", "bad and on"),  # no error found, truncated
        group(FAILURE),  # low score
        group(FAILURE),  # teacher wrote nothing
    ]
    teacher = ScriptedTeacher(["good\n\n", "good\n\n", "bad 9\n\n", ""])
    found = figures(Scope(), groups, toolbox(teacher=teacher, policy=ScriptedPolicy(["answer 7|", "answer 12|"])))
    assert {name: found[f"salvage/{name}"] for name in ("failures", "located", "eligible", "attempted")} == {
        "failures": 8,
        "located": 6,
        "eligible": 5,
        "attempted": 4,
    }
    assert (found["salvage/passed_guards"], found["salvage/admitted"], found["salvage/rate"]) == (2, 1, 0.25)
    assert found["salvage/prefix_ratio"] == pytest.approx(8 / 24)
    assert found["salvage/kept_tokens"] == 4 * 8
    assert found["salvage/teacher_tokens"] == 6 + 6 + 7
    assert found["salvage/continuation_tokens"] == 9 + 10
    assert found["rollouts/truncated"] == pytest.approx(1 / 8)
    assert found["rollouts/steps"] == pytest.approx((3 * 5 + 1 + 2) / 7)


def test_a_correction_without_room_was_eligible():
    tools = toolbox(teacher=ScriptedTeacher(["g" * 300]), max_response_tokens=30)
    found = figures(Scope(), [group(FAILURE)], tools)
    assert (found["salvage/eligible"], found["salvage/attempted"]) == (1, 1)


def test_a_cut_without_room_was_not_eligible():
    found = figures(Scope(), [group(FAILURE)], toolbox(max_response_tokens=9))
    assert (found["salvage/located"], found["salvage/eligible"], found["salvage/attempted"]) == (1, 0, 0)
    assert "salvage/rate" not in found


def test_a_cut_that_no_scorer_chose_is_eligible_but_not_located():
    scope = Scope(cut="random_step", guards={"low_score": False})
    found = figures(scope, [group(FAILURE, FAILURE), group("bad|")], toolbox(step_scorer=None))
    assert {name: found[f"salvage/{name}"] for name in ("failures", "scored", "located", "eligible", "attempted")} == {
        "failures": 3,
        "scored": 0,
        "located": 0,
        "eligible": 2,
        "attempted": 1,
    }


def test_group_classes_and_flat_groups():
    found = figures(Grpo(), [group(RIGHT, RIGHT), group("bad|"), group(RIGHT, "bad|"), group("answer ?|")])
    assert {name: value for name, value in found.items() if name.startswith("groups/")} == {
        "groups/all_right": 0.25,
        "groups/all_wrong": 0.25,
        "groups/mixed": 0.25,
        "groups/salvaged": 0.0,
        "groups/unusable": 0.25,
        "groups/zero_advantage": 0.75,
    }


def test_tallies_of_parts_add_up_to_the_tally_of_the_whole():
    groups = [group(FAILURE, RIGHT), group(RIGHT, RIGHT, "bad|"), group("answer ?|")]
    edited, streams = step(Scope(), groups)
    parts = Tally()
    for i in range(len(groups)):
        parts += group_tally(edited[i : i + 1], streams[i : i + 1])
    assert parts.flush() == pytest.approx(group_tally(edited, streams).flush())


def test_a_tally_starts_anew_and_keeps_the_largest():
    tally = Tally()
    tally.largest("gap", -2.0)
    tally.largest("gap", -3.0)
    tally.ratio("share", 0, 0)
    assert tally.flush() == {"gap": -2.0}
    assert tally.flush() == {}


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ([group("answer ?|", "answer ?|")], "no verdict is known"),
        ([group(RIGHT, RIGHT)], "too easy"),
        ([group("on and", "on")], "raise max_response_tokens"),
        ([group("bad|", FAILURE)], "every rollout is wrong"),
        ([group(RIGHT, RIGHT), group("bad|", "bad|")], "no group tells right from wrong"),
    ],
)
def test_a_step_that_teaches_nothing_says_why(groups, reason):
    assert reason in str(why_no_gradient(*step(Grpo(), groups)))


def test_a_step_that_teaches_something_has_no_reason():
    assert why_no_gradient(*step(Grpo(), [group(RIGHT, "bad|")])) is None
    assert why_no_gradient(*step(Scope(), [group(FAILURE, FAILURE)])) is None


def test_salvages_that_came_to_nothing_are_named():
    reason = why_no_gradient(*step(Scope(), [group("bad|", FAILURE)], toolbox(teacher=ScriptedTeacher([""]))))
    assert "prefix too short" in str(reason)
    assert "teacher wrote nothing" in str(reason)


def test_an_answer_pattern_that_reads_nothing_is_named_as_the_cause():
    unread = Verdict(Outcome.WRONG, None, "the last line does not match 'boxed'")
    rollout = Rollout((1,), (Segment((5, 2), Origin.POLICY),))
    failed = Group(Problem("p", "?", "7"), (Member(rollout, unread), Member(rollout, unread)))
    flat = [tuple(Streams.of(rollout, [0.0, 0.0], [1.0, 1.0]) for _ in failed.members)]
    because = why_no_gradient([failed], flat)
    assert because is not None
    assert "no answer was read in 2 of 2 responses that ended (the last line does not match 'boxed')" in because
    read = replace(failed, members=tuple(Member(rollout, Verdict(Outcome.WRONG, "3")) for _ in failed.members))
    assert "no answer was read" not in str(why_no_gradient([read], flat))
