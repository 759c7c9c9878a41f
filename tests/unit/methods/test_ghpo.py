"""GHPO: which hint is kept, what the prompt is then, and who is credited."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.advantages import STD_FLOOR, Normalisation
from scope_rlvr.methods.guided.ghpo import Ghpo
from tests.doubles import PROMPT_IDS, ScriptedPolicy, ScriptedTeacher, credited, group, plain, sampled, toolbox

TRACE = "step by step\n\nanswer 7|"  # 23 tokens: hints of 5, 11 and 17
WRONG, RIGHT = "answer 1|", "answer 7|"


def edited(*texts: str, policy: ScriptedPolicy, trace: str = TRACE, method: Ghpo | None = None, **parts) -> Group:
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([trace]), **parts)
    return (method or Ghpo()).edit_groups([group(*texts)], tools)[0]


def test_the_smallest_hint_that_helps_stays_in_the_prompt():
    policy = ScriptedPolicy([WRONG, WRONG, WRONG, RIGHT])
    before = group("a|", "b|")
    after = edited("a|", "b|", policy=policy)
    hinted = (*PROMPT_IDS, *sampled("step by ste"))
    assert policy.prefixes == [(*PROMPT_IDS, *sampled("step "))] * 2 + [hinted] * 2
    assert set(policy.budgets) == {200}
    assert [m.rollout.prompt_ids for m in after.members] == [hinted] * 2
    assert [m.rollout.token_ids for m in after.members] == [sampled(WRONG), sampled(RIGHT)]
    assert {origin for m in after.members for origin in m.rollout.origin_T} == {Origin.POLICY}
    assert {m.role for m in after.members} == {Role.GUIDED}
    assert after.replaced == before.members == after.sampled
    assert after.prompt_ids == PROMPT_IDS
    streams = credited(Ghpo(), [after])[0]
    assert [s.advantage_T for s in streams] == [(-0.5,) * 9, (0.5,) * 9]
    assert all(set(s.weight_T) == {1.0} for s in streams)


def test_advantages_are_divided_by_the_deviation():
    after = edited("a|", "b|", policy=ScriptedPolicy([WRONG, RIGHT]))
    assert Ghpo().normalisation is Normalisation.GROUP_STD
    streams = Ghpo().credit([after], [[0.0, 1.0]], Normalisation.GROUP_STD)[0]
    assert streams[1].advantage_T[0] == pytest.approx(0.5 / (0.5**0.5 + STD_FLOOR))


def test_where_no_hint_helps_the_group_stays():
    policy = ScriptedPolicy([WRONG, "answer ?|"])
    assert edited("a|", "b|", policy=policy) == group("a|", "b|")
    assert [len(prefix) - 2 for prefix in policy.prefixes] == [5, 5, 11, 11, 17, 17]


@pytest.mark.parametrize("texts", [(RIGHT, "a|"), (RIGHT, RIGHT), ("answer ?|",)])
def test_other_groups_cost_nothing(texts):
    policy = ScriptedPolicy([RIGHT])
    assert edited(*texts, policy=policy) == group(*texts)
    assert policy.num_calls == 0


@pytest.mark.parametrize("trace", [WRONG, "answer 7", "answer ?|"])
def test_without_a_verified_trace_there_is_no_hint(trace):
    policy = ScriptedPolicy([RIGHT])
    assert edited("a|", policy=policy, trace=trace) == group("a|")
    assert policy.num_calls == 0


def test_groups_are_tried_together_and_keep_their_order():
    policy = ScriptedPolicy([WRONG, RIGHT, RIGHT])
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([TRACE]))
    after = Ghpo().edit_groups([group("a|"), group(RIGHT), group("b|")], tools)
    assert policy.num_calls == 2
    assert [len(g.members[0].rollout.prompt_ids) for g in after] == [2 + 11, 2, 2 + 5]
    assert tools.tokens == {"teacher": 46, "continuation": 27}


def test_another_template_is_read_as_text():
    policy, seen = ScriptedPolicy([RIGHT]), []

    def read(problem, text):
        seen.append(text)
        return (7, 8, 9)

    after = edited("a|", policy=policy, method=Ghpo(template="{prompt} Hint: {hint}\n"), prompt_reader=read)
    assert seen == ["Q Hint: step \n"]
    assert after.members[0].rollout.prompt_ids == (7, 8, 9)
    assert plain(after.members[0].rollout) == RIGHT


@pytest.mark.parametrize(
    "settings",
    [
        {"hint_shares": [0.5, 0.5]},
        {"hint_shares": [0.0]},
        {"hint_shares": [1.0]},
        {"hint_shares": []},
        {"template": "{prompt}"},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValidationError):
        Ghpo(**settings)
