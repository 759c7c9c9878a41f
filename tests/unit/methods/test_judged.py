"""Rubrics and tournaments: what marks are worth, what a judge is asked, and a revision by what is unmet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Role
from scope_rlvr.core.ports import JudgeKind
from scope_rlvr.core.types import Origin
from scope_rlvr.methods import Arena, Grpo, RgrGrpo, RmR1, RubricAnchors
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.methods.parts.rubric import Rubric
from scope_rlvr.methods.parts.verdict_tag import VerdictTag
from tests.doubles import ExactJudge, ScriptedPolicy, group, plain
from tests.unit.methods.crediting import credited
from tests.unit.methods.scoring import chars, reading_toolbox

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"
CRITERIA = ({"text": "clear", "weight": 3.0}, {"text": "short"})


class ByCriterion(ExactJudge):
    """Marks a response 1 where it has the criterion's word in it."""

    def judge(self, requests, *, seed):
        replies = []
        for request in requests:
            self.goodness = lambda text, word=request.instruction: float(word in text)
            replies += super().judge([request], seed=seed)
        return replies


def pays(method, *texts: str, judge=None) -> list[float | None]:
    tools = reading_toolbox(judge=judge or ByCriterion())
    return [m.verdict.pay for m in credited(method, *texts, tools=tools)[0].members]


def test_marks_are_weighted_and_verdicts_stay():
    texts = ("clear short\nanswer 3|", "clear\nanswer 7|", "short\nanswer 7|", f"clear\n{UNKNOWN}")
    assert pays(RubricAnchors(criteria=CRITERIA), *texts) == [1.0, 0.75, 0.25, None]
    assert pays(RubricAnchors(criteria=CRITERIA, share=0.5), *texts) == [0.5, 0.875, 0.625, None]


def test_no_share_is_the_verifier_s_reward_and_asks_nobody():
    judge = ByCriterion()
    assert pays(RubricAnchors(criteria=CRITERIA, share=0.0), RIGHT, WRONG, judge=judge) == [1.0, 0.0]
    assert judge.requests == []


def test_a_veto_pays_nothing():
    rubric = Rubric(criteria=[{"text": "a", "veto": True}, {"text": "b", "weight": 9.0}])
    assert rubric.total([0.4, 1.0]) == 0.0
    assert rubric.total([0.5, 1.0]) == pytest.approx(0.95)


def test_beyond_saturation_nothing_more_is_paid():
    rubric = Rubric(criteria=CRITERIA, saturation=0.5)
    assert [rubric.total(marks) for marks in ([1.0, 1.0], [0.5, 0.5], [0.0, 1.0])] == [1.0, 1.0, 0.5]


def test_a_group_in_which_the_judge_failed_keeps_its_rewards():
    assert pays(RubricAnchors(criteria=CRITERIA), "clear\nanswer 3|", "unreadable\nanswer 7|") == [0.0, 1.0]


def test_the_judge_is_asked_once_a_criterion_and_group():
    judge = ByCriterion()
    pays(RubricAnchors(criteria=CRITERIA), RIGHT, WRONG, judge=judge)
    assert [(r.instruction, len(r.responses), r.kind) for r in judge.requests] == [
        ("clear", 2, JudgeKind.SCORE),
        ("short", 2, JudgeKind.SCORE),
    ]
    assert RubricAnchors().needs == {Need.JUDGE}


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.floats(0.1, 1))
def test_a_total_is_between_0_and_1(marks: list[float], saturation: float):
    assert 0 <= Rubric(criteria=CRITERIA, saturation=saturation).total(marks) <= 1 + 1e-9


def test_a_tournament_ranks_the_group():
    tools = reading_toolbox(judge=ExactJudge(goodness=lambda text: -len(text)))
    found, streams = credited(Arena(), "xx\nanswer 3|", "answer 3|", "x\nanswer 7|", tools=tools)
    assert [m.verdict.pay for m in found.members] == [0.0, 1.0, 0.5]
    assert [s.advantage_T[0] for s in streams] == [-0.5, 0.5, 0.0]


# --- RGR-GRPO ---------------------------------------------------------------------------------------------------------


def revised(*texts: str, reply: str, **settings):
    policy = ScriptedPolicy([reply])
    tools = reading_toolbox(policy=policy, judge=ByCriterion())
    found, streams = credited(RgrGrpo(criteria=CRITERIA, **settings), *texts, tools=tools)
    return found, streams, policy


def test_the_best_imperfect_rollout_is_revised_by_what_it_does_not_meet():
    found, streams, policy = revised("short\nanswer 7|", "clear\nanswer 7|", WRONG, reply="clear short\nanswer 7|")
    shown = chars(policy.prefixes[0])
    assert "clear\nanswer 7" in shown
    assert "does not yet do this:\n\nshort\n" in shown
    newcomer = found.members[3]
    assert plain(newcomer.rollout) == "clear short\nanswer 7|"
    assert (newcomer.role, set(newcomer.rollout.origin_T)) == (Role.GUIDED, {Origin.TEACHER})
    assert [m.verdict.pay for m in found.members] == [0.25, 0.75, 0.0, 1.0]
    assert [round(s.advantage_T[0], 9) for s in streams] == [-0.25, 0.25, -0.5, 0.5]


def test_a_revision_that_loses_the_right_answer_does_not_join():
    assert len(revised("clear\nanswer 7|", WRONG, reply="clear short\nanswer 3|")[0].members) == 2
    assert len(revised("clear\nanswer 3|", WRONG, reply="clear short\nanswer 3|")[0].members) == 3
    assert len(revised("clear\nanswer 3|", WRONG, reply=UNKNOWN)[0].members) == 2


def test_where_all_is_met_or_nothing_is_known_nothing_is_revised():
    assert revised("clear short\nanswer 7|", reply=RIGHT)[2].num_calls == 0
    assert revised(UNKNOWN, reply=RIGHT)[2].num_calls == 0


def test_with_the_verifier_s_rewards_alone_and_nothing_to_revise_it_is_grpo():
    found, streams, _ = revised("clear short\nanswer 7|", "clear short\nanswer 3|", reply=RIGHT, share=0.0)
    assert streams == credited(Grpo(), "clear short\nanswer 7|", "clear short\nanswer 3|")[1]
    assert found.members == group("clear short\nanswer 7|", "clear short\nanswer 3|").members


# --- RM-R1 ------------------------------------------------------------------------------------------------------------


def test_a_judge_is_paid_for_the_right_tag_at_the_end_alone():
    method = RmR1(choices=("7", "3"), tag="<{choice}>", window=6)
    texts = ("<3> no <7>\nanswer 3|", "<7>|", "<3>|", "<3><7>|", "nothing|", "<7>\nanswer ?|")
    assert pays(method, *texts) == [-1.0, 1.0, -1.0, -1.0, -1.0, None]


def test_a_verdict_of_a_choice_that_there_is_not_is_wrong():
    assert VerdictTag().paid("[[C]]", "A") == VerdictTag().paid("", "A") == -1.0
