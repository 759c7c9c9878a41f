"""Rewards by how likely a response makes the reference answer: no verdict is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Reward, Status
from scope_rlvr.methods.reading import ReadBy, Reading, Text

REASONED, BARE = "answer_after_reasoning", "answer_alone"


def around_answer(member: Member, tools: Toolbox) -> tuple[int, int] | None:
    """The tokens of a response before its answer, and where the line with the answer begins; ``None`` without an answer.

    The answer is the last place at which the response has the text that the verifier read.
    """
    answer, pieces = member.verdict.answer, tools.codec.pieces(member.rollout.token_ids)
    text = "".join(pieces)
    at = text.rfind(answer) if answer else -1
    if at < 0:
        return None
    line = text.rfind("\n", 0, at) + 1
    ends, length = [], 0
    for piece in pieces:
        length += len(piece)
        ends.append(length)
    # Spaces before an answer belong to its first token.
    at = len(text[:at].rstrip(" "))
    return sum(end <= at for end in ends), sum(end <= line for end in ends)


class AnswerLikelihood(Reward):
    """A reward for reasoning after which the reference answer is likely. ``baseline_by`` says who reads the answer without it."""

    @property
    def readings(self) -> tuple[Reading, ...]:
        return Reading(REASONED, text=self.reasoned), Reading(BARE, by=self.baseline_by, text=self.bare)

    @property
    def baseline_by(self) -> ReadBy:
        """Who reads the answer without the reasoning."""
        return ReadBy.POLICY

    @staticmethod
    def reasoned(group: Group, member: Member, tools: Toolbox) -> Text | None:
        """The response up to its answer, and the reference in the answer's place."""
        found = around_answer(member, tools)
        if found is None:
            return None
        before = member.rollout.token_ids[: found[0]]
        return (*member.rollout.prompt_ids, *before), _reference_ids(group, member, found[0], tools)

    @staticmethod
    def bare(group: Group, member: Member, tools: Toolbox) -> Text | None:
        """The prompt, what comes before the answer in its own line, and the reference."""
        found = around_answer(member, tools)
        if found is None:
            return None
        before = member.rollout.token_ids[found[1] : found[0]]
        return (*member.rollout.prompt_ids, *before), _reference_ids(group, member, found[0], tools)


def _reference_ids(group: Group, member: Member, at_token: int, tools: Toolbox) -> tuple[int, ...]:
    """The reference as ids, with the white space that the answer's first token begins with."""
    first = "".join(tools.codec.pieces(member.rollout.token_ids)[at_token : at_token + 1])
    return tools.codec.encode(first[: len(first) - len(first.lstrip())] + group.problem.reference)


class AnswerProbability(AnswerLikelihood):
    """A response is paid by how much its reasoning raises the probability of the reference answer.

    ``max(0, p(a* | x, reasoning) − p(a* | x))``: the reference ``a*`` takes the place of the response's own answer, ``p`` is the mean of
    its tokens' probabilities under the policy, and the second term has nothing before it but what the answer's own line begins
    with. A response without an answer is paid 0. The verifier only reads the answer; its verdict stays as a figure. Source: RLPR
    (2506.18254), and its released code, github.com/OpenBMB/RLPR at 8490fca: ``verl/workers/reward_manager/prob.py``.

    >>> AnswerProbability.gain([math.log(0.9), math.log(0.7)], [math.log(0.2), math.log(0.4)])
    0.5
    """

    title: ClassVar[str] = "RLPR reward"
    source: ClassVar[str] = "arXiv 2506.18254"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "responses are paid by how much likelier they make the reference answer"
    formula: ClassVar[str] = "`max(0, p̄(a*|x, reasoning) − p̄(a*|x))`"
    departures: ClassVar[str] = "no reward for a format; the answer is where the verifier read one"

    kind: Literal["answer_probability"] = "answer_probability"

    @staticmethod
    def gain(reasoned_T: Sequence[float], bare_T: Sequence[float]) -> float:
        """The reward from log-probabilities of the reference's tokens, with reasoning and without."""
        with_, without = (fmean(map(math.exp, logp_T)) for logp_T in (reasoned_T, bare_T))
        return max(0.0, round(with_ - without, 12))

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        reasoned, bare = member.extras.get(REASONED), member.extras.get(BARE)
        return self.gain(reasoned, bare) if reasoned and bare else 0.0


class InformationGain(AnswerLikelihood):
    """A response is paid the nats by which its thought makes the reference likelier than the average of the policies finds it alone.

    ``log π(a* | x, thought) − log π̄(a* | x)``, sums over the tokens of the reference, ``π̄`` the moving average of the policies; it may be
    negative. A response without an answer is paid the least that any of its group is paid, or 0 without another. Source: RLP
    (2510.01265), where ``a*`` is the next stretch of ordinary text and rollouts are thoughts about it.

    >>> InformationGain.gain([-0.5, -0.25], [-1.0, -1.0])
    1.25
    """

    title: ClassVar[str] = "RLP reward"
    source: ClassVar[str] = "arXiv 2510.01265"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "responses are paid the information that they add about the reference"
    formula: ClassVar[str] = "`log π(a*|x, thought) − log π̄(a*|x)`"
    departures: ClassVar[str] = "the reference answer is predicted, not the next words of a document"

    kind: Literal["information_gain"] = "information_gain"
    decay: float = Field(0.999, ge=0, lt=1, description="decay of the average of the policies in a step")

    @property
    def average_decay(self) -> float | None:
        return self.decay

    @property
    def baseline_by(self) -> ReadBy:
        return ReadBy.AVERAGE

    @staticmethod
    def gain(reasoned_T: Sequence[float], bare_T: Sequence[float]) -> float:
        """The reward from log-probabilities of the reference's tokens, with the thought and without."""
        return math.fsum(reasoned_T) - math.fsum(bare_T)

    def pay(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [self._paid_group(group) for group in groups]

    def _paid_group(self, group: Group) -> Group:
        gains = {
            i: self.gain(m.extras[REASONED], m.extras[BARE])
            for i, m in enumerate(group.members)
            if m.verdict.is_known and m.extras.get(REASONED)
        }
        least = min(gains.values(), default=0.0)
        members = [
            replace(m, verdict=replace(m.verdict, reward=gains.get(i, least))) if m.verdict.is_known else m
            for i, m in enumerate(group.members)
        ]
        return replace(group, members=tuple(members))
