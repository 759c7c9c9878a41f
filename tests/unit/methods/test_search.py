"""Rollouts that branch, are searched for, probed or pruned: where they come from, and what each stretch of them is worth."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.ports import Continuation
from scope_rlvr.core.types import Origin, Outcome, Rollout, Segment, Verdict
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods import Arrol, DeepSearch, Grpo, Latr, Pope, Rose
from scope_rlvr.methods.exploration.latr import edit_distance
from scope_rlvr.methods.parts.branch_values import branch_values
from scope_rlvr.methods.parts.potentials import StepPotential
from tests.doubles import (
    LOGPROB,
    PROBLEM,
    PROMPT_IDS,
    CharCodec,
    ScriptedPolicy,
    ScriptedTeacher,
    credited,
    group,
    plain,
    sampled,
    toolbox,
)

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"


def bare(problem_id: str = "p") -> Group:
    return Group(replace(PROBLEM, id=problem_id), (), prompt_ids=PROMPT_IDS)


@dataclass
class Table:
    """What a model says of each token: ``of`` gives the numbers of a whole response by a reducer's name."""

    of: dict[str, Any]

    def read(self, prompts, responses, reducers, temperature):
        return [{r.name: self.of[r.name](response) for r in reducers} for response in responses]


def texts(g: Group) -> list[str]:
    return [plain(m.rollout) for m in g.members]


# --- credit of branches -----------------------------------------------------------------------------------------------


def test_each_stretch_is_worth_what_it_adds():
    # Two of three begin alike and part at the second token; the mean of all is ½.
    found = branch_values([(1, 2, 3), (1, 4), (5,), (6,)], [1.0, 0.0, 0.25, None])
    mean = 1.25 / 3
    assert found[0] == pytest.approx([0.5 - mean, 0.5, 0.5])
    assert found[1] == pytest.approx([0.5 - mean, -0.5])
    assert found[2] == pytest.approx([0.25 - mean])
    assert found[3] == [0.0]
    # One that ends where another goes on is a stretch that both share.
    assert branch_values([(1,), (1, 2)], [0.0, 1.0]) == [[0.0], [0.0, 0.5]]


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=5), st.sampled_from([0.0, 0.5, 1.0])),
        min_size=1,
        max_size=6,
    )
)
def test_over_a_rollout_the_stretches_add_up_to_reward_minus_mean(drawn):
    responses, rewards = [tuple(ids) for ids, _ in drawn], [reward for _, reward in drawn]
    found = branch_values(responses, rewards)
    mean = sum(rewards) / len(rewards)
    for i, (ids, reward) in enumerate(drawn):
        through = [
            [j for j, other in enumerate(responses) if other[: t + 1] == responses[i][: t + 1]] for t in range(len(ids))
        ]
        total = sum(gain for t, gain in enumerate(found[i]) if t == 0 or through[t] != through[t - 1])
        expected = sum(rewards[j] for j in through[-1]) / len(through[-1])
        assert total == pytest.approx(expected - mean)
        assert reward == expected or len(through[-1]) > 1


def test_without_branches_it_is_grpo():
    one = group("a\nanswer 7|", "b\nanswer 3|", "c\nanswer ?|")
    for normalisation in Normalisation:
        rewards = [[m.verdict.pay for m in one.members]]
        own = Grpo(parts=["branch_values"]).credit([one], rewards, normalisation)[0]
        for s, expected in zip(own, Grpo().credit([one], rewards, normalisation)[0], strict=True):
            assert s.advantage_T == pytest.approx(expected.advantage_T)
            assert s.weight_T == expected.weight_T


# --- ROSE -------------------------------------------------------------------------------------------------------------


def test_a_rollout_branches_before_the_token_of_greatest_semantic_entropy():
    policy = ScriptedPolicy(["ab\nanswer 7|", "X\nanswer 3|", "Y\nanswer 3|"])
    scores = {"semantic_entropy": lambda ids: torch.tensor([float(chr(i % (1 << 21)) in "b7") for i in ids])}
    tools = toolbox(policy=policy, readers={"policy": Table(scores)})
    (found,) = Rose(root_share=0.0).sample([bare()], 3, tools)
    # "7" comes after "b" and has the same score; the later place of equal ones comes first, and each is used once.
    assert texts(found) == ["ab\nanswer 7|", "ab\nanswer X\nanswer 3|", "aY\nanswer 3|"]
    assert [m.role for m in found.members] == [Role.SAMPLED, Role.BRANCHED, Role.BRANCHED]
    assert [m.extras["branched_at"] for m in found.members] == [0.0, 10.0, 1.0]
    assert policy.prefixes[1] == (*PROMPT_IDS, *sampled("ab\nanswer "))
    (flat,) = Rose(root_share=1.0).sample([bare()], 2, toolbox(readers={"policy": Table(scores)}))
    assert [m.role for m in flat.members] == [Role.SAMPLED] * 2


