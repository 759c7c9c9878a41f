"""A term that holds the policy's own tokens to a teacher's trace of the same problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.losses import Tokens
from scope_rlvr.formulas.readings import LogProb
from scope_rlvr.methods.guided.traces import teacher_traces
from scope_rlvr.methods.parts.base import Need, Status, Term

if TYPE_CHECKING:
    from torch import Tensor


class ExpertCalibration(Term):
    """Right rollouts are to become likelier than the expert's trace is to the policy, wrong ones less likely.

    ``|Â| · LeakyReLU_slope(−s · (log π(y_t) − log π_old(e_t)))`` on each of the policy's tokens, with ``e`` a verified trace of the teacher,
    compared place by place as far as it goes, ``s = 1`` for a right rollout and ``−1`` for a wrong one. Where the rollout is on the
    wrong side of the expert it pulls with all its advantage, on the other side with ``slope`` of it. Source: CalibRL, and its
    released code, github.com/zhh6425/CalibRL at 0efd799: ``core_algos`` 290-305. There a rollout is compared with
    log-probability 0 beyond the trace's end; here it is left alone.

    >>> tokens = example(logp=-2.0, expert=-1.0, sign=1.0)
    >>> ExpertCalibration().loss(tokens), ExpertCalibration().loss(example(logp=-2.0, expert=-1.0, sign=-1.0))
    (tensor([[0.5000]]), tensor([[-0.2500]]))
    """

    title: ClassVar[str] = "CalibRL term"
    source: ClassVar[str] = "arXiv 2602.20197"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the policy's tokens are held to how likely it finds a teacher's trace"
    formula: ClassVar[str] = "`+ λ·mean(|Â|·LeakyReLU(−s·(log π(y_t) − log π_old(e_t))))`"
    departures: ClassVar[str] = "nothing beyond the end of the trace"
    carries = ("expert_logprob", "expert_sign")

    kind: Literal["expert_calibration"] = "expert_calibration"
    slope: float = Field(
        0.5, ge=0, le=1, description="pull on the right side of the expert, as a share of that on the wrong one"
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.TEACHER})

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        traces = teacher_traces(groups, tools, self.kind)
        found = [trace.rollout for trace in traces if trace is not None]
        read = iter(tools.read("policy", [(r.prompt_ids, r.token_ids) for r in found], [LogProb()]))
        prepared = []
        for group, trace in zip(groups, traces, strict=True):
            expert_T = [] if trace is None else [float(logprob) for logprob in next(read)[LogProb().name]]
            prepared.append(replace(group, members=tuple(_compared(m, expert_T) for m in group.members)))
        return prepared

    def loss(self, tokens: Tokens) -> Tensor:
        sign_BT = tokens.extras["expert_sign"].where(~tokens.is_teacher_BT & (tokens.weight_BT > 0), 0.0)
        behind_BT = -sign_BT * (tokens.logp_BT - tokens.extras["expert_logprob"])
        return tokens.advantage_BT.abs() * torch.nn.functional.leaky_relu(behind_BT, self.slope)


def _compared(member: Member, expert_T: Sequence[float]) -> Member:
    """The member with the expert's log-probabilities beside its tokens, and its sign as far as they go."""
    num_tokens = len(member.rollout)
    length = min(num_tokens, len(expert_T)) if member.verdict.is_known else 0
    sign, rest = (1.0 if member.verdict.is_right else -1.0), [0.0] * (num_tokens - length)
    return member.having(expert_logprob=(*expert_T[:length], *rest), expert_sign=(*[sign] * length, *rest))


def example(logp: float, expert: float, sign: float, advantage: float = 0.5) -> Tokens:
    """One token of the policy beside one of an expert, for examples and tests."""
    one = torch.ones(1, 1)
    extras = {"expert_logprob": expert * one, "expert_sign": sign * one}
    return Tokens(logp * one, logp * one, advantage * one, one < 0, 0 * one, one, 0 * one, extras)
