"""Rewards that look at a whole group, or at what was sampled for its problem before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, linear_regression
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Reward, Status
from scope_rlvr.methods.reading import Reading


class Unlikeliness(Reward):
    """Right rollouts that the policy found likely are paid less, so that rare ones win the comparison.

    ``r_i ← r_i · (1 − weight · rank_i / G)``: ``rank_i`` is 0 for the rollout with the lowest mean log-probability under the
    policy that sampled, counted among the G rollouts with a known verdict. Where all of these are right, or all wrong, rewards
    stay equal: the release leaves such groups out before it ranks. Source: He et al. 2025, "Rewarding the Unlikely", and its
    released code, github.com/AndreHe02/rewarding-unlikely-release at 3e26ddd: ``verl/trainer/ppo/ray_lean_trainer.py``.

    >>> shares = ranks([-0.1, -2.0, -0.5])
    >>> shares, [round(1 - 0.25 * rank / 3, 4) for rank in shares]
    ([2, 0, 1], [0.8333, 1.0, 0.9167])
    """

    title: ClassVar[str] = "Unlikeliness reward"
    source: ClassVar[str] = "arXiv 2506.02355"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "likely right rollouts are paid less than rare ones"
    formula: ClassVar[str] = "`r·(1 − ¼·rank/G)`, rank 0 for the least likely"

    kind: Literal["unlikeliness"] = "unlikeliness"
    weight: float = Field(0.25, ge=0, le=1, description="what the likeliest rollout of a large group loses")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("policy_logprob"),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [self._ranked(group) for group in groups]

    @staticmethod
    def _ranked(group: Group) -> Group:
        known = [i for i, member in enumerate(group.members) if member.verdict.is_known]
        if len({group.members[i].verdict.is_right for i in known}) < 2:
            return group
        likely = [fmean(group.members[i].extras.get("policy_logprob") or [0.0]) for i in known]
        share_of = {i: rank / len(known) for i, rank in zip(known, ranks(likely), strict=True)}
        return replace(
            group,
            members=tuple(m.having(rank_share=share_of.get(i, 0.0)) for i, m in enumerate(group.members)),
        )

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        return member.verdict.pay * (1 - self.weight * member.extras.get("rank_share", 0.0))


def ranks(values: Sequence[float]) -> list[int]:
    """The place of each value in ascending order, from 0; of equal ones the first comes first."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    return [place for _, place in sorted(zip(order, range(len(order)), strict=True))]


class LengthRank(Reward):
    """A small nudge by length: short right rollouts are paid a little more, short wrong ones a little less.

    Among the right rollouts of a group with both, and among its wrong ones, ``r ← r ± spread·(rank − mean rank)/(n − 1)``, with ranks by the
    number of tokens and ties at their mean rank; minus for right ones. The nudges of each class add up to 0 and lie between
    ``−spread/2`` and ``spread/2``. Source: AgentCPM-Explore, released code, github.com/OpenBMB/AgentCPM at 844c007:
    ``AgentRL/src/rollout/mcp/_rewarding.py`` 148-245, where ranks are by turns.

    >>> [round(nudge, 2) for nudge in rank_nudges([30, 10, 20], 0.2)], rank_nudges([7, 7], 0.2)
    ([0.1, -0.1, 0.0], [0.0, 0.0])
    """

    title: ClassVar[str] = "AgentCPM length rank"
    source: ClassVar[str] = "arXiv 2602.06485"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a small reward for short successes and for long failures"
    formula: ClassVar[str] = "`r ∓ 0.2·(rank − mean rank)/(n − 1)` among right and among wrong rollouts"
    departures: ClassVar[str] = "tokens in the place of turns"

    kind: Literal["length_rank"] = "length_rank"
    spread: float = Field(0.2, ge=0, description="difference that length makes from one end of a class to the other")

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [self._nudged(group) for group in groups]

    def _nudged(self, group: Group) -> Group:
        if len({member.verdict.is_right for member in group.members if member.verdict.is_known}) < 2:
            return group
        nudges: dict[int, float] = {}
        for is_right, sign in ((True, -1.0), (False, 1.0)):
            places = [i for i, m in enumerate(group.members) if m.verdict.is_known and m.verdict.is_right is is_right]
            found = rank_nudges([len(group.members[i].rollout) for i in places], self.spread)
            nudges |= {i: sign * nudge for i, nudge in zip(places, found, strict=True)}
        return replace(
            group, members=tuple(m.having(length_nudge=nudges.get(i, 0.0)) for i, m in enumerate(group.members))
        )

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        nudge: float = member.extras.get("length_nudge", 0.0)
        return member.verdict.pay + nudge