# --- LATR -------------------------------------------------------------------------------------------------------------


def close_at(char: str, second: str, gap: float = 0.1):
    """A model for which ``second`` is nearly as likely as ``char`` wherever that was written, and which is sure elsewhere."""

    def top(ids):
        rows = []
        for token in ids:
            is_close = chr(token % (1 << 21)) == char
            high, low = (0.5, 0.5 - gap) if is_close else (0.9, 0.05)
            rows.append([[math.log(high), math.log(low)], [float(token), float(sampled(second)[0])]])
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, 2, 2)

    return {"policy": Table({"top_k": top})}


LOOKING = {"lookahead": 4, "tree_steps": 400, "searched_tokens": 8}


def test_a_branch_opens_at_a_close_second_and_lives_if_it_goes_another_way():
    policy = ScriptedPolicy(["abcd", "efgh", "xyz!", RIGHT, WRONG])
    tools = toolbox(policy=policy, readers=close_at("c", "C"), step=1)
    (found,) = Latr(**LOOKING).sample([bare()], 2, tools)
    assert texts(found) == ["abcdefgh" + RIGHT, "abCxyz!" + WRONG]
    assert [m.role for m in found.members] == [Role.SAMPLED, Role.BRANCHED]
    assert found.members[1].extras["branched_at"] == 2.0
    written = found.members[1].rollout.logprob_T
    assert written[:2] == (LOGPROB,) * 2
    assert written[2] == pytest.approx(math.log(0.4))
    assert set(found.members[1].rollout.origin_T) == {Origin.POLICY}


def test_a_branch_that_runs_alike_is_cut_and_its_place_is_filled():
    policy = ScriptedPolicy(["abcd", "efgh", "dehi", RIGHT, WRONG])
    tools = toolbox(policy=policy, readers=close_at("c", "C"), step=1)
    (found,) = Latr(least_distance=0.5, **LOOKING).sample([bare()], 2, tools)
    # "cdef" and "Cdeh" differ in two of four places, which is not less than half: it lives. With more asked for, it does not.
    assert texts(found)[1] == "abCdehi" + WRONG
    policy = ScriptedPolicy(["abcd", "efgh", "dehi", RIGHT, WRONG])
    tools = replace(tools, policy=policy)
    (found,) = Latr(least_distance=0.6, **LOOKING).sample([bare()], 2, tools)
    assert texts(found) == ["abcdefgh" + RIGHT, WRONG]


def test_no_second_token_no_branch_and_later_no_tree():
    tools = toolbox(policy=ScriptedPolicy([RIGHT, WRONG]), readers=close_at("c", "C"), step=1)
    (found,) = Latr(lookahead=40).sample([bare()], 2, tools)
    assert texts(found) == [RIGHT, WRONG]
    policy = ScriptedPolicy([RIGHT, WRONG])
    Latr(tree_steps=0).sample([bare()], 2, toolbox(policy=policy))
    assert policy.num_calls == 1, "all are sampled at once, and nobody reads anything"


@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), max_size=6))
def test_edit_distances_are_distances(one, other):
    distance = edit_distance(one, other)
    assert distance == edit_distance(other, one)
    assert abs(len(one) - len(other)) <= distance <= max(len(one), len(other))
    assert (distance == 0) == (one == other)


# --- DeepSearch -------------------------------------------------------------------------------------------------------


def test_a_search_grows_chunks_and_backs_up_what_it_finds():
    script = ["aa", "bb", "7|", "3|", "3|", "cc"]
    policy = ScriptedPolicy([*script, "3|", "3|"])

    class Verifier:
        def verify(self, attempts):
            return [Verdict(Outcome.RIGHT if "7" in text else Outcome.WRONG, text) for _, text in attempts]

    tools = toolbox(policy=policy, verifier=Verifier())
    (found,) = DeepSearch(width=2, chunk_tokens=2).sample([bare()], 2, tools)
    right, wrong = found.members
    assert plain(right.rollout) in ("aa7|", "bb7|")
    assert [right.verdict.is_right, wrong.verdict.is_right] == [True, False]
    # The search went on at the node beside the first one, the only one left to grow.
    assert {plain(right.rollout)[:2], plain(wrong.rollout)[:2]} == {"aa", "bb"}
    # Root has no tokens. The first chunk on the right way: one visit from its growth, one with 2/3 of a success.
    values = right.extras["node_values"]
    assert values == pytest.approx([1 / 3] * 2 + [1.0] * 2)
    assert wrong.extras["node_values"] == pytest.approx([-1 / 3] * 2 + [-1.0] * 2)
    streams = credited(DeepSearch(), [found])[0]
    assert streams[0].advantage_T == pytest.approx(values), "the mean of 1 and −1 is 0"


