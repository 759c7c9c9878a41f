"""Advantage transforms by how sure the policy was of what it wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.readings import ChosenLogit, LogProb, SelfCertainty
from scope_rlvr.methods.parts.base import Advantage, Rewards, Status
from scope_rlvr.methods.reading import Reading, Text
from scope_rlvr.methods.streams import counted, over_members, scaled


def z_scores(value_G: Sequence[float | None]) -> list[float]:
    """Each value less the mean of the group, divided by its deviation (n − 1); 0 where there is no value, or no difference.

    >>> z_scores([1.0, None, 3.0, 2.0]), z_scores([5.0, 5.0])
    ([-1.0, 0.0, 1.0, 0.0], [0.0, 0.0])
    """
    known = [value for value in value_G if value is not None]
    if len(set(known)) < 2:
        return [0.0] * len(value_G)
    mean, deviation = fmean(known), stdev(known)
    return [0.0 if value is None else (value - mean) / deviation for value in value_G]


class Uncertainty(Advantage):
    """Unsure successes count more, sure failures count more, and tokens with a high logit are held back.

    First ``Â ← Â·exp(−positive·c)`` where ``Â > 0`` and ``Â·exp(negative·c)`` elsewhere: ``c`` is the z-score in the group of a rollout's
    mean self-certainty. Then ``Â_t ← Â_t − logit_weight·m_t``, ``m_t`` the logit of the token, scaled to [0, 1] over the batch; an
    advantage above 0 ends at 0 at the least. In a group whose advantages are 0 the second step alone acts. Source: UCAS (2510.10649),
    and its released code, github.com/xvolcano02/UCAS at b122ff2: ``verl/trainer/ppo/core_algos.py``, ``compute_ucas_advantage``.
    The release adds self-certainty up, so that a long response is a sure one; the mean is taken here.

    >>> part = Uncertainty()
    >>> [round(part.factor(advantage, certainty=1.0), 4) for advantage in (1.0, -1.0)]  # exp(−0.25), exp(0.35)
    [0.7788, 1.4191]
    """

    title: ClassVar[str] = "UCAS shaping"
    source: ClassVar[str] = "arXiv 2510.10649"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "unsure successes and sure failures count more"
    formula: ClassVar[str] = "`Â·exp(∓·z(certainty)) − 0.05·m_t`, `m_t` the token's logit scaled to [0, 1]"
    departures: ClassVar[str] = "the mean self-certainty of a response, where the release adds it up"

    kind: Literal["uncertainty"] = "uncertainty"
    positive: float = Field(0.25, ge=0, description="how much certainty takes from a success")
    negative: float = Field(0.35, ge=0, description="how much certainty adds to a failure")
    logit_weight: float = Field(0.05, ge=0, description="what the token of the highest logit loses")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return Reading("self_certainty", SelfCertainty()), Reading("chosen_logit", ChosenLogit())

    def factor(self, advantage: float, certainty: float) -> float:
        """What an advantage is multiplied by, for a rollout of this z-score."""
        return math.exp(-self.positive * certainty if advantage > 0 else self.negative * certainty)

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        logit_PGT = over_members(groups, streams_PG, lambda _, member, __: member.extras.get("chosen_logit", ()))
        found = counted(logit_PGT, streams_PG)
        low, high = (min(found), max(found)) if found else (0.0, 0.0)
        shaped = []
        for group, rewards_G, streams_G, logit_GT in zip(groups, rewards_PG, streams_PG, logit_PGT, strict=True):
            certain_G = z_scores([_certainty(m, r) for m, r in zip(group.members, rewards_G, strict=True)])
            shaped.append(
                tuple(
                    self._shaped(streams, certainty, [_place(logit, low, high) for logit in logit_T])
                    for streams, certainty, logit_T in zip(streams_G, certain_G, logit_GT, strict=True)
                )
            )
        return shaped

    def _shaped(self, streams: Streams, certainty: float, height_T: Sequence[float]) -> Streams:
        if not height_T:
            return streams
        advantage_T = []
        for a, height, w in zip(streams.advantage_T, height_T, streams.weight_T, strict=True):
            scaled_a = a * self.factor(a, certainty)
            less = scaled_a - self.logit_weight * height if w > 0 else scaled_a
            advantage_T.append(max(0.0, less) if scaled_a > 0 else less)
        return replace(streams, advantage_T=tuple(advantage_T))


def _certainty(member: Member, reward: float | None) -> float | None:
    found = member.extras.get("self_certainty")
    return None if reward is None or not found else fmean(found)


def _place(value: float, low: float, high: float) -> float:
    """Where a value lies between the lowest and the highest; the middle where these are the same."""
    return (value - low) / (high - low) if high > low else 0.5


class AnswerConfidence(Advantage):
    """What the policy was sure of counts less, measured at its least likely tokens, against how sure it is of the prompt.

    ``Â_i ← Â_i + weight·(c(q) − c(y_i))`` in groups with different rewards; ``c = exp(mean log π)`` over the ``share`` of tokens, at least one,
    with the lowest probability, of the prompt q and of the response y. The first token of the prompt has no probability. Source:
    ProGRPO (2602.05281), read in a note; its weight is not known and is argued here.

    >>> round(confidence([math.log(0.9), math.log(0.1), math.log(0.4), math.log(0.9)], share=0.5), 4)  # √(0.1 · 0.4)
    0.2
    """

    title: ClassVar[str] = "ProGRPO credit"
    source: ClassVar[str] = "arXiv 2602.05281"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "what the policy was sure of counts less"
    formula: ClassVar[str] = "`Â + α·(c(prompt) − c(response))`, `c` the mean probability of the least likely fifth"
    departures: ClassVar[str] = "α is argued here"

    kind: Literal["answer_confidence"] = "answer_confidence"
    weight: float = Field(0.1, ge=0, description="factor on the difference of confidence (α); 0 changes nothing")
    share: float = Field(
        0.2, gt=0, le=1, description="share of the tokens, the least likely ones, that confidence is the mean of"
    )

    @property
    def readings(self) -> tuple[Reading, ...]:
        return Reading("policy_logprob"), Reading("prompt_logprob", LogProb(), text=_prompt_once)

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        return [
            tuple(streams_G) if len({r for r in rewards_G if r is not None}) < 2 else self._shaped(group, streams_G)
            for group, rewards_G, streams_G in zip(groups, rewards_PG, streams_PG, strict=True)
        ]

    def _shaped(self, group: Group, streams_G: Sequence[Streams]) -> tuple[Streams, ...]:
        of_prompt = next((m.extras["prompt_logprob"] for m in group.members if m.extras.get("prompt_logprob")), ())
        return tuple(
            self._moved(streams, of_prompt, member.extras.get("policy_logprob", ()))
            for member, streams in zip(group.members, streams_G, strict=True)
        )

    def _moved(self, streams: Streams, of_prompt: Sequence[float], of_response: Sequence[float]) -> Streams:
        if not of_prompt or not of_response:
            return streams
        gap = self.weight * (confidence(of_prompt, self.share) - confidence(of_response, self.share))
        advantage_T = tuple(a + gap if w > 0 else a for a, w in zip(streams.advantage_T, streams.weight_T, strict=True))
        return replace(streams, advantage_T=advantage_T)


def confidence(logprob_T: Sequence[float], share: float) -> float:
    """The geometric mean of the lowest probabilities, those of a share of the tokens."""
    return math.exp(fmean(sorted(logprob_T)[: max(1, int(share * len(logprob_T)))]))


def _prompt_once(group: Group, member: Member, tools: Toolbox) -> Text | None:
    """The prompt after its first token, read once for a group."""
    prompt_ids = member.rollout.prompt_ids
    return (prompt_ids[:1], prompt_ids[1:]) if member is group.members[0] and len(prompt_ids) > 1 else None


class Perplexity(Advantage):
    """Rollouts of low perplexity count a little more: ``Â_i ← Â_i·(1 − strength·z_i)``.

    ``z_i`` is the z-score in the group of ``log PPL_i = −mean log π`` of a rollout. Source: Deng et al. 2025, "Decomposing the
    Entropy-Performance Exchange" (2508.02260): that low perplexity counts more is in the abstract; the number, and that the
    z-score is the group's, is argued here.

    >>> [round(1 - 0.01 * z, 4) for z in z_scores([0.5, 1.5, 1.0])]
    [1.01, 0.99, 1.0]
    """

    title: ClassVar[str] = "Perplexity shaping"
    source: ClassVar[str] = "arXiv 2508.02260"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "rollouts of low perplexity count a little more"
    formula: ClassVar[str] = "`Â·(1 − 0.01·z(log PPL))`"
    departures: ClassVar[str] = "its strength is argued here"

    kind: Literal["perplexity"] = "perplexity"
    strength: float = Field(0.01, ge=0, description="change for one deviation of log-perplexity; 0 changes nothing")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("policy_logprob"),)

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        shaped = []
        for group, rewards_G, streams_G in zip(groups, rewards_PG, streams_PG, strict=True):
            z_G = z_scores([_log_perplexity(m, r) for m, r in zip(group.members, rewards_G, strict=True)])
            shaped.append(
                tuple(
                    scaled(streams, [1 - self.strength * z] * len(streams.advantage_T))
                    for streams, z in zip(streams_G, z_G, strict=True)
                )
            )
        return shaped


def _log_perplexity(member: Member, reward: float | None) -> float | None:
    found = member.extras.get("policy_logprob")
    return None if reward is None or not found else -fmean(found)
