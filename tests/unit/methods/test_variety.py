"""Two scales of variety, flows of hidden states, and problems that the policy writes, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.types import Outcome
from scope_rlvr.methods import Grpo, Svs
from scope_rlvr.methods.heads import Head
from scope_rlvr.methods.parts.flow_reward import FlowReward, paid_tokens
from scope_rlvr.methods.parts.path_diversity import CoupledEntropy, distances
from tests.doubles import PROBLEM, PROMPT_IDS, CharCodec, ScriptedPolicy, credited, group, plain, toolbox

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"


def having(g: Group, name: str, *values: Any) -> Group:
    return replace(g, members=tuple(m.having(**{name: v}) for m, v in zip(g.members, values, strict=True)))


# --- DSDR -------------------------------------------------------------------------------------------------------------


def pays(g: Group) -> list[float | None]:
    return [m.verdict.pay for m in g.members]


def test_right_rollouts_are_paid_for_another_way_and_wrong_ones_are_not():
    one = group("1 + 6 = 7\nanswer 7|", "3 + 4 = 7\nanswer 7|", "1 + 6 = 7\nanswer 7|", WRONG, UNKNOWN)
    one = having(one, "path_hidden", (1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0), (5.0, 5.0))
    method = Grpo(parts=[{"kind": "path_diversity", "weight": 0.1, "cap": 0.07}])
    (found,) = method.prepare([one], toolbox())
    # Cosines to the others: 0 and 1, 0 and 0; the second alone has its formula.
    assert pays(found) == pytest.approx([1 + 0.1 * 0.25 / 2, 1.07, 1 + 0.1 * 0.25 / 2, 0.0, None])
    (alone,) = method.prepare([having(group(RIGHT, WRONG), "path_hidden", (1.0,), (1.0,))], toolbox())
    assert pays(alone) == [1.0, 0.0]


def test_entropy_is_kept_in_right_rollouts_whatever_their_length():
    one = having(group(RIGHT, "well\nanswer 7|", WRONG, UNKNOWN), "path_diversity", 0.0, 1.0, 9.0, 9.0)
    other = group(WRONG, WRONG)
    part = CoupledEntropy(temperature=0.5)
    streams_PG = credited(Grpo(parts=[part]), [one, other])
    share = math.exp(2) / (1 + math.exp(2))
    total = sum(w for streams_G in streams_PG for s in streams_G for w in s.weight_T)
    short, long, wrong, unknown = (s.extras["entropy_share"] for s in streams_PG[0])
    # A mean over the batch's tokens of what each token has is the mean over groups that was wanted.
    assert sum(short) / total == pytest.approx(1 - share)
    assert sum(long) / total == pytest.approx(share)
    assert not any((*wrong, *unknown))
    assert not any(any(s.extras["entropy_share"]) for s in streams_PG[1])


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), max_size=5))
def test_distances_lie_between_none_and_one(vectors):
    assert all(0 <= d <= 1 + 1e-9 for d in distances(vectors))
    assert len(distances(vectors)) == len(vectors)


# --- RLFR -------------------------------------------------------------------------------------------------------------


def flowing(g: Group, *states: torch.Tensor) -> Group:
    return having(g, "flow_states", *states)


def test_the_costs_of_a_response_run_back_from_where_they_arise():
    one = having(group(RIGHT, WRONG), "flow_cost", (0.0, 1.0, *[0.0] * 7), (*[0.0] * 7, 0.7, 0.6))
    method = Grpo(parts=[{"kind": "flow_reward", "weight": 0.1}])
    streams = credited(method, [one])[0]
    assert streams[0].advantage_T == pytest.approx([0.4, 0.4, *[0.5] * 7])
    assert streams[1].advantage_T == pytest.approx([*[-0.63] * 8, -0.56])
    free = Grpo(parts=[{"kind": "flow_reward", "weight": 0}])
    assert credited(free, [one]) == credited(Grpo(), [one])


def test_the_flow_only_learns_at_first_and_from_right_responses_alone():
    part = FlowReward(warmup=1, learning_rate=0.01)
    states = torch.sin(torch.arange(27.0)).reshape(9, 3)
    one, tools = flowing(group(RIGHT, WRONG), states, states.flip(0)), toolbox(step=1)
    (found,) = part.prepare([one], tools)
    assert not any("flow_cost" in m.extras or "flow_states" in m.extras for m in found.members)
    assert any(name.startswith("head/flow_reward") for name in tools.tensors)
    (paid,) = part.prepare([one], replace(tools, step=2))
    assert all(len(m.extras["flow_cost"]) == len(m.rollout) for m in paid.members)
    assert all(cost == 0 or 0.6 <= cost <= 1 for m in paid.members for cost in m.extras["flow_cost"])
    untouched = toolbox(step=1)
    part.prepare([flowing(group(WRONG, UNKNOWN), states, states)], untouched)
    assert untouched.tensors == {}


def test_a_flow_learns_where_states_go():
    tools = toolbox(step=1)
    now = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(256, 2, generator=torch.Generator().manual_seed(1))
    features, target = FlowReward._flow(now, now.flip(-1), noise, torch.full((256, 1), 0.8))
    errors = [Head.of(tools, "f", width=5, outputs=2).fit(features, target, learning_rate=0.02) for _ in range(150)]
    assert errors[-1] < 0.1 * errors[0]
    head = Head.of(tools, "f", width=5, outputs=2)
    assert head.all(features).shape == (256, 2)
    assert torch.equal(head.all(features)[:, 0], head(features))


@given(st.lists(st.floats(0, 9), max_size=9), st.floats(0, 1), st.integers(1, 9))
def test_few_tokens_are_paid_and_the_largest_among_them(deviations, least, num_tokens):
    paid = paid_tokens(deviations, least, num_tokens)
    assert len(paid) == len(deviations)
    assert sum(value > 0 for value in paid) <= num_tokens
    assert all(value == 0 or least <= value <= 1 for value in paid)
    if any(paid):
        assert paid[deviations.index(max(deviations))] == 1


# --- SvS --------------------------------------------------------------------------------------------------------------


class Codec(CharCodec):
    def encode_prompt(self, text: str) -> tuple[int, ...]:
        return self.encode(text)


def test_writers_of_variants_are_right_where_these_are_neither_hopeless_nor_given_away():
    script = [RIGHT, WRONG, "Q2|", "Q3|", RIGHT, WRONG, RIGHT, RIGHT]
    policy = ScriptedPolicy(script)
    tools = toolbox(policy=policy, codec=Codec(), step=4)
    bare = Group(PROBLEM, (), prompt_ids=PROMPT_IDS)
    own, writing, first, second = Svs(extra_rows=6).sample([bare], 2, tools)
    assert [m.verdict.is_right for m in own.members] == [True, False]
    assert [plain(m.rollout) for m in writing.members] == ["Q2|", "Q3|"]
    assert [m.verdict.outcome for m in writing.members] == [Outcome.RIGHT, Outcome.WRONG]
    assert "answer 7" in "".join(map(chr, writing.prompt_ids)), "the writer is shown a right solution"
    assert (first.problem.id, first.problem.prompt, first.problem.reference) == ("p/variant-4-0", "Q2", "7")
    assert first.prompt_ids == tuple(map(ord, "Q2"))
    assert [m.verdict.is_right for m in second.members] == [True, True]
    assert {m.role for g in (writing, first, second) for m in g.members} == {Role.GUIDED}
    streams = credited(Svs(), [own, writing, first, second])
    assert [s.advantage_T[0] for s in streams[1]] == [0.5, -0.5]
    assert [s.advantage_T[0] for s in streams[3]] == [0, 0]


def test_problems_outside_the_band_get_no_variants_and_unfinished_ones_are_not_posed():
    bare = Group(PROBLEM, (), prompt_ids=PROMPT_IDS)
    policy = ScriptedPolicy([RIGHT])
    assert len(Svs(extra_rows=6).sample([bare], 2, toolbox(policy=policy, codec=Codec()))) == 1
    policy = ScriptedPolicy([RIGHT, WRONG])
    assert len(Svs(extra_rows=5).sample([bare], 2, toolbox(policy=policy, codec=Codec()))) == 1, "there is no room"
    policy = ScriptedPolicy([RIGHT, WRONG, "never ends", "|"])
    _, writing = Svs(extra_rows=6).sample([bare], 2, toolbox(policy=policy, codec=Codec()))
    assert [m.verdict.reason for m in writing.members] == ["no variant"] * 2
    assert policy.num_calls == 2


def test_what_nobody_can_judge_makes_no_writer_wrong():
    policy = ScriptedPolicy([RIGHT, WRONG, "Q2|", "Q3|", UNKNOWN, UNKNOWN, WRONG, WRONG])
    bare = Group(PROBLEM, (), prompt_ids=PROMPT_IDS)
    _, writing, *_ = Svs(extra_rows=6).sample([bare], 2, toolbox(policy=policy, codec=Codec()))
    members: tuple[Member, ...] = writing.members
    assert [m.verdict.outcome for m in members] == [Outcome.UNKNOWN, Outcome.WRONG]