def test_responses_that_end_together_fill_the_group_where_nothing_can_grow():
    policy = ScriptedPolicy([WRONG, RIGHT, UNKNOWN])
    (found,) = DeepSearch(width=3).sample([bare()], 3, toolbox(policy=policy))
    assert texts(found) == [RIGHT, WRONG, UNKNOWN], "a right one counts first"
    assert policy.num_calls == 1
    streams = credited(DeepSearch(), [found])[0]
    assert [s.advantage_T[0] for s in streams] == pytest.approx([1.0, -1.0, 0.0])
    assert not any(streams[2].weight_T)
    (flat,) = DeepSearch(width=3).sample([bare()], 3, toolbox(policy=ScriptedPolicy([WRONG])))
    assert not any(any(s.advantage_T) for s in credited(DeepSearch(), [flat])[0])


def test_a_hard_problem_is_not_searched_again():
    method, tools = DeepSearch(width=2), toolbox(policy=ScriptedPolicy([WRONG]))
    method.learn([group(RIGHT, WRONG, WRONG, WRONG), group(RIGHT, WRONG, problem=replace(PROBLEM, id="easy"))], tools)
    tools = replace(tools, memory=json.loads(json.dumps(tools.memory)))
    (found,) = method.sample([bare()], 3, tools)
    assert texts(found) == [WRONG, WRONG, RIGHT]
    assert found.members[-1].role is Role.GUIDED
    streams = credited(method, [found])[0]
    assert [s.advantage_T[0] for s in streams] == pytest.approx([-1 / 3, -1 / 3, 2 / 3])


# --- SPAE -------------------------------------------------------------------------------------------------------------


@dataclass
class Probing(ScriptedPolicy):
    """Entropy of what it writes after the trigger: 0 after the first step, log 2 after others."""

    temperatures: list[float] = field(default_factory=list)

    def extend(self, prefixes, sampling, **how):
        self.temperatures.append(sampling.temperature)
        return super().extend(prefixes, sampling, **how)

    def entropies(self, prompts, responses, temperature):
        return [(0.0 if CharCodec().pieces(ids).count("\n") == 2 else math.log(2),) * len(ids) for ids in responses]


def test_steps_are_credited_by_what_they_do_to_the_potential():
    policy = Probing(["7"])
    probability = {"logprob": lambda ids: torch.full((len(ids),), math.log(0.5))}
    tools = toolbox(policy=policy, readers={"policy": Table(probability)})
    part = StepPotential(num_probes=2, alpha=0.0, xi=1.0)
    one = group("one\n\ntwo\n\nanswer 7|", WRONG)
    (found,) = part.prepare([one], tools)
    assert policy.temperatures == [0.6]
    assert len(policy.prefixes) == 4, "two probes after each step but the last"
    assert policy.prefixes[0] == (*PROMPT_IDS, *sampled("one\n\n"), *map(ord, "answer"))
    sure, unsure = StepPotential.potential(0.5, 1.0), StepPotential.potential(0.5, 0.5)
    ends, potentials = zip(*found.members[0].extras["potentials"], strict=True)
    assert (ends, potentials) == ((5, 10), pytest.approx((sure, unsure), abs=1e-6))
    assert found.members[1].extras["potentials"] == ()
    # ΔF: 0 and 0.125, scaled to 0 and 1; g = 1 and e, less their mean. The advantage of the outcome is ±½.
    half = (math.e - 1) / 2
    expected = [0.5 - half] * 5 + [0.5 + half] * 5 + [0.5] * 9
    raw = [*expected, *[-0.5] * 9]
    mean = sum(raw) / len(raw)
    deviation = (sum((a - mean) ** 2 for a in raw) / len(raw)) ** 0.5
    streams = credited(Grpo(parts=[part]), [found])[0]
    assert streams[0].advantage_T == pytest.approx([(a - mean) / deviation for a in expected])


def test_earlier_sure_steps_leave_less_to_gain():
    part = StepPotential(alpha=0.5, xi=0.0)
    one = group("one\n\ntwo\n\nanswer 7|", WRONG)
    members = (one.members[0].having(potentials=((5, 0.95), (10, 0.2))), one.members[1].having(potentials=()))
    streams = credited(Grpo(), [replace(one, members=members)])[0]
    left = 1 - 0.5 * (1 - math.exp(-1))
    found = part._credited(members[0], streams[0], [0.0, 0.0])
    assert found == pytest.approx([0.5] * 5 + [0.5 * left] * 14)


# --- ARRoL ------------------------------------------------------------------------------------------------------------


