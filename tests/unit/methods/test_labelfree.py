"""Rewards without labels: votes, and how likely a response makes the reference."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group
from scope_rlvr.core.types import Problem
from scope_rlvr.methods import Grpo, Rlp, Rlpr, ScopeTtrl, Ttrl
from scope_rlvr.methods.parts.answer_likelihood import AnswerProbability, InformationGain, around_answer
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.methods.parts.labels import SubgroupVote, elected
from scope_rlvr.methods.step import edit_groups
from tests.doubles import group, toolbox
from tests.unit.methods.crediting import credited, is_silent
from tests.unit.methods.scoring import Reader, reading_toolbox


def paid(method, *texts: str, tools=None) -> list[float | None]:
    return [m.verdict.pay for m in credited(method, *texts, tools=tools)[0].members]


# --- votes ------------------------------------------------------------------------------------------------------------


def test_the_majority_s_answer_is_paid_whatever_the_reference():
    texts = ["answer 7|", "answer 3|", "answer 3|", "nothing|", "answer ?|"]
    assert paid(Ttrl(), *texts) == [0.0, 1.0, 1.0, 0.0, None]
    found, streams = credited(Ttrl(), *texts)
    assert [m.verdict.is_right for m in found.members] == [True, False, False, False, False]
    assert [s.advantage_T[0] for s in streams] == [-0.5, 0.5, 0.5, -0.5, 0.0]


def test_an_unknown_verdict_has_no_voice():
    assert paid(Ttrl(), "answer ?|", "answer ?|", "answer 7|") == [None, None, 1.0]


@pytest.mark.parametrize("texts", [("nothing|", "else|"), ("answer ?|",), ("answer 7|", "answer 7|")])
def test_where_the_vote_tells_nobody_apart_nothing_is_learned(texts):
    assert not any(a for s in credited(Ttrl(), *texts)[1] for a in s.advantage_T)


@given(st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), st.floats(0.1, 5)), max_size=8))
def test_the_elected_answer_has_the_most_voices(ballots):
    label = elected(ballots)
    counts = {a: sum(v for b, v in ballots if b == a) for a, _ in ballots if a is not None}
    assert label is None if not counts else counts[label] == pytest.approx(max(counts.values()))


class Confident:
    """Sees the top two tokens at -0.1 and -9 before an X, and at -0.7 each elsewhere."""

    def read(self, prompts, responses, reducers, temperature):
        def top(token: int) -> list[list[float]]:
            return [[-0.1, -9.0] if token % (1 << 21) == ord("X") else [-0.7, -0.7], [1.0, 2.0]]

        return [{r.name: torch.tensor([top(t) for t in ids]) for r in reducers} for ids in responses]


def test_one_sure_rollout_outvotes_two_unsure_ones():
    tools = toolbox(readers={"policy": Confident()})
    part = SubgroupVote(k=2)
    ballots = [
        part._ballot(m, tools)
        for m in credited(Grpo(parts=[part]), "X\n\nanswer 7|", "answer 3|", "answer 3|", tools=tools)[0].members
    ]
    # Steps "X\n\n" of (4.55 + 0.7 + 0.7)/3 and "answer 7|" of 0.7, meant; and 0.7 for each of the others.
    assert ballots[0] == ("7", pytest.approx(((4.55 + 1.4) / 3 + 0.7) / 2))
    assert ballots[1] == ("3", pytest.approx(0.7))
    assert elected(ballots) == "3"
    assert elected(ballots[:2]) == "7"


def test_parts_of_one_give_labels_of_their_own_and_the_whole_group_one():
    ballots = [("7", 1.0), ("3", 1.0), ("7", 1.0), ("3", 1.0)]
    tools = toolbox()
    whole = SubgroupVote().labels(ballots, 4, tools, "chosen", 0)
    alone = SubgroupVote().labels(ballots, 1, tools, "chosen", 0)
    assert len(set(whole)) == 1
    assert len(whole) == len(alone) == 4
    assert len(SubgroupVote().labels(ballots[:3], 2, tools)) == 3
    assert whole == SubgroupVote().labels(ballots, 4, tools, "chosen", 0)


def test_a_dominated_size_is_never_chosen():
    assert SubgroupVote(balance=1.0).nearest_to_ideal({1: (0.2, 4.0), 2: (0.1, 3.0), 4: (0.9, 1.0)}) == 4
    assert SubgroupVote(balance=0.0).nearest_to_ideal({1: (0.2, 4.0), 2: (0.1, 3.0), 4: (0.9, 1.0)}) == 1


def test_scope_ttrl_pays_zero_or_one_and_leaves_unknown_alone():
    pays = paid(
        ScopeTtrl(k=2), "answer 7|", "answer 3|", "answer ?|", "no|", tools=toolbox(readers={"policy": Confident()})
    )
    assert pays[2] is None
    assert set(pays[:2]) <= {0.0, 1.0}
    assert pays[3] == 0.0


# --- how likely the reference is --------------------------------------------------------------------------------------


def reference_reader() -> Reader:
    """Finds every character of a reference likely after the word "because", and unlikely without it."""
    return Reader({"logprob": lambda prompt, char: math.log(0.9 if "because" in prompt else 0.2)})


def test_reasoning_is_paid_by_what_it_adds_to_the_reference():
    policy = reference_reader()
    found, _ = credited(
        Rlpr(), "because\nanswer 3|", "so\nanswer 7|", "nothing|", tools=reading_toolbox(readers={"policy": policy})
    )
    assert [m.verdict.pay for m in found.members] == pytest.approx([0.7, 0.0, 0.0])
    assert [m.verdict.is_right for m in found.members] == [False, True, False]
    # The reference is where the answer was; alone it has the beginning of that line before it.
    assert [(shown[2:], text) for shown, text in policy.texts] == [
        ("because\nanswer", " 7"), ("so\nanswer", " 7"), ("answer", " 7"), ("answer", " 7"),
    ]  # fmt: skip


def test_without_an_answer_there_is_nothing_to_put_the_reference_in_place_of():
    for text in ("nothing|", "|", "answer|"):
        (member,) = group(text).members
        assert around_answer(member, toolbox()) is None


def test_a_loss_of_probability_is_no_negative_reward():
    assert AnswerProbability.gain([math.log(0.1)], [math.log(0.6)]) == 0.0


def test_information_is_measured_against_the_average_of_the_policies():
    policy = Reader({"logprob": lambda prompt, char: -0.25 if "because" in prompt else -2.0})
    average = Reader({"logprob": lambda prompt, char: -1.0})
    tools = reading_toolbox(readers={"policy": policy, "average": average})
    found, streams = credited(Rlp(), "because\nanswer 3|", "so\nanswer 7|", "nothing|", "answer ?|", tools=tools)
    # Two characters, a space and the 7: 2 · (−0.25 + 1) and 2 · (−2 + 1); without an answer the least of these.
    assert [m.verdict.pay for m in found.members] == [1.5, -2.0, -2.0, None]
    assert [s.advantage_T[0] for s in streams] == pytest.approx([3.5, -1.75, -1.75, 0.0])
    assert is_silent(streams[3:])
    assert Rlp().needs == {Need.AVERAGE}
    assert InformationGain().average_decay == 0.999


def deviating(method: Rlpr, step: int, memory: dict, *texts: str) -> list[bool]:
    tools = reading_toolbox(readers={"policy": reference_reader()}, step=step, memory=memory)
    return [not any(s.weight_T) for s in credited(method, *texts, tools=tools)[1]]


def test_groups_of_little_difference_are_dropped_once_the_usual_one_is_known():
    method, memory = Rlpr(filter_share=0.5, average_from=1, filter_from=2), {}
    varied, alike = ("because\nanswer 3|", "so\nanswer 7|"), ("so\nanswer 3|", "so\nanswer 7|")
    assert deviating(method, 1, memory, *alike) == [False, False]
    memory.clear()
    assert deviating(method, 1, memory, *varied) == [False, False]
    assert memory["rlpr"] == pytest.approx(0.35)
    assert deviating(method, 2, memory, *alike) == [True, True]
    assert memory["rlpr"] == pytest.approx(0.99 * 0.35)
    assert deviating(method, 3, memory, *varied) == [False, False]


def test_a_filter_of_zero_drops_nothing():
    method, memory = Rlpr(filter_share=0.0, average_from=1, filter_from=1), {"rlpr": 9.0}
    assert deviating(method, 5, memory, "so\nanswer 3|", "so\nanswer 7|") == [False, False]


def test_the_problem_itself_is_what_is_read():
    policy = reference_reader()
    (found,) = edit_groups(Rlpr(), [group("answer 7|", problem=Problem("p", "Q", "12"))], toolbox())
    assert isinstance(found, Group)
    text = AnswerProbability.reasoned(replace(found), found.members[0], toolbox(readers={"policy": policy}))
    assert text is not None
    assert "".join(map(chr, text[1])) == " 12"
