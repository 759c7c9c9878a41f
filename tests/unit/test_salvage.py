"""Salvage in hand-made worlds: one character is one token, and every player reads from a script."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Barrier

import pytest

from scope_rlvr.core.accounting import Stopwatch
from scope_rlvr.core.groups import Group, GroupClass, Member, Role, SalvageOutcome, SalvageRecord
from scope_rlvr.core.ports import TeacherReply
from scope_rlvr.core.processes import Processes
from scope_rlvr.core.types import Origin, Outcome, Verdict
from scope_rlvr.salvage.settings import SalvageSettings
from tests.doubles import (
    END,
    LOGPROB,
    PROBLEM,
    ExactVerifier,
    ScriptedPolicy,
    ScriptedTeacher,
    TableScorer,
    group,
    plain,
    rollout,
    salvaged,
    sampled,
    toolbox,
)

FAILURE = "good 1\n\nbad 2\n\nanswer 3|"
KEPT = "good 1\n\n"
RIGHT = "good 1\n\nanswer 7|"


def record_of(edited: Group, index: int = 0) -> SalvageRecord:
    """The record of the failure that stood at a place of its group."""
    record = edited.members[index].salvage
    assert record is not None
    return record


def outcomes(*groups: Group) -> list[SalvageOutcome | None]:
    return [m.salvage.outcome if m.salvage else None for g in groups for m in g.members]


# --- the plain case -------------------------------------------------------------------------------------------------


def test_a_failure_is_replaced_by_its_own_prefix_a_teacher_step_and_its_own_continuation():
    tools = toolbox()
    (edited,) = salvaged(group(FAILURE, RIGHT), tools)
    member = edited.members[0]
    assert plain(member.rollout) == "good 1\n\ngood\n\nanswer 7|"
    assert [(s.origin, len(s)) for s in member.rollout.segments] == [
        (Origin.POLICY, 8),
        (Origin.TEACHER, 6),
        (Origin.POLICY, 9),
    ]
    assert (member.role, member.verdict.outcome) == (Role.SALVAGED, Outcome.RIGHT)
    assert edited.group_class is GroupClass.SALVAGED
    (original,) = edited.replaced
    assert (plain(original.rollout), original.role, original.salvage) == (FAILURE, Role.SAMPLED, member.salvage)


def test_the_kept_prefix_has_the_sampled_ids_and_log_probabilities():
    (edited,) = salvaged(group(FAILURE))
    kept, teacher, continued = edited.members[0].rollout.segments
    assert kept.token_ids == sampled(KEPT)
    assert kept.logprobs == (LOGPROB,) * len(KEPT)
    assert teacher.logprobs == (-0.1,) * 6
    assert continued.token_ids == sampled("answer 7|")


def test_the_record_says_all_that_happened():
    (edited,) = salvaged(group(FAILURE))
    record = record_of(edited)
    assert [step.text for step in record.steps] == [KEPT, "bad 2\n\n", "answer 3"]
    assert record.step_scores_S == (0.9, 0.1, 0.9)
    assert (record.first_wrong_step, record.num_kept_tokens) == (1, 8)
    assert record.cut_step == 1
    (correction,) = record.corrections
    assert (correction.at_token, correction.text, correction.num_tokens, correction.score) == (8, "good\n\n", 6, 0.9)
    assert (record.num_continuations, record.num_continuation_tokens) == (1, 9)
    assert record.attempt == edited.members[0].rollout
    assert record.verdict == edited.members[0].verdict
    assert record.is_located
    assert record.was_attempted
    assert record.passed_guards
    assert record.is_admitted


def test_the_policy_continues_exactly_the_ids_that_were_kept_and_added():
    policy = ScriptedPolicy()
    salvaged(group(FAILURE), toolbox(policy=policy, max_response_tokens=40))
    assert policy.prefixes == [(1, 2, *sampled(KEPT), *sampled("good\n\n"))]
    assert policy.budgets == [40 - 14]


def test_the_order_of_the_group_is_kept():
    (edited,) = salvaged(group(RIGHT, FAILURE, "answer ?|", RIGHT), max_salvages=4)
    assert [m.role for m in edited.members] == [Role.SAMPLED, Role.SALVAGED, Role.SAMPLED, Role.SAMPLED]
    assert outcomes(edited) == [None, SalvageOutcome.ADMITTED, None, None]


def test_groups_are_salvaged_together_and_apart():
    tools = toolbox(policy=ScriptedPolicy(["answer 8|", "answer 7|"]))
    first, second, third = salvaged([group(FAILURE), group(RIGHT), group(FAILURE)], tools)
    assert outcomes(first, second, third) == [SalvageOutcome.STILL_WRONG, None, SalvageOutcome.ADMITTED]
    assert tools.policy.num_calls == tools.teacher.num_calls == 1
    assert tools.step_scorer.num_calls == 2  # all failures, then all corrections


# --- nothing to do --------------------------------------------------------------------------------------------------


def test_no_salvage_wanted_asks_nobody_and_returns_the_same_groups():
    groups = [group(FAILURE), group(RIGHT, FAILURE)]
    tools = toolbox(step_scorer=None, teacher=None)
    assert all(a is b for a, b in zip(salvaged(groups, tools, max_salvages=0), groups, strict=True))


def test_groups_without_a_failure_come_back_as_they_are_and_nobody_is_asked():
    groups = [group(RIGHT, RIGHT), group("answer ?|"), Group(PROBLEM, ())]
    tools = toolbox()
    assert all(a is b for a, b in zip(salvaged(groups, tools), groups, strict=True))
    assert tools.step_scorer.num_calls == tools.teacher.num_calls == tools.policy.num_calls == 0
    assert salvaged([], tools) == []


@pytest.mark.parametrize("missing", ["step_scorer", "teacher"])
def test_a_missing_helper_is_named(missing):
    with pytest.raises(ValueError, match=missing.replace("_", " ")):
        salvaged(group(FAILURE), toolbox(**{missing: None}))


def test_unknown_verdicts_are_never_salvaged():
    (edited,) = salvaged(group("bad 1\n\nanswer ?|", FAILURE), max_salvages=2)
    assert outcomes(edited) == [None, SalvageOutcome.ADMITTED]


def test_an_empty_response_has_no_wrong_step():
    empty = Group(PROBLEM, (Member(replace(rollout(""), is_truncated=False), group("x|").members[0].verdict),))
    (edited,) = salvaged(empty, min_prefix_steps=0, min_prefix_ratio=0, no_error_rule="argmin")
    assert outcomes(edited) == [SalvageOutcome.NO_ERROR_FOUND]


# --- which groups and which failures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "texts", "is_marked"),
    [
        ("any_failure", [FAILURE, RIGHT, RIGHT], True),
        ("all_fail", [FAILURE, FAILURE, "answer ?|"], True),
        ("all_fail", [FAILURE, RIGHT], False),
        ({"kind": "rate_below", "rate": 0.5}, [FAILURE, FAILURE, RIGHT], True),
        ({"kind": "rate_below", "rate": 0.5}, [FAILURE, RIGHT, "answer ?|"], False),
        ({"kind": "rate_below", "rate": 1.0}, [FAILURE, RIGHT, RIGHT], True),
    ],
)
def test_the_group_rule_decides_which_groups_are_helped(rule, texts, is_marked):
    (edited,) = salvaged(group(*texts), group_rule=rule)
    expected = SalvageOutcome.ADMITTED if is_marked else SalvageOutcome.GROUP_NOT_MARKED
    assert outcomes(edited)[0] is expected


@pytest.mark.parametrize(("include", "expected"), [(False, SalvageOutcome.TRUNCATED), (True, SalvageOutcome.ADMITTED)])
def test_truncated_failures_are_left_alone_unless_included(include, expected):
    (edited,) = salvaged(group("good 1\n\nbad 2\n\nand so on"), include_truncated=include)
    assert outcomes(edited) == [expected]


@pytest.mark.parametrize(
    ("ranking", "chosen"),
    [("longest_prefix", 0), ("latest_step", 1), ("shortest", 2)],
)
def test_ranking_chooses_among_rivals(ranking, chosen):
    texts = [
        "a long good first step\n\nbad|",  # largest share kept
        "good\n\ngood\n\ngood\n\nbad and very long is all the rest of it|",  # most steps kept
        "good\n\nbad bad|",  # shortest
    ]
    (edited,) = salvaged(group(*texts), ranking=ranking, min_prefix_ratio=0)
    expected = [SalvageOutcome.NOT_CHOSEN] * 3
    expected[chosen] = SalvageOutcome.ADMITTED
    assert outcomes(edited) == expected


def test_equal_prefix_shares_are_ranked_by_the_mean_score_of_the_kept_steps():
    tools = toolbox(step_scorer=TableScorer({"good 1": 0.6, "good 2": 0.7}))
    (edited,) = salvaged(group("good 1\n\nbad|", "good 2\n\nbad|"), tools)
    assert outcomes(edited) == [SalvageOutcome.NOT_CHOSEN, SalvageOutcome.ADMITTED]


def test_random_ranking_follows_the_seed_and_nothing_else():
    def chosen(seed: int) -> int:
        (edited,) = salvaged(group(*[FAILURE] * 6), toolbox(seed=seed), ranking="random")
        return outcomes(edited).index(SalvageOutcome.ADMITTED)

    draws = [chosen(seed) for seed in range(20)]
    assert draws == [chosen(seed) for seed in range(20)]
    assert len(set(draws)) > 2


def test_max_salvages_counts_for_each_group():
    edited = salvaged([group(*[FAILURE] * 3), group(*[FAILURE] * 3)], max_salvages=2)
    for each in edited:
        assert outcomes(each).count(SalvageOutcome.ADMITTED) == 2
        assert outcomes(each).count(SalvageOutcome.NOT_CHOSEN) == 1


# --- where to cut ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scores",
    [
        None,
        (),
        (0.9,),
        (0.9, 0.1, 0.9, 0.9),
        (0.9, math.nan, 0.9),
        (0.9, 0.1, math.inf),
    ],
    ids=["nothing", "none", "too few", "too many", "not a number", "infinite"],
)
def test_scores_that_cannot_be_trusted_leave_the_failure_alone(scores):
    (edited,) = salvaged(group(FAILURE, RIGHT), toolbox(step_scorer=TableScorer(distort=lambda _: scores)))
    assert outcomes(edited) == [SalvageOutcome.SCORER_FAILED, None]
    record = record_of(edited)
    assert not record.is_located
    assert record.step_scores_S == ()


def test_a_scorer_that_answers_another_number_of_questions_is_not_believed():
    class Forgetful(TableScorer):
        def score(self, solutions):
            return super().score(solutions)[:-1]

    (edited,) = salvaged(group(FAILURE, FAILURE), toolbox(step_scorer=Forgetful()))
    assert outcomes(edited) == [SalvageOutcome.SCORER_FAILED] * 2


@pytest.mark.parametrize(
    ("rule", "first_wrong", "outcome"),
    [
        ("skip", None, SalvageOutcome.NO_ERROR_FOUND),
        ("last_step", 2, SalvageOutcome.ADMITTED),
        ("argmin", 1, SalvageOutcome.ADMITTED),
    ],
)
def test_a_wrong_answer_without_a_wrong_step(rule, first_wrong, outcome):
    tools = toolbox(step_scorer=TableScorer({"good 2": 0.6}))
    (edited,) = salvaged(group("good 1\n\ngood 2\n\nanswer 3|"), tools, no_error_rule=rule)
    assert outcomes(edited) == [outcome]
    assert record_of(edited).first_wrong_step == first_wrong


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({"min_prefix_steps": 1}, SalvageOutcome.ADMITTED),
        ({"min_prefix_steps": 2}, SalvageOutcome.PREFIX_TOO_SHORT),
        ({"min_prefix_ratio": 8 / 24}, SalvageOutcome.ADMITTED),
        ({"min_prefix_ratio": 9 / 24}, SalvageOutcome.PREFIX_TOO_SHORT),
        ({"cut_back_steps": 1}, SalvageOutcome.PREFIX_TOO_SHORT),
        ({"cut_back_tokens": 1}, SalvageOutcome.PREFIX_TOO_SHORT),  # no whole step is left
        ({"cut_back_tokens": 1, "min_prefix_steps": 0}, SalvageOutcome.ADMITTED),
    ],
)
def test_enough_must_be_left_to_keep(settings, outcome):
    assert len(FAILURE) == 24
    (edited,) = salvaged(group(FAILURE), **({"min_prefix_ratio": 0} | settings))
    assert outcomes(edited) == [outcome]


def test_a_wrong_first_step_can_be_corrected_from_nothing():
    (edited,) = salvaged(group("bad 1\n\nanswer 3|"), min_prefix_steps=0, min_prefix_ratio=0)
    assert plain(edited.members[0].rollout) == "good\n\nanswer 7|"
    assert edited.members[0].rollout.origin_T[0] is Origin.TEACHER


def test_steps_can_be_given_up_before_the_first_wrong_one():
    (edited,) = salvaged(group("good 0\n\n" + FAILURE), cut_back_steps=1)
    record = record_of(edited)
    assert plain(edited.members[0].rollout) == "good 0\n\ngood\n\nanswer 7|"
    assert (record.first_wrong_step, record.num_kept_tokens) == (2, 8)
    assert record.cut_step == 2


def test_tokens_can_be_given_up_before_the_cut_and_the_rejected_step_is_still_the_wrong_one():
    tools = toolbox(teacher=ScriptedTeacher(["xx\n\n"]))
    (edited,) = salvaged(
        group("good 0\n\n" + FAILURE), tools, cut_back_tokens=3, show_rejected_step=True, min_prefix_ratio=0
    )
    assert plain(edited.members[0].rollout) == "good 0\n\ngood xx\n\nanswer 7|"
    assert tools.teacher.requests[0].rejected_step == "bad 2\n\n"


def test_writing_again_what_was_right_and_given_up_is_no_repetition():
    tools = toolbox(teacher=ScriptedTeacher(["1\n\n"]))
    (edited,) = salvaged(group("good 0\n\n" + FAILURE), tools, cut_back_tokens=3, min_prefix_ratio=0)
    assert outcomes(edited) == [SalvageOutcome.ADMITTED]


@pytest.mark.parametrize(("room", "outcome"), [(10, SalvageOutcome.NO_ROOM), (23, SalvageOutcome.ADMITTED)])
def test_a_cut_at_the_end_of_the_budget_leaves_no_room(room, outcome):
    response = "good 1\n\nbad|" if room == 23 else "good 12\n\nbad|"
    (edited,) = salvaged(group(response), toolbox(max_response_tokens=room))
    assert outcomes(edited) == [outcome]


# --- what the teacher sees and writes -------------------------------------------------------------------------------


def test_the_teacher_sees_no_more_than_it_is_shown():
    teacher = ScriptedTeacher()
    salvaged(group(FAILURE), toolbox(teacher=teacher))
    (request,) = teacher.requests
    assert request.prompt_ids == (1, 2)
    assert request.prefix_ids == sampled(KEPT)
    assert request.prefix_text == KEPT
    assert (request.stop_text, request.max_tokens) == ("\n\n", 192)
    assert request.rejected_step is None
    assert request.reference is None


def test_the_teacher_can_be_shown_the_rejected_step_and_the_reference():
    teacher = ScriptedTeacher()
    salvaged(group(FAILURE), toolbox(teacher=teacher), show_rejected_step=True, show_reference=True)
    assert (teacher.requests[0].rejected_step, teacher.requests[0].reference) == ("bad 2\n\n", "7")


def test_a_step_has_a_budget_of_its_own():
    teacher = ScriptedTeacher()
    salvaged(group(FAILURE), toolbox(teacher=teacher), mode={"kind": "step", "max_tokens": 6})
    assert teacher.requests[0].max_tokens == 6


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (TeacherReply(error="server down"), SalvageOutcome.TEACHER_FAILED),
        (TeacherReply(), SalvageOutcome.EMPTY_STEP),
        ("", SalvageOutcome.EMPTY_STEP),
        ("|", SalvageOutcome.EMPTY_STEP),
        (" \n\n", SalvageOutcome.EMPTY_STEP),
        (TeacherReply(text=" \n"), SalvageOutcome.EMPTY_STEP),
        ("good", SalvageOutcome.UNFINISHED_STEP),
        ("good\n", SalvageOutcome.UNFINISHED_STEP),
        ("g" * 199 + "\n\n", SalvageOutcome.UNFINISHED_STEP),
        (TeacherReply(text="good", is_cut_off=True), SalvageOutcome.UNFINISHED_STEP),
        (TeacherReply(text="g" * 199), SalvageOutcome.UNFINISHED_STEP),
        ("bad 2\n\n", SalvageOutcome.REPEATED_STEP),
        (TeacherReply(text="bad 2"), SalvageOutcome.REPEATED_STEP),
        ("answer 7|", SalvageOutcome.ANSWER_LEAK),
        ("answer 7\n\n", SalvageOutcome.ANSWER_LEAK),
        ("bad 3\n\n", SalvageOutcome.LOW_SCORE),
    ],
)
def test_a_correction_that_is_refused_leaves_the_failure_in_its_place(reply, outcome):
    tools = toolbox(teacher=ScriptedTeacher([reply]), max_response_tokens=500)
    (edited,) = salvaged(group(FAILURE), tools)
    assert outcomes(edited) == [outcome]
    assert edited.members[0].rollout == rollout(FAILURE)
    assert edited.members[0].role is Role.SAMPLED
    assert edited.replaced == ()
    record = record_of(edited)
    assert record.was_attempted
    assert not record.passed_guards
    assert record.num_continuations == 0
    assert tools.policy.num_calls == 0


def test_a_teacher_that_answers_another_number_of_requests_has_failed():
    class Forgetful(ScriptedTeacher):
        def continue_from(self, requests, *, seed):
            return super().continue_from(requests, seed=seed)[1:]

    edited = salvaged([group(FAILURE), group(FAILURE)], toolbox(teacher=Forgetful()))
    assert outcomes(*edited) == [SalvageOutcome.TEACHER_FAILED] * 2


@pytest.mark.parametrize(
    ("reply", "room", "outcome"),
    [
        ("good\n\n", 14, SalvageOutcome.NO_ROOM),  # nothing left for the policy
        ("good\n\n", 13, SalvageOutcome.NO_ROOM),
        ("good\n\n", 23, SalvageOutcome.ADMITTED),
        ("good\n\n", 22, SalvageOutcome.STILL_WRONG),  # the continuation is truncated
        ("so answer 3|", 20, SalvageOutcome.STILL_WRONG),  # fills the room and ends
        ("so answer 3|", 19, SalvageOutcome.NO_ROOM),
    ],
)
def test_corrections_and_continuations_share_the_length_budget(reply, room, outcome):
    tools = toolbox(teacher=ScriptedTeacher([reply]), max_response_tokens=room)
    (edited,) = salvaged(group("good 1\n\nbad|"), tools)
    assert outcomes(edited) == [outcome]
    attempt = record_of(edited).attempt
    assert outcome is SalvageOutcome.NO_ROOM or (attempt is not None and len(attempt) <= room)


def test_a_truncated_continuation_is_wrong_without_asking_the_verifier():
    verifier = ExactVerifier()
    tools = toolbox(policy=ScriptedPolicy(["answer 7"]), verifier=verifier)
    (edited,) = salvaged(group(FAILURE), tools)
    assert outcomes(edited) == [SalvageOutcome.STILL_WRONG]
    assert record_of(edited).verdict.reason == "truncated"
    assert not any(text.endswith("answer 7") for text in verifier.texts)


def test_text_is_encoded_once_and_gets_the_separator_that_it_stopped_at():
    tools = toolbox(teacher=ScriptedTeacher([TeacherReply(text="good \n")]))
    (edited,) = salvaged(group(FAILURE), tools)
    kept, teacher, _ = edited.members[0].rollout.segments
    assert kept.token_ids == sampled(KEPT)
    assert teacher.token_ids == tools.codec.encode("good\n\n")
    assert teacher.logprobs is None


def test_text_that_has_its_separator_gets_no_other():
    (edited,) = salvaged(group(FAILURE), toolbox(teacher=ScriptedTeacher([TeacherReply(text="good\n\n")])))
    assert plain(edited.members[0].rollout) == "good 1\n\ngood\n\nanswer 7|"


def test_log_probabilities_of_another_vocabulary_are_not_kept():
    reply = TeacherReply(text="good", logprobs=(-1.0,))
    (edited,) = salvaged(group(FAILURE), toolbox(teacher=ScriptedTeacher([reply])))
    assert edited.members[0].rollout.segments[1].logprobs is None


def test_text_that_ends_the_solution_gets_the_end_of_sequence_token():
    tools = toolbox(teacher=ScriptedTeacher([TeacherReply(text="answer 7", finished=True)]))
    (edited,) = salvaged(group(FAILURE), tools, mode="suffix")
    assert edited.members[0].rollout.segments[1].token_ids == (*tools.codec.encode("answer 7"), END)
    assert tools.policy.num_calls == 0


def test_ids_after_an_end_of_sequence_token_are_dropped():
    tools = toolbox(teacher=ScriptedTeacher(["answer 7|and more\n\n"]))
    (edited,) = salvaged(group(FAILURE), tools, mode="suffix")
    segment = edited.members[0].rollout.segments[1]
    assert segment.token_ids == sampled("answer 7|")
    assert len(segment.logprobs) == 9


@pytest.mark.parametrize(
    "reply", ["good\n\nworse\n\nanswer 9|", "good\n\nbad\n\n", TeacherReply(text="good\n\nbad"), "good\n\nbad"]
)
def test_of_several_steps_only_the_first_is_taken(reply):
    (edited,) = salvaged(group(FAILURE), toolbox(teacher=ScriptedTeacher([reply])))
    assert plain(edited.members[0].rollout) == "good 1\n\ngood\n\nanswer 7|"


def test_white_space_after_the_separator_belongs_to_the_step():
    (edited,) = salvaged(group(FAILURE), toolbox(teacher=ScriptedTeacher(["good\n\n\n \t"])))
    assert outcomes(edited) == [SalvageOutcome.ADMITTED]


def test_a_suffix_is_verified_without_a_continuation_and_without_guards():
    tools = toolbox(teacher=ScriptedTeacher(["bad\n\nanswer 7|"]))
    (edited,) = salvaged(group(FAILURE), tools, mode="suffix")
    assert plain(edited.members[0].rollout) == "good 1\n\nbad\n\nanswer 7|"
    assert tools.policy.num_calls == 0
    assert tools.teacher.requests[0].stop_text is None
    assert tools.teacher.requests[0].max_tokens == 192
    assert record_of(edited).num_continuations == 0


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("answer 8|", SalvageOutcome.STILL_WRONG),
        ("answer ?|", SalvageOutcome.VERDICT_UNKNOWN),
        ("answer 7\n\n", SalvageOutcome.UNFINISHED_STEP),
        (TeacherReply(text="answer 7"), SalvageOutcome.UNFINISHED_STEP),
        ("a" * 192, SalvageOutcome.NO_ROOM),
    ],
)
def test_a_suffix_that_does_not_succeed(reply, outcome):
    (edited,) = salvaged(group(FAILURE), toolbox(teacher=ScriptedTeacher([reply])), mode="suffix")
    assert outcomes(edited) == [outcome]
    assert edited.members[0].rollout == rollout(FAILURE)


# --- guards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guard", "reply"), [("repeated", "bad 2\n\n"), ("answer_leak", "answer 7|"), ("low_score", "bad 3\n\n")]
)
def test_each_guard_can_be_switched_off(guard, reply):
    guards = {"repeated": True, "answer_leak": True, "low_score": True} | {guard: False}
    if guard == "repeated":
        guards["low_score"] = False
    (edited,) = salvaged(group(FAILURE), toolbox(teacher=ScriptedTeacher([reply])), guards=guards)
    assert outcomes(edited) == [SalvageOutcome.ADMITTED]


def test_the_answer_may_be_stated_where_the_policy_stated_one():
    failure = "good 1\n\ngood 2\n\nanswer 3|"
    tools = toolbox(teacher=ScriptedTeacher(["answer 7|"]), step_scorer=TableScorer({"answer 3": 0.2}))
    (edited,) = salvaged(group(failure), tools)
    assert outcomes(edited) == [SalvageOutcome.ADMITTED]
    assert plain(edited.members[0].rollout) == "good 1\n\ngood 2\n\nanswer 7|"
    assert edited.members[0].rollout.segments[-1].origin is Origin.TEACHER


def test_a_wrong_answer_of_the_teacher_is_no_leak():
    (edited,) = salvaged(group(FAILURE), toolbox(teacher=ScriptedTeacher(["answer 8|"])))
    assert outcomes(edited) == [SalvageOutcome.STILL_WRONG]


def test_a_scorer_that_fails_on_a_correction_refuses_it():
    scorer = TableScorer()
    scorer.distort = lambda scores: scores if scorer.num_calls == 1 else None
    (edited,) = salvaged(group(FAILURE), toolbox(step_scorer=scorer))
    assert outcomes(edited) == [SalvageOutcome.SCORER_FAILED]
    assert record_of(edited).was_attempted


def test_the_step_that_the_correction_ends_in_must_pass():
    scorer = TableScorer()
    salvaged(group(FAILURE), toolbox(step_scorer=scorer))
    assert scorer.solutions[-1] == (KEPT, "good\n\n")


class Board:
    """Where two threads, each the process of a run, leave their results for each other."""

    def __init__(self) -> None:
        self.barrier = Barrier(2, timeout=20)
        self.left: list[tuple[str, list]] = [("", []), ("", [])]


class Thread(Processes):
    """One of two processes that work in threads; it fails where they do not do the same thing."""

    count = 2

    def __init__(self, index: int, board: Board) -> None:
        self.index, self.board = index, board

    def together(self, what, work):
        self.board.left[self.index] = (what, work())
        self.board.barrier.wait()
        (one, mine), (other, yours) = self.board.left
        self.board.barrier.wait()
        assert one == other
        return [mine, yours]


class TimesOut(ExactVerifier):
    """Cannot judge any text in time."""

    def _verdict(self, problem, text):
        return Verdict(Outcome.UNKNOWN, None, "no verdict in time")


def test_a_verifier_that_times_out_in_one_process_does_not_part_the_processes():
    groups, board = [group(FAILURE), group(FAILURE)], Board()
    verifiers = [ExactVerifier(), TimesOut()]

    def in_process(index: int) -> list[Group]:
        tools = toolbox(
            teacher=ScriptedTeacher(["answer 7\n\n"]), verifier=verifiers[index], processes=Thread(index, board)
        )
        try:
            return salvaged(groups, tools)
        except BaseException:
            board.barrier.abort()
            raise

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(in_process, range(2))
    assert one == other
    # The first process found the leak in its own failure; the other could not judge the second one, and let it pass.
    assert outcomes(*one)[0] is SalvageOutcome.ANSWER_LEAK
    assert outcomes(*one)[1] is not SalvageOutcome.ANSWER_LEAK
    assert [verifier.texts[:1] for verifier in verifiers] == [["answer 7\n\n"]] * 2


def test_the_time_of_the_answer_leak_guard_is_the_verifier_s():
    phases, open_phases = [], []

    class Watched(Stopwatch):
        @contextmanager
        def phase(self, name):
            open_phases.append(name)
            yield
            open_phases.pop()

    class Watching(ExactVerifier):
        def verify(self, attempts):
            phases.extend(open_phases or ["none"])
            return super().verify(attempts)

    (edited,) = salvaged(
        group(FAILURE),
        toolbox(teacher=ScriptedTeacher(["answer 7|"]), verifier=Watching(), clock=Watched()),
    )
    assert outcomes(edited) == [SalvageOutcome.ANSWER_LEAK]
    assert set(phases) == {"verifying"}


# --- continuations, rounds, fallback --------------------------------------------------------------------------------


def test_the_first_right_of_several_continuations_is_kept_and_tries_are_counted():
    policy = ScriptedPolicy(["answer 1|", "so answer 7\n\nanswer 7|", "answer 7|"])
    (edited,) = salvaged(group(FAILURE), toolbox(policy=policy), num_continuations=3)
    assert plain(edited.members[0].rollout) == "good 1\n\ngood\n\nso answer 7\n\nanswer 7|"
    record = record_of(edited)
    assert record.num_continuations == 3
    assert record.num_continuation_tokens == 9 + 22 + 9
    assert policy.num_calls == 1


def test_without_a_right_continuation_the_first_one_is_recorded():
    policy = ScriptedPolicy(["answer 1|", "answer 2|"])
    (edited,) = salvaged(group(FAILURE), toolbox(policy=policy), num_continuations=2)
    record = record_of(edited)
    assert record.outcome is SalvageOutcome.STILL_WRONG
    assert plain(record.attempt) == "good 1\n\ngood\n\nanswer 1|"
    assert record.passed_guards


def test_an_unknown_verdict_is_not_admitted():
    (edited,) = salvaged(group(FAILURE), toolbox(policy=ScriptedPolicy(["answer ?|"])))
    assert outcomes(edited) == [SalvageOutcome.VERDICT_UNKNOWN]
    assert edited.members[0].rollout == rollout(FAILURE)


def test_a_second_round_corrects_the_first_wrong_step_after_the_first_correction():
    policy = ScriptedPolicy(["good 3\n\nbad 4\n\nanswer 1|", "answer 7|"])
    teacher = ScriptedTeacher(["good\n\n", "fine\n\n"])
    tools = toolbox(policy=policy, teacher=teacher)
    (edited,) = salvaged(group(FAILURE), tools, max_rounds=3, show_rejected_step=True)
    assert plain(edited.members[0].rollout) == "good 1\n\ngood\n\ngood 3\n\nfine\n\nanswer 7|"
    assert [s.origin for s in edited.members[0].rollout.segments] == [
        Origin.POLICY,
        Origin.TEACHER,
        Origin.POLICY,
        Origin.TEACHER,
        Origin.POLICY,
    ]
    record = record_of(edited)
    assert [c.at_token for c in record.corrections] == [8, 22]
    assert [r.rejected_step for r in teacher.requests] == ["bad 2\n\n", "bad 4\n\n"]
    assert (record.num_kept_tokens, record.num_continuations) == (8, 2)
    assert teacher.num_calls == 2


def test_rounds_stop_where_no_later_step_is_wrong():
    policy = ScriptedPolicy(["good 3\n\nanswer 1|"])
    teacher = ScriptedTeacher()
    (edited,) = salvaged(group(FAILURE), toolbox(policy=policy, teacher=teacher), max_rounds=3)
    assert outcomes(edited) == [SalvageOutcome.STILL_WRONG]
    assert teacher.num_calls == 1


def test_the_second_round_looks_only_after_the_first_correction():
    policy = ScriptedPolicy(["good 3\n\nbad 4\n\nanswer 1|", "answer 7|"])
    tools = toolbox(policy=policy, teacher=ScriptedTeacher(["bad z\n\n", "good\n\n"]))
    (edited,) = salvaged(group(FAILURE), tools, max_rounds=2, guards={"low_score": False})
    assert plain(edited.members[0].rollout) == "good 1\n\nbad z\n\ngood 3\n\ngood\n\nanswer 7|"


def test_an_unknown_verdict_ends_the_rounds():
    teacher = ScriptedTeacher()
    tools = toolbox(policy=ScriptedPolicy(["bad 4\n\nanswer ?|"]), teacher=teacher)
    (edited,) = salvaged(group(FAILURE), tools, max_rounds=3)
    assert outcomes(edited) == [SalvageOutcome.VERDICT_UNKNOWN]
    assert teacher.num_calls == 1


def test_rounds_stop_at_max_rounds():
    policy = ScriptedPolicy(["bad 3\n\nanswer 1|"])
    teacher = ScriptedTeacher()
    (edited,) = salvaged(group(FAILURE), toolbox(policy=policy, teacher=teacher), max_rounds=2)
    assert outcomes(edited) == [SalvageOutcome.STILL_WRONG]
    assert teacher.num_calls == 2


def test_a_scorer_that_fails_between_rounds_ends_them():
    scorer = TableScorer()
    scorer.distort = lambda scores: scores if scorer.num_calls <= 2 else None
    tools = toolbox(step_scorer=scorer, policy=ScriptedPolicy(["bad 3\n\nanswer 1|"]))
    (edited,) = salvaged(group(FAILURE), tools, max_rounds=2)
    assert outcomes(edited) == [SalvageOutcome.STILL_WRONG]


def test_a_verdict_always_belongs_to_the_attempt_beside_it():
    teacher = ScriptedTeacher(["good\n\n", "bad 9\n\n"])
    tools = toolbox(policy=ScriptedPolicy(["bad 3\n\nanswer 1|"]), teacher=teacher)
    record = record_of(salvaged(group(FAILURE), tools, max_rounds=2)[0])
    assert record.outcome is SalvageOutcome.LOW_SCORE
    assert plain(record.attempt) == "good 1\n\ngood\n\nbad 9\n\n"
    assert record.verdict is None
    assert record.passed_guards  # in the first round


def test_the_fallback_lets_the_teacher_finish_from_the_first_cut():
    policy = ScriptedPolicy(["good 3\n\nbad 4\n\nanswer 1|"])
    teacher = ScriptedTeacher(["good\n\n", "fine\n\n", "answer 7|"])
    tools = toolbox(policy=policy, teacher=teacher)
    (edited,) = salvaged(group(FAILURE), tools, max_rounds=2, fallback="suffix", show_rejected_step=True)
    assert plain(edited.members[0].rollout) == "good 1\n\nanswer 7|"
    assert teacher.requests[-1].prefix_text == KEPT
    assert teacher.requests[-1].rejected_step == "bad 2\n\n"
    assert teacher.requests[-1].stop_text is None
    assert len(record_of(edited).corrections) == 3


@pytest.mark.parametrize("first", [TeacherReply(error="down"), "bad 2\n\n", "good"])
def test_the_fallback_also_follows_a_refused_correction(first):
    teacher = ScriptedTeacher([first, "answer 7|"])
    (edited,) = salvaged(group(FAILURE), toolbox(teacher=teacher), fallback="suffix")
    assert outcomes(edited) == [SalvageOutcome.ADMITTED]


def test_no_fallback_after_success_or_after_a_suffix():
    teacher = ScriptedTeacher()
    salvaged(group(FAILURE), toolbox(teacher=teacher), fallback="suffix")
    assert teacher.num_calls == 1
    teacher = ScriptedTeacher(["answer 8|"])
    salvaged(group(FAILURE), toolbox(teacher=teacher), fallback="suffix", mode="suffix")
    assert teacher.num_calls == 1


# --- admission and insertion ----------------------------------------------------------------------------------------


def test_for_ablation_what_is_still_wrong_is_admitted_after_all_rounds():
    policy = ScriptedPolicy(["bad 4\n\nanswer 1|", "answer 2|"])
    (edited,) = salvaged(group(FAILURE), toolbox(policy=policy), admission="always", max_rounds=2)
    member = edited.members[0]
    assert plain(member.rollout).endswith("answer 2|")
    assert (member.role, member.verdict.outcome) == (Role.SALVAGED, Outcome.WRONG)
    assert record_of(edited).is_admitted


@pytest.mark.parametrize(
    ("policy", "teacher", "outcome"),
    [("answer ?|", "good\n\n", SalvageOutcome.VERDICT_UNKNOWN), ("answer 7|", "bad\n\n", SalvageOutcome.LOW_SCORE)],
)
def test_for_ablation_neither_unknown_nor_refused_attempts_are_admitted(policy, teacher, outcome):
    tools = toolbox(policy=ScriptedPolicy([policy]), teacher=ScriptedTeacher([teacher]))
    (edited,) = salvaged(group(FAILURE), tools, admission="always")
    assert outcomes(edited) == [outcome]


def test_append_keeps_the_failure_and_adds_the_salvaged_rollout_at_the_end():
    (edited,) = salvaged(group(FAILURE, RIGHT), insertion="append")
    assert [plain(m.rollout) for m in edited.members] == [FAILURE, RIGHT, "good 1\n\ngood\n\nanswer 7|"]
    assert [m.role for m in edited.members] == [Role.SAMPLED, Role.SAMPLED, Role.SALVAGED]
    assert [m.num_shared_tokens for m in edited.members] == [0, 0, 0]
    assert edited.replaced == ()
    assert edited.num_sampled == 2


def test_pair_names_the_prefix_that_both_members_share():
    policy = ScriptedPolicy(["bad 4\n\nanswer 1|", "answer 7|"])
    (edited,) = salvaged(group(RIGHT, FAILURE), toolbox(policy=policy), insertion="pair", max_rounds=2)
    assert [m.num_shared_tokens for m in edited.members] == [0, 8, 8]
    assert edited.members[1].salvage is edited.members[2].salvage
    assert edited.members[1].rollout.token_ids[:8] == edited.members[2].rollout.token_ids[:8]


@pytest.mark.parametrize("insertion", ["append", "pair"])
def test_a_failed_salvage_adds_nothing(insertion):
    (edited,) = salvaged(group(FAILURE), toolbox(policy=ScriptedPolicy(["answer 1|"])), insertion=insertion)
    assert len(edited.members) == 1
    assert edited.members[0].num_shared_tokens == 0


def test_time_is_booked_by_phase():
    tools = toolbox()
    salvaged(group(FAILURE), tools)
    assert set(tools.clock.seconds) == {"scoring", "teacher", "continuation", "verifying"}


def test_settings_refuse_what_makes_no_sense():
    for wrong in ({"max_salvages": -1}, {"max_rounds": 0}, {"num_continuations": 0}, {"min_prefix_ratio": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SalvageSettings(**wrong)
