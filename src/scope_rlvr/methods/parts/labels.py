"""Rewards without labels: what the rollouts of a group say together takes the place of the reference."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.steps import Step
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.readings import TopK
from scope_rlvr.methods.parts.base import Reward, Status
from scope_rlvr.methods.reading import Reading

Ballot = tuple[str | None, float]
"""An answer, if the verifier read one, and how much its voice counts."""


def elected(ballots: Sequence[Ballot]) -> str | None:
    """The answer with the largest sum of voices, the first of equals; ``None`` where nobody gave an answer.

    >>> elected([("7", 1.0), (None, 9.0), ("3", 0.6), ("3", 0.6)])
    '3'
    """
    counts: dict[str, float] = {}
    for answer, voice in ballots:
        if answer is not None:
            counts[answer] = counts.get(answer, 0.0) + voice
    return max(counts, key=counts.__getitem__) if counts else None


class MajorityVote(Reward):
    """A rollout is paid 1 if its answer is that of most rollouts of its group, else 0; the reference is not used.

    The verifier reads the answers, and what it says of them stays as a figure; a rollout without a known verdict has no voice.
    Of answers with as many voices the first one given counts. Source: TTRL (2504.16084).

    >>> from scope_rlvr.core.types import *
    >>> def member(answer): return Member(Rollout((), ()), Verdict(Outcome.WRONG, answer))
    >>> MajorityVote().label(Group(Problem("p", "?", "7"), tuple(map(member, ("7", "3", "3", None)))))
    '3'
    """

    title: ClassVar[str] = "TTRL vote"
    source: ClassVar[str] = "arXiv 2504.16084"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the majority's answer is the label; the reference is not used"
    formula: ClassVar[str] = "`1[answer = majority's]`"
    departures: ClassVar[str] = "all rollouts vote and train; the paper draws 64 for the vote and trains on 32"

    kind: Literal["majority_vote"] = "majority_vote"

    def label(self, group: Group) -> str | None:
        """The answer that most of the known verdicts name."""
        return elected([(m.verdict.answer, 1.0) for m in group.members if m.verdict.is_known])

    def pay(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [paid_by_labels(group, [self.label(group)] * len(group.members)) for group in groups]


def paid_by_labels(group: Group, labels_G: Sequence[str | None]) -> Group:
    """The group in which each member with a known verdict is paid 1 if its answer is its label, else 0."""
    members = [
        replace(m, verdict=replace(m.verdict, reward=float(label is not None and m.verdict.answer == label)))
        if m.verdict.is_known
        else m
        for m, label in zip(group.members, labels_G, strict=True)
    ]
    return replace(group, members=tuple(members))


class SubgroupVote(Reward):
    """Labels by votes weighted with confidence, another one for each part of the group; the reference is not used.

    A rollout's voice is its confidence: minus the mean log-probability of the ``k`` likeliest tokens at each place, meant over the
    tokens of a step, then over steps; higher where the policy is surer. The group is cut into parts of ``s`` rollouts, and for each
    part a label is voted by half of the whole group, drawn at random. ``s`` is chosen for the batch among the divisors of the largest
    group's size: of those on the Pareto front of mean reward R and mean number of distinct labels D, both scaled to [0, 1], the one
    nearest to (1, 1) by ``√(λ(1 − R)² + (1 − λ)(1 − D)²)``. Labels are drawn anew for it. Source: SCOPE-TTRL, "Beyond Majority Voting", and
    its released code, github.com/szu-tera/SCOPE at 0c45ca7, ``verl/trainer/ppo/grouputils.py`` 87-149. There the engine is asked for the
    drawn token alone (k = 1), so that confidence is higher for less likely text, and rollouts without an answer shift the
    pairs of answers and confidences; this follows the paper.

    >>> SubgroupVote().nearest_to_ideal({1: (0.5, 3.0), 2: (0.75, 2.0), 4: (1.0, 1.0)})
    2
    """

    title: ClassVar[str] = "SCOPE-TTRL vote"
    source: ClassVar[str] = "arXiv 2512.15146"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = (
        "labels voted by confidence, another one for each part of a group; the reference is not used"
    )
    formula: ClassVar[str] = (
        "`1[answer = argmax_a Σ confidence]` in each part; its size nearest to full reward and variety"
    )

    kind: Literal["subgroup_vote"] = "subgroup_vote"
    k: int = Field(20, ge=2, description="likeliest tokens that confidence is the mean of")
    balance: float = Field(0.7, ge=0, le=1, description="λ: weight of reward against variety of labels")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("likeliest", TopK(k=self.k)),)

    def pay(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        known_PG = [[m for m in group.members if m.verdict.is_known] for group in groups]
        ballots_PG = [[self._ballot(m, tools) for m in known_G] for known_G in known_PG]
        largest = max(map(len, ballots_PG), default=0)
        tried = {
            size: [self.labels(ballots_G, size, tools, "tried", p) for p, ballots_G in enumerate(ballots_PG)]
            for size in range(1, largest + 1)
            if largest % size == 0
        }
        worth = {size: _worth(labels_PG, ballots_PG) for size, labels_PG in tried.items()}
        size = self.nearest_to_ideal(worth) if worth else 1
        paid = []
        for p, (group, known_G, ballots_G) in enumerate(zip(groups, known_PG, ballots_PG, strict=True)):
            label_of = dict(zip(map(id, known_G), self.labels(ballots_G, size, tools, "chosen", p), strict=True))
            paid.append(paid_by_labels(group, [label_of.get(id(m)) for m in group.members]))
        return paid

    def _ballot(self, member: Member, tools: Toolbox) -> Ballot:
        likeliest = member.extras.get("likeliest")
        if likeliest is None:
            return None, 0.0
        mean_top_T = [float(top.mean()) for top in likeliest[:, 0]]
        return member.verdict.answer, confidence(mean_top_T, tools.split(member.rollout))

    @staticmethod
    def labels(ballots_G: Sequence[Ballot], size: int, tools: Toolbox, *names: int | str) -> list[str | None]:
        """The label of each voter, for parts of this size, the last one of what is left."""
        rng = random.Random(derive_seed(tools.seed, "vote", size, *names))
        num_voters = max(1, len(ballots_G) // 2)
        labels: list[str | None] = []
        while len(labels) < len(ballots_G):
            label = elected(rng.sample(list(ballots_G), num_voters))
            labels += [label] * min(size, len(ballots_G) - len(labels))
        return labels

    def nearest_to_ideal(self, worth: Mapping[int, tuple[float, float]]) -> int:
        """The size whose reward and variety come nearest to the best of both."""
        front = {
            s: (r, d)
            for s, (r, d) in worth.items()
            if not any(r <= R and d <= D and (r, d) != (R, D) for R, D in worth.values())
        }
        rewards, varieties = ([pair[i] for pair in front.values()] for i in (0, 1))

        def distance(s: int) -> float:
            reward, variety = _scaled(front[s][0], rewards), _scaled(front[s][1], varieties)
            return math.hypot(math.sqrt(self.balance) * (1 - reward), math.sqrt(1 - self.balance) * (1 - variety))

        return min(front, key=distance)


def confidence(mean_top_T: Sequence[float], steps: Sequence[Step]) -> float:
    """How sure a response is: minus the mean over steps of the mean over their tokens of the top tokens' log-probabilities.

    >>> confidence([-2.0, -4.0, -6.0], (Step("a", 0, 2), Step("b", 2, 3)))
    4.5
    """
    return -fmean([fmean(mean_top_T[s.start : s.end]) for s in steps]) if steps else 0.0


def _worth(labels_PG: Sequence[Sequence[str | None]], ballots_PG: Sequence[Sequence[Ballot]]) -> tuple[float, float]:
    """Mean reward by these labels, and the mean number of distinct labels in a group."""
    paid = [
        float(label is not None and label == answer)
        for labels_G, ballots_G in zip(labels_PG, ballots_PG, strict=True)
        for label, (answer, _) in zip(labels_G, ballots_G, strict=True)
    ]
    return fmean(paid or [0.0]), fmean([len(set(labels_G)) for labels_G in labels_PG] or [0.0])


def _scaled(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return 1.0 if high == low else (value - low) / (high - low)
