"""Where to cut, how much the teacher writes, and what happens where nobody writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scope_rlvr.core.groups import Group, Member, SalvageOutcome
from scope_rlvr.core.types import Origin, Outcome, Verdict
from scope_rlvr.methods import Scope
from scope_rlvr.salvage.cuts import NUM_ENTROPY_TOKENS
from scope_rlvr.salvage.settings import SalvageSettings
from tests.doubles import (
    PROBLEM,
    ScriptedPolicy,
    ScriptedTeacher,
    TableScorer,
    credited,
    group,
    plain,
    rollout,
    salvaged,
    toolbox,
)

FAILURE = "good 1\n\nbad 2\n\nbad 3\n\nanswer 3|"
KEEP_ALL = {"min_prefix_steps": 0, "min_prefix_ratio": 0.0}


def attempt_of(failure: str = FAILURE, tools=None, **settings):
    """What was put together, with ``/`` where the writer changes, and the record of it."""
    (edited,) = salvaged(group(failure), tools, **settings)
    record = (edited.replaced or edited.members)[0].salvage
    if record.attempt is None:
        return "", record
    text, shown, start = plain(record.attempt), [], 0
    for segment in record.attempt.segments:
        shown.append(text[start : start + len(segment)])
        start += len(segment)
    return "/".join(shown), record


# --- where to cut ---------------------------------------------------------------------------------------------------


def test_one_step_early_gives_a_right_step_up_and_one_step_late_keeps_a_wrong_one():
    assert attempt_of(cut_back_steps=1, **KEEP_ALL)[0] == "good\n\n/answer 7|"
    assert attempt_of(cut_back_steps=0)[0] == "good 1\n\n/good\n\n/answer 7|"
    assert attempt_of(cut_back_steps=-1)[0] == "good 1\n\nbad 2\n\n/good\n\n/answer 7|"


def test_the_last_step_is_the_latest_that_can_be_cut():
    assert attempt_of("good 1\n\nbad 2|", cut_back_steps=-3)[0].startswith("good 1\n\n/")


def test_a_random_cut_asks_no_scorer_and_reaches_every_step_but_the_first():
    kept = set()
    for seed in range(40):
        scorer = TableScorer()
        tools = toolbox(seed=seed, step_scorer=scorer)
        text, record = attempt_of(tools=tools, cut="random_step", guards={"low_score": False})
        kept.add(text.split("/")[0])
        assert scorer.num_calls == 0
        assert record.num_kept_tokens == len(text.split("/")[0]) == record.steps[record.cut_step].start
        assert record.is_cut
        assert not record.is_located
    assert kept == {"good 1\n\n", "good 1\n\nbad 2\n\n", "good 1\n\nbad 2\n\nbad 3\n\n"}


def test_a_cut_at_high_entropy_keeps_everything_before_that_token():
    class Uncertain(ScriptedPolicy):
        def entropies(self, prompts, responses, temperature):
            # Certain everywhere but inside "bad 2", where the 20 highest are fewer than the response has tokens.
            return [tuple(2.0 if 9 <= t < 9 + NUM_ENTROPY_TOKENS else 0.1 for t in range(len(r))) for r in responses]

    for seed in range(20):
        tools = toolbox(policy=Uncertain(), seed=seed)
        text, record = attempt_of(tools=tools, cut="high_entropy", guards={"low_score": False}, **KEEP_ALL)
        kept = text.split("/")[0]
        assert FAILURE.startswith(kept)
        assert 9 <= len(kept) < 9 + NUM_ENTROPY_TOKENS
        assert record.steps[record.cut_step].start <= len(kept) < record.steps[record.cut_step].end
        assert not record.is_located


@pytest.mark.parametrize("cut", ["random_step", "high_entropy"])
@pytest.mark.parametrize("failure", ["bad|", ""], ids=["one step", "no token"])
def test_a_failure_without_a_second_step_cannot_be_cut_by_chance(cut, failure):
    class EvenPolicy(ScriptedPolicy):
        def entropies(self, prompts, responses, temperature):
            return [(1.0,) * len(response) for response in responses]

    members = (Member(replace(rollout(failure), is_truncated=False), Verdict(Outcome.WRONG)),)
    method = Scope(cut=cut, guards={"low_score": False}, failure_credit="spare_prefix", max_salvages=1)
    (edited,) = method.edit_groups([Group(PROBLEM, members)], toolbox(policy=EvenPolicy()))
    assert edited.members[0].salvage.outcome is SalvageOutcome.PREFIX_TOO_SHORT
    assert set(method.credit_member(edited.members[0], -1.0).advantage_T) <= {-1.0}


@pytest.mark.parametrize("kind", ["first_wrong", "random_step", "high_entropy"])
def test_a_cut_is_given_by_its_bare_name_or_as_a_table(kind):
    assert SalvageSettings(cut=kind) == SalvageSettings(cut={"kind": kind})
    assert SalvageSettings(cut=kind).cut.kind == kind


def test_an_unknown_cut_is_refused_with_the_names_of_those_that_there_are():
    with pytest.raises(ValueError, match="'first_wrong', 'random_step', 'high_entropy'"):
        SalvageSettings(cut="first_step")


def test_who_is_needed_follows_from_what_is_asked_for():
    def needs(**settings):
        s = SalvageSettings(**settings)
        return s.uses_step_scorer, s.uses_teacher

    off = {"low_score": False}
    assert needs() == (True, True)
    assert needs(max_salvages=0) == (False, False)
    assert needs(cut="random_step") == (True, True)
    assert needs(cut="random_step", guards=off) == (False, True)
    assert needs(cut="random_step", guards=off, max_rounds=2) == (True, True)
    assert needs(cut="random_step", mode="suffix") == (False, True)
    assert needs(mode="no_teacher") == (True, False)
    assert needs(mode="no_teacher", fallback="suffix") == (True, True)


# --- how much is written, and by whom -------------------------------------------------------------------------------


def test_two_steps_are_asked_for_one_after_the_other():
    teacher = ScriptedTeacher(["good a\n\n", "good b\n\n"])
    text, record = attempt_of(tools=toolbox(teacher=teacher), mode={"kind": "step", "num_steps": 2})
    assert text == "good 1\n\n/good a\n\n/good b\n\n/answer 7|"
    assert [(c.at_token, c.text) for c in record.corrections] == [(8, "good a\n\n"), (16, "good b\n\n")]
    assert teacher.num_calls == 2


def test_a_teacher_that_finishes_early_is_not_asked_again():
    teacher = ScriptedTeacher(["answer 7|"])
    text, _ = attempt_of(
        "good 1\n\nanswer 3|",
        toolbox(teacher=teacher, step_scorer=TableScorer({"answer 3": 0.1})),
        mode={"kind": "step", "num_steps": 3},
    )
    assert (text, teacher.num_calls) == ("good 1\n\n/answer 7|", 1)


@pytest.mark.parametrize(
    ("num_steps", "failure", "is_leak"),
    [
        # The policy's own second step from the cut on states an answer: the teacher's may, too.
        (2, "good 1\n\nbad 2\n\nanswer 3|", False),
        (2, "good 1\n\nbad 2\n\nbad 3\n\nanswer 3|", True),
        (1, "good 1\n\nbad 2\n\nanswer 3|", True),
    ],
)
def test_the_answer_may_be_written_where_the_policy_wrote_one(num_steps, failure, is_leak):
    teacher = ScriptedTeacher(["good a\n\n", "answer 7|"] if num_steps == 2 else ["answer 7|"])
    _, record = attempt_of(failure, toolbox(teacher=teacher), mode={"kind": "step", "num_steps": num_steps})
    assert record.outcome is (SalvageOutcome.ANSWER_LEAK if is_leak else SalvageOutcome.ADMITTED)


def test_in_a_second_round_too_the_answer_may_be_written_where_the_policy_wrote_one():
    policy = ScriptedPolicy(["bad 4\n\nanswer 1|"])
    teacher = ScriptedTeacher(["good a\n\n", "good b\n\n", "good c\n\n", "answer 7|"])
    text, record = attempt_of(
        tools=toolbox(policy=policy, teacher=teacher), mode={"kind": "step", "num_steps": 2}, max_rounds=2
    )
    assert record.outcome is SalvageOutcome.ADMITTED
    assert text == "good 1\n\n/good a\n\n/good b\n\n/good c\n\n/answer 7|"


def test_a_refused_second_step_refuses_the_salvage():
    teacher = ScriptedTeacher(["good a\n\n", "bad b\n\n"])
    _, record = attempt_of(tools=toolbox(teacher=teacher), mode={"kind": "step", "num_steps": 2})
    assert record.outcome is SalvageOutcome.LOW_SCORE


def test_a_whole_trace_keeps_nothing():
    teacher = ScriptedTeacher(["good 9\n\nanswer 7|"])
    text, record = attempt_of(tools=toolbox(teacher=teacher), mode="whole_trace")
    assert (text, record.num_kept_tokens) == ("good 9\n\nanswer 7|", 0)
    assert teacher.requests[0].prefix_ids == ()
    assert set(record.attempt.origin_T) == {Origin.TEACHER}


def test_a_whole_trace_replaces_also_what_went_wrong_at_once():
    text, _ = attempt_of("bad|", toolbox(teacher=ScriptedTeacher(["answer 7|"])), mode="whole_trace")
    assert text == "answer 7|"


def test_without_a_teacher_the_policy_tries_again_from_the_cut():
    tools = toolbox(teacher=None)
    text, record = attempt_of(tools=tools, mode="no_teacher")
    assert text == "good 1\n\n/answer 7|"
    assert (record.corrections, record.was_attempted, record.num_continuations) == ((), True, 1)
    assert tools.tokens == {"continuation": 9}


def test_a_second_round_without_a_teacher_cuts_again_after_the_kept_prefix():
    policy = ScriptedPolicy(["good 4\n\nbad 5\n\nanswer 1|", "answer 7|"])
    text, _ = attempt_of(tools=toolbox(policy=policy, teacher=None), mode="no_teacher", max_rounds=2)
    assert text.replace("/", "") == "good 1\n\ngood 4\n\nanswer 7|"


@pytest.mark.parametrize(("prefix_credit", "expected"), [("full", 0.5), ("masked", 0.0), ("fraction", 0.25)])
def test_the_prefix_is_credited_as_told_also_where_nobody_wrote(prefix_credit, expected):
    method = Scope(mode="no_teacher", prefix_credit=prefix_credit)
    (edited,) = method.edit_groups([group(FAILURE, "bad|")], toolbox(teacher=None))
    streams = credited(method, [edited])[0][0]
    assert set(streams.advantage_T[:8]) == {expected}
    assert set(streams.advantage_T[8:]) == {0.5}
