"""CHORD: two means in one loss, a share that follows the step, and what is left without traces."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip, Tokens, aggregate, example_tokens
from scope_rlvr.methods import Chord, Grpo
from tests.doubles import PROBLEM, ScriptedPolicy, ScriptedTeacher, toolbox
from tests.unit.methods.crediting import pays

TRACE = "so\n\nanswer 7|"


def credited(method: Chord, *texts: str, trace: str = TRACE, step: int = 1):
    tools = toolbox(policy=ScriptedPolicy(texts), teacher=ScriptedTeacher([trace]), step=step)
    groups = method.sample([Group(PROBLEM, (), prompt_ids=(1, 2))], len(texts) + 1, tools)
    groups = method.prepare(method.edit_groups(groups, tools), tools)
    return groups[0], method.credit(groups, pays(groups), Normalisation.NONE)[0]


def test_the_loss_is_the_mean_of_each_kind_of_tokens():
    # 4 + 9 tokens of the policy, Â = ∓½; 13 of the trace.
    group, streams = credited(Chord(mu_peak=0.2, mu_valley=0.2), "abc|", "answer 7|")
    assert [m.role for m in group.members] == [Role.SAMPLED, Role.SAMPLED, Role.GUIDED]
    width = max(len(s.weight_T) for s in streams)
    rows = [[*s.advantage_T, *[0.0] * (width - len(s.weight_T))] for s in streams]
    weights = [[*s.weight_T, *[0.0] * (width - len(s.weight_T))] for s in streams]
    teacher = [[o is Origin.TEACHER for o in s.origin_T] + [False] * (width - len(s.weight_T)) for s in streams]
    logp_BT = torch.full((3, width), math.log(0.5))
    tokens = Tokens(
        logp_BT, logp_BT, torch.tensor(rows), torch.tensor(teacher), torch.zeros(3, width), torch.tensor(weights),
        torch.zeros(3, width),
    )  # fmt: skip
    loss = aggregate(
        Chord().token_loss(tokens, Clip()), tokens.weight_BT, Aggregation.TOKEN_MEAN,
        num_rows=torch.tensor(3.0), num_tokens=tokens.weight_BT.sum(), max_length=99,
    )  # fmt: skip
    grpo = (0.5 * 4 - 0.5 * 9) / 13
    imitation = 0.25 * math.log(2)
    assert loss.item() == pytest.approx(0.8 * grpo + 0.2 * imitation)


def test_a_trace_is_in_no_baseline():
    _, (wrong, trace) = credited(Chord(mu_peak=0.5, mu_valley=0.5), "abc|")
    assert set(wrong.advantage_T) == {0.0}
    assert set(trace.advantage_T) == {0.5 * (4 + 13) / 13}


def test_without_a_trace_it_is_grpo_times_what_imitation_leaves():
    _, streams = credited(Chord(mu_peak=0.25, mu_valley=0.25), "abc|", "answer 7|", trace="answer 1|")
    _, plain = credited(Chord(mu_peak=0.0, mu_valley=0.0), "abc|", "answer 7|", trace="answer 1|")
    assert [s.advantage_T[0] for s in plain] == [-0.5, 0.5]
    assert [s.advantage_T[0] for s in streams] == [-0.375, 0.375]


def test_an_unknown_verdict_counts_nowhere():
    _, (unknown, right, _) = credited(Chord(), "answer ?|", "answer 7|")
    assert not any(unknown.weight_T)
    assert not any(right.advantage_T)


def test_a_share_of_zero_imitates_nothing_and_is_grpo():
    group, streams = credited(Chord(mu_peak=0.0, mu_valley=0.0), "abc|", "answer 7|")
    own = [s for s in streams if Origin.TEACHER not in s.origin_T]
    grpo = Grpo().credit([Group(PROBLEM, group.members[:2])], [[0.0, 1.0]], Normalisation.NONE)[0]
    factor = (13 + 13) / 13  # the trace still counts in the mean that the loss divides by
    assert [s.advantage_T[0] for s in own] == pytest.approx([factor * s.advantage_T[0] for s in grpo])
    assert not any(streams[2].advantage_T)


@given(st.integers(1, 300), st.integers(0, 50), st.integers(0, 200))
def test_the_share_stays_between_its_ends(step: int, warmup: int, decay: int):
    mu = Chord(mu_peak=0.9, mu_valley=0.05, mu_warmup=warmup, mu_decay=decay).mu(step)
    assert 0 <= mu <= 0.9
    assert step <= warmup + decay or mu == 0.05


def test_undecided_tokens_pull_most():
    term = Chord().teacher_term
    pulls = []
    for prob in (0.01, 0.5, 0.99):
        tokens = example_tokens(prob)
        tokens.logp_BT.requires_grad_()
        term.loss(tokens, Clip()).sum().backward()
        pulls.append(-tokens.logp_BT.grad.item())
    assert pulls == pytest.approx([0.0099, 0.25, 0.0099])
