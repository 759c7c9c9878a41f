"""ARG: where a reference is cut, what joins the group, and what the selector learns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.methods import Arg
from tests.doubles import PROMPT_IDS, ScriptedPolicy, ScriptedTeacher, credited, group, plain, toolbox
from tests.unit.methods.scoring import Reader

TRACE = "one\n\ntwo\n\nthree\n\nanswer 7|"  # 5, 5, 7 and 9 tokens
WRONG = "answer 1|"


def edited(*texts: str, script: list[str], levels=(0.5,), memory: dict | None = None, **settings) -> tuple[Group, dict]:
    memory = {} if memory is None else memory
    reader = Reader({"logprob": lambda prompt, char: -1.0})
    tools = toolbox(
        policy=ScriptedPolicy(script), teacher=ScriptedTeacher([TRACE]), readers={"policy": reader}, memory=memory
    )
    return Arg(levels=levels, **settings).edit_groups([group(*texts)], tools)[0], memory


def test_the_reference_is_cut_where_half_of_its_surprisal_is_left():
    # Left after the step ends 5, 10 and 17 of 26 tokens: 21, 16 and 9 twenty-sixths; nearest to ½ is 16.
    after, _ = edited("a|", "b|", script=["answer 7|", WRONG], max_insertions=2)
    (newcomer,) = [m for m in after.members if m.role is Role.GUIDED]
    assert plain(newcomer.rollout) == "one\n\ntwo\n\nanswer 7|"
    assert newcomer.rollout.origin_T == (Origin.TEACHER,) * 10 + (Origin.POLICY,) * 9
    assert len(after.members) == 2
    (streams,) = [s for s in credited(Arg(), [after])[0] if Origin.TEACHER in s.origin_T]
    assert set(streams.advantage_T) == {0.5}
    assert set(streams.weight_T) == {1.0}


def test_the_reference_s_own_rest_is_no_success():
    rest = "three\n\nanswer 7|"
    after, memory = edited("a|", script=[rest], max_insertions=1)
    assert after == group("a|")
    assert memory["arg"]["mean"] == 0.0


class HelpedByLongPrefixes(ScriptedPolicy):
    """Fails after one step of the reference, and succeeds in words of its own after three."""

    def extend(self, prefixes, sampling, *, max_tokens, seed):
        self.script = ["so\n\nanswer 7|" if len(p) > len(PROMPT_IDS) + 10 else WRONG for p in prefixes]
        self.prefixes = []
        return super().extend(prefixes, sampling, max_tokens=max_tokens, seed=seed)


def test_the_selector_learns_which_level_pays():
    memory: dict = {}
    for seed in range(30):
        reader = Reader({"logprob": lambda prompt, char: -1.0})
        tools = toolbox(
            policy=HelpedByLongPrefixes(), teacher=ScriptedTeacher([TRACE]), readers={"policy": reader},
            memory=memory, seed=seed,
        )  # fmt: skip
        Arg(levels=(0.8, 0.35)).edit_groups([group("a|", "b|")], tools)
    early, late = memory["arg"]["logits"]
    assert late > early + 0.5
    assert memory["arg"]["mean"] == pytest.approx(9 / 26, abs=0.1)


def test_one_update_of_the_selector_by_hand():
    # p = (½, ½), reward 16/26, mean 0: the drawn logit rises by ½ · 16/26 · ½, the other falls by as much.
    _, memory = edited("a|", script=["answer 7|"], levels=(0.6, 0.6), max_insertions=1)
    change = 0.5 * 16 / 26 * 0.5
    assert sorted(memory["arg"]["logits"]) == pytest.approx([-change, change])
    assert memory["arg"]["mean"] == pytest.approx(0.1 * 16 / 26)


@pytest.mark.parametrize("texts", [("answer 7|", "a|"), ("answer ?|",)])
def test_other_groups_cost_nothing(texts):
    after, memory = edited(*texts, script=["answer 7|"])
    assert after == group(*texts)
    assert memory == {}


def test_without_insertions_nothing_is_asked():
    after, memory = edited("a|", script=["answer 7|"], max_insertions=0)
    assert (after, memory) == (group("a|"), {})


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=6))
def test_the_selector_s_probabilities_sum_to_one(logits: list[float]):
    assert sum(Arg().probabilities(logits)) == pytest.approx(1.0)


def test_a_trace_of_one_step_has_no_anchor():
    reader = Reader({"logprob": lambda prompt, char: -1.0})
    tools = toolbox(teacher=ScriptedTeacher(["answer 7|"]), readers={"policy": reader})
    assert Arg().edit_groups([group("a|")], tools) == [group("a|")]
