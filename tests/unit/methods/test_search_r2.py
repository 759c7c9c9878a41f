"""Search-R2's refiner: what is cut, what takes its place, and what it costs."""

from __future__ import annotations

from scope_rlvr.core.groups import Role
from scope_rlvr.methods import Grpo, SearchR2
from scope_rlvr.methods.parts.base import Need
from tests.doubles import ScriptedPolicy, TableScorer, group, plain, toolbox
from tests.unit.methods.crediting import credited


def test_a_faulted_rollout_is_written_again_from_its_fault_right_or_wrong():
    tools = toolbox(policy=ScriptedPolicy(["answer 7|", "answer 1|"]))
    found, streams = credited(
        SearchR2(), "good\n\nbad\n\nanswer 1|", "fine\n\nbad\n\nanswer 7|", "answer 7|", tools=tools
    )
    assert [plain(m.rollout) for m in found.members] == ["good\n\nanswer 7|", "fine\n\nanswer 1|", "answer 7|"]
    assert [m.role for m in found.members] == [Role.BRANCHED, Role.BRANCHED, Role.SAMPLED]
    assert len(found.replaced) == 2
    third = 1 / 3
    assert [round(s.advantage_T[0], 9) for s in streams] == [round(third, 9), round(-2 * third, 9), round(third, 9)]
    assert all(set(s.weight_T) == {1.0} for s in streams)


def test_nothing_faulted_is_grpo():
    texts = ("fine\n\nanswer 7|", "answer 1|")
    assert credited(SearchR2(), *texts) == credited(Grpo(), *texts)
    faulted = ("bad\n\nanswer 7|", "answer 1|")
    assert credited(SearchR2(max_revisions=0), *faulted) == credited(Grpo(), *faulted)
    assert SearchR2(max_revisions=0).needs == frozenset()
    assert SearchR2().needs == {Need.STEP_SCORER}


def test_a_revision_may_be_revised():
    tools = toolbox(policy=ScriptedPolicy(["bad\n\nanswer 7|", "answer 7|"]))
    (found,) = SearchR2(max_revisions=2).edit_groups([group("good\n\nbad\n\nx|")], tools)
    assert plain(found.members[0].rollout) == "good\n\nanswer 7|"
    assert [m.role for m in found.replaced] == [Role.SAMPLED, Role.BRANCHED]


def test_a_truncated_rollout_and_a_scorer_that_fails_change_nothing():
    cut_off = group("bad\n\nno end")
    assert SearchR2().edit_groups([cut_off], toolbox())[0].members[0].rollout == cut_off.members[0].rollout
    silent = toolbox(step_scorer=TableScorer(distort=lambda scores: None))
    assert plain(SearchR2().edit_groups([group("bad\n\nx|")], silent)[0].members[0].rollout) == "bad\n\nx|"