@dataclass
class Halting(ScriptedPolicy):
    """Goes on with what its script says after what was written."""

    def extend(self, prefixes, sampling, *, max_tokens, seed):
        found = []
        for prefix, budget in zip(prefixes, max_tokens, strict=True):
            self.num_calls += 1
            said = prefix[len(PROMPT_IDS) :]
            rest = next(sampled(t)[len(said) :] for t in self.script if sampled(t)[: len(said)] == said)
            if not said:
                rest = sampled(self.script[(self.num_calls - 1) % len(self.script)])
            ids = rest[:budget]
            found.append(Continuation(ids, (LOGPROB,) * len(ids), finished=ids[-1:] == (0,)))
        return found


SCRIPT = ["aa\nanswer 7|", "bb\nanswer 3|", "cc\nanswer 3|", "3|"]


def arrol_tools(**changes: Any) -> Any:
    first = {"mean_hidden": lambda ids: torch.tensor([float(chr(ids[0] % (1 << 21)) == "a"), 1.0])}
    return toolbox(policy=Halting(SCRIPT), readers={"policy": Table(first)}, **changes)


def test_the_extremes_survive_and_what_has_ended_stays():
    method, tools = Arrol(detection_tokens=2, warmup=1, updates=200, learning_rate=0.05), arrol_tools(step=1)
    (whole,) = method.sample([bare()], 4, tools)
    assert texts(whole) == SCRIPT
    assert {name.split("/")[0] for name in tools.tensors} == {"head", "head_optimizer"}
    later = replace(arrol_tools(step=2), tensors=tools.tensors)
    (pruned,) = method.sample([bare()], 4, later)
    assert texts(pruned) == ["aa\nanswer 7|", "3|"], (
        "of three that go on, the likeliest to succeed has the one place left"
    )
    again = replace(arrol_tools(step=2), tensors=tools.tensors)
    (more,) = Arrol(detection_tokens=2, warmup=1, kept_share=0.75).sample([bare()], 4, again)
    assert texts(more) == ["aa\nanswer 7|", "cc\nanswer 3|", "3|"]


@given(st.lists(st.floats(0, 1), max_size=8), st.integers(0, 8))
def test_survivors_are_as_many_as_wanted_and_hold_the_extremes(success, num_kept):
    kept = Arrol.survivors(success, num_kept)
    assert kept == sorted(set(kept))
    assert len(kept) == min(num_kept, len(success))
    if len(kept) > 1:
        values = [success[i] for i in kept]
        assert (min(values), max(values)) == (min(success), max(success))


# --- POPE -------------------------------------------------------------------------------------------------------------


def test_half_of_a_hopeless_group_is_guided_by_the_shortest_prefix_that_helps():
    script = [WRONG, WRONG, RIGHT, WRONG]
    tools = toolbox(policy=ScriptedPolicy(script), teacher=ScriptedTeacher(["12345678\nanswer 7|"]))
    hopeless, mixed = group(*[WRONG] * 4), group(RIGHT, WRONG)
    unguided, guided, other = Pope().edit_groups([hopeless, mixed], tools)
    assert other == mixed
    assert (len(unguided.members), len(unguided.replaced)) == (2, 2)
    assert texts(guided) == [RIGHT, WRONG]
    prefix = sampled("12345678\nanswer 7|")[:9]
    assert guided.prompt_ids == (*PROMPT_IDS, *prefix), "a quarter did not help, half did"
    assert all(m.rollout.prompt_ids == guided.prompt_ids for m in guided.members)
    streams = credited(Pope(), [unguided, guided])
    assert [s.advantage_T[0] for s in streams[1]] == [0.5, -0.5]
    assert not any(any(s.advantage_T) for s in streams[0])


def test_where_no_prefix_helps_the_group_stays_as_it_is():
    tools = toolbox(policy=ScriptedPolicy([WRONG]), teacher=ScriptedTeacher(["12345678\nanswer 7|"]))
    hopeless, alone = group(WRONG, WRONG), group(WRONG)
    assert Pope().edit_groups([hopeless, alone], tools) == [hopeless, alone]
    assert Pope().edit_groups([], tools) == []


def test_rollouts_without_tokens_cost_nothing():
    nothing = Member(Rollout(PROMPT_IDS, (), is_truncated=True), Verdict(Outcome.WRONG))
    one = Member(Rollout(PROMPT_IDS, (Segment(sampled("7|"), Origin.POLICY, (LOGPROB,) * 2),)), Verdict(Outcome.RIGHT))
    for part in ("branch_values", "sibling_advantage", "step_potential"):
        streams = credited(Grpo(parts=[part]), [Group(PROBLEM, (nothing, one), prompt_ids=PROMPT_IDS)])[0]
        assert all(math.isfinite(a) for s in streams for a in s.advantage_T)
