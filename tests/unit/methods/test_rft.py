"""RFT: which rollouts are imitated."""

from __future__ import annotations

import pytest
import torch

from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.methods.outcome.rft import Rft
from tests.doubles import credited, group


def test_each_distinct_success_counts_once_and_nothing_else_counts():
    streams = credited(Rft(), [group("x\n\nanswer 7|", "answer 7|", "answer 7|", "a|", "answer ?|", "cut")])[0]
    assert [(set(s.advantage_T), set(s.weight_T)) for s in streams] == [({1.0}, {1.0})] * 2 + [({0.0}, {0.0})] * 4


def test_an_all_wrong_group_teaches_nothing():
    assert not any(any(s.weight_T) for s in credited(Rft(), [group("a|", "b|")])[0])


def test_the_loss_is_minus_log_pi_without_a_clip():
    logp_BT = torch.log(torch.tensor([[0.5]]))
    tokens = Tokens(logp_BT, logp_BT - 3.0, torch.ones(1, 1), torch.tensor([[False]]), *torch.zeros(3, 1, 1))
    assert Rft().token_loss(tokens, Clip()).item() == pytest.approx(0.6931, abs=1e-4)