def rank_nudges(values: Sequence[float], spread: float) -> list[float]:
    """``spread·(rank − mean rank)/(n − 1)`` for each value, equal ones at the mean of their ranks; 0 for a single one."""
    if len(values) < 2:
        return [0.0] * len(values)
    in_order = sorted(values)
    rank_of = {v: in_order.index(v) + (in_order.count(v) - 1) / 2 for v in set(values)}
    return [spread * (rank_of[v] - (len(values) - 1) / 2) / (len(values) - 1) for v in values]


class ThoughtLength(Reward):
    """Longer thoughts are paid more, in the simplest form of a reward for exploration.

    ``r − min(1, cost / |y|)`` with ``|y|`` the tokens of the response, and ``silent`` in the place of r where it gives no answer.
    The charge is bounded here; in the paper it is not, and a response of ten tokens would lose 100. Source: RLSP (2502.06773),
    the length form, and its released code, github.com/GuanghaoYe/Emergence-of-Thinking at e7feea7:
    ``openrlhf/cli/orm_server_efficient.py``, which takes a quarter of the characters before the answer for ``|y|``.

    >>> part = ThoughtLength(cost=100)
    >>> [part.charge(num_tokens) for num_tokens in (50, 100, 400)]
    [1.0, 1.0, 0.25]
    """

    title: ClassVar[str] = "RLSP length reward"
    source: ClassVar[str] = "arXiv 2502.06773"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "short responses are charged"
    formula: ClassVar[str] = "`r − min(1, 1000/|y|)`, `−½` in the place of r without an answer"
    departures: ClassVar[str] = "the charge is bounded; no mark of a language model for effort and variety"

    kind: Literal["thought_length"] = "thought_length"
    cost: float = Field(1000.0, ge=0, description="tokens of a response that is charged the whole reward")
    silent: float = Field(-0.5, description="reward, before the charge, of a response without an answer")

    def charge(self, num_tokens: int) -> float:
        """What a response of this length is charged, between 0 and 1."""
        return min(1.0, self.cost / num_tokens) if num_tokens else 1.0

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        paid = self.silent if member.verdict.answer is None else member.verdict.pay
        return paid - self.charge(len(member.rollout))


class RefinedLabels(Reward):
    """Where the policy's majority grows steadily surer of one answer, that answer takes the place of the given label.

    Each time a problem is sampled, its most frequent answer and that answer's share of the rollouts are remembered. From the
    ``patience``-th time on the majority is the label, if the shares rise by at least ``slope`` a time (least squares) and it is
    the one answer that was most often the majority so far. Then ``r_i = 1[answer_i = majority]``. Answers are compared as the
    verifier reads them. Source: OLR (2604.03993), and its released code, github.com/ShenzhiYang2000/OLR:
    ``verl/trainer/ppo/ray_trainer.py``, where a time is an epoch.

    >>> rising = [("7", 0.25), ("7", 0.5), ("7", 0.75)]
    >>> RefinedLabels(patience=3).label(rising), RefinedLabels(patience=4).label(rising)
    ('7', None)
    >>> RefinedLabels(patience=3).label([("7", 0.5), ("8", 0.5), ("7", 0.5)]) is None  # not rising
    True
    """

    title: ClassVar[str] = "OLR labels"
    source: ClassVar[str] = "arXiv 2604.03993"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a majority that grows surer takes the place of the given answer"
    formula: ClassVar[str] = "`r = 1[answer = majority]` where its share rises by 0.05 a time"
    departures: ClassVar[str] = "a time is one step on the problem, not an epoch"

    kind: Literal["refined_labels"] = "refined_labels"
    patience: int = Field(5, ge=2, description="times that a problem is sampled before its label may change")
    slope: float = Field(0.05, description="least rise of the majority's share from one time to the next")

    def label(self, history: Sequence[tuple[str, float]]) -> str | None:
        """The answer that takes the place of the given label, after these majorities and shares; ``None`` keeps it."""
        if len(history) < self.patience:
            return None
        majority = history[-1][0]
        (most, count), *others = Counter(answer for answer, _ in history).most_common(2)
        is_unique = most == majority and all(number < count for _, number in others)
        rise = linear_regression(range(len(history)), [share for _, share in history]).slope
        return majority if is_unique and rise >= self.slope - 1e-12 else None

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [self._labelled(group, tools) for group in groups]

    def _labelled(self, group: Group, tools: Toolbox) -> Group:
        known = [member for member in group.members if member.verdict.is_known]
        votes = Counter(m.verdict.answer for m in known if m.verdict.answer is not None)
        if not votes:
            return group
        (majority, count), *_ = votes.most_common(1)
        history = tools.memory.setdefault(self.kind, {}).setdefault(group.problem.id, [])
        history.append([majority, count / len(known)])
        label = self.label([(answer, share) for answer, share in history])
        return replace(group, members=tuple(member.having(refined_label=label) for member in group.members))

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        label = member.extras.get("refined_label")
        return member.verdict.pay if label is None else float(member.verdict.answer == label)
