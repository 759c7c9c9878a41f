"""Credit by probing: after each step the policy is made to answer, and how sure and how right it is says what the step
was worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Rollout, Segment
from scope_rlvr.formulas.advantages import whitened
from scope_rlvr.formulas.readings import LogProb
from scope_rlvr.methods.parts.base import Advantage, Need, Rewards, Status


@dataclass(frozen=True)
class _Probe:
    """The place behind one step of a member, with the words that ask for the answer."""

    member: int
    end: int
    reference: str
    start: Rollout


class StepPotential(Advantage):
    """Steps are credited with what they do to the policy's potential to answer.

    After each step the policy is given ``trigger`` and writes ``num_probes`` answers of at most ``max_tokens`` tokens
    at ``temperature``: ``Conf = mean exp(−mean entropy of a probe's tokens)``, and ``Acc`` is the mean probability of
    the reference answer's tokens in their place. ``F = 1.5·Acc·Conf + 0.5·Acc − Conf``: 1 for sure and right, −1 for
    sure and wrong. With ``ΔF`` the change of F over a step (from 0): ``Â_t = Â·f + xi·g``, where ``f = 1 − alpha·(1 −
    exp(−n))`` for n earlier steps with ``F > saturation``, and ``g`` is ``exp(ΔF scaled to [0, 1])`` less its mean over
    the batch's steps. All are whitened over the batch. Source: SPAE (2601.03823), and its released code,
    github.com/cii030/SPAE-RL: ``inference/probe_mechanism_example.py``; f and g were read in notes.

    >>> [round(StepPotential.potential(accuracy, confidence), 2) for accuracy, confidence in ((1, 1), (0, 1), (0, 0))]
    [1.0, -1.0, 0.0]
    """

    title: ClassVar[str] = "SPAE potential"
    source: ClassVar[str] = "arXiv 2601.03823"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "steps are credited with what they do to the potential to answer"
    formula: ClassVar[str] = "`whiten(Â·f + ½·g(ΔF))`, `F = 1.5·Acc·Conf + 0.5·Acc − Conf`"
    departures: ClassVar[str] = "the steps are the run's; f and g follow notes on the paper"

    kind: Literal["step_potential"] = "step_potential"
    trigger: str = Field("answer", min_length=1, description="words after which the policy gives its answer")
    num_probes: int = Field(5, ge=1, description="answers after each step")
    max_tokens: int = Field(10, ge=1, description="tokens of a probed answer at most")
    temperature: float = Field(0.6, gt=0, description="at which answers are probed")
    saturation: float = Field(0.9, description="potential above which a step leaves less to gain")
    alpha: float = Field(0.5, ge=0, le=1, description="how much of the outcome's advantage is lost after such steps")
    xi: float = Field(0.5, ge=0, description="factor on the change of potential")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.DECODING})

    @staticmethod
    def potential(accuracy: float, confidence: float) -> float:
        """F, between −1 and 1."""
        return 1.5 * accuracy * confidence + 0.5 * accuracy - confidence

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        known = [(m, g.problem.reference) for g in groups for m in g.members if m.verdict.is_known and len(m.rollout)]
        asks = Segment(tools.codec.encode(self.trigger), Origin.TEACHER)
        probes = [
            _Probe(i, step.end, reference, Rollout(m.rollout.prompt_ids, m.rollout.cut(step.end).segments).then(asks))
            for i, (m, reference) in enumerate(known)
            for step in tools.split(m.rollout)
            if step.end < len(m.rollout) or m.rollout.is_truncated
        ]
        found: dict[int, list[tuple[int, float]]] = {}
        for probe, value in zip(probes, self._potentials(probes, tools), strict=True):
            found.setdefault(id(known[probe.member][0]), []).append((probe.end, value))
        return [
            replace(group, members=tuple(m.having(potentials=tuple(found.get(id(m), ()))) for m in group.members))
            for group in groups
        ]

    def _potentials(self, probes: Sequence[_Probe], tools: Toolbox) -> list[float]:
        """F after each probed step."""
        cold = replace(tools, sampling=replace(tools.sampling, temperature=self.temperature, control=None))
        room = max((len(probe.start) for probe in probes), default=0) + self.max_tokens
        cold = replace(cold, max_response_tokens=max(room, tools.max_response_tokens))
        starts = [probe.start for probe in probes for _ in range(self.num_probes)]
        written = cold.extend(starts, "continuation", "probe", max_tokens=self.max_tokens)
        entropies = cold.entropies(written)
        sure = [
            math.exp(-fmean(entropy_T[len(start) :] or (0.0,)))
            for start, entropy_T in zip(starts, entropies, strict=True)
        ]
        forced = tools.read(
            "policy",
            [
                (
                    (*p.start.prompt_ids, *p.start.token_ids),
                    tools.codec.encode(f" {p.reference}") or (tools.codec.end_id,),
                )
                for p in probes
            ],
            [LogProb()],
        )
        n = self.num_probes
        return [
            self.potential(fmean(math.exp(x) for x in kept["logprob"].tolist()), fmean(sure[i * n : (i + 1) * n]))
            for i, kept in enumerate(forced)
        ]

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        rewarded = [
            m
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
            for m, reward in zip(group.members, rewards_G, strict=True)
            if reward is not None
        ]
        gains = self._gains(rewarded)
        advantage_PGT = [
            [self._credited(m, s, gains.get(id(m), ())) for m, s in zip(group.members, streams_G, strict=True)]
            for group, streams_G in zip(groups, streams_PG, strict=True)
        ]
        return [
            tuple(replace(s, advantage_T=tuple(a_T)) for s, a_T in zip(streams_G, a_GT, strict=True))
            for streams_G, a_GT in zip(streams_PG, whitened(advantage_PGT), strict=True)
        ]

    @staticmethod
    def _gains(members: Sequence[Member]) -> dict[int, list[float]]:
        """``g`` of each probed step of each member."""
        changes = {
            id(m): [
                after - before for before, after in pairwise([0.0, *(f for _, f in m.extras.get("potentials", ()))])
            ]
            for m in members
        }
        every = [change for of_one in changes.values() for change in of_one]
        if not every:
            return {}
        low, span = min(every), (max(every) - min(every)) or 1.0
        raised = {key: [math.exp((change - low) / span) for change in of_one] for key, of_one in changes.items()}
        mean = fmean(value for of_one in raised.values() for value in of_one)
        return {key: [value - mean for value in of_one] for key, of_one in raised.items()}

    def _credited(self, member: Member, streams: Streams, gain_S: Sequence[float]) -> list[float]:
        """The advantages of one rollout's tokens; those after the last probed step keep the outcome's share alone."""
        advantage_T, begin, saturated = list(streams.advantage_T), 0, 0
        steps = [*member.extras.get("potentials", ())][: len(gain_S)]
        for (end, value), gain in [*zip(steps, gain_S, strict=True), ((len(advantage_T), -math.inf), 0.0)]:
            left = 1 - self.alpha * (1 - math.exp(-saturated))
            for t in range(begin, end):
                if streams.weight_T[t] > 0:
                    advantage_T[t] = advantage_T[t] * left + self.xi * gain
            begin, saturated = end, saturated + (value > self.saturation)
        return advantage_T
