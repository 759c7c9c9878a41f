"""Rewards by the place in a tournament."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.ports import JudgeKind, JudgeRequest
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem
from scope_rlvr.methods.parts.base import Need, Reward, Status


class Tournament(Reward):
    """Rollouts are paid by their place in a knock-out tournament that a judge decides.

    Each pairing is asked both ways round and the shares are added. Seeding: everybody against the first rollout; then the
    first seed meets the last, and so on, round by round; of an odd number the best seed passes on. Rank: by the round of
    elimination, then by the mean share so far. ``r_i ← (1 − share) · r_i + share · (1 − rank_i / (G − 1))``. Who has no known
    verdict does not play, and is not one of the G. A group in which the judge failed keeps its rewards. Source: ArenaRL, read in its code; the paper has no verifier, which is ``share`` 1.

    >>> [1 - rank / 3 for rank in ranks([2, 0, 1, 0], [0.9, 0.2, 0.6, 0.4])]
    [1.0, 0.0, 0.6666666666666667, 0.33333333333333337]
    """

    title: ClassVar[str] = "ArenaRL"
    source: ClassVar[str] = "arXiv 2601.06487"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rewards by the rank in a tournament that a judge decides"
    formula: ClassVar[str] = "`1 − rank/(G − 1)`"
    departures: ClassVar[str] = "the first rollout is the anchor, in the place of a greedy one"

    kind: Literal["tournament"] = "tournament"
    share: float = Field(1.0, gt=0, le=1, description="share of the reward that the tournament decides")
    instruction: str = Field(
        "Which response solves the problem better? Judge the reasoning, not the length.",
        description="what the judge is asked",
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.JUDGE})

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        players = [[member for member in group.members if member.verdict.is_known] for group in groups]
        brackets = [Bracket(len(playing)) for playing in players]
        for number in range(1 + max(map(len, players), default=0).bit_length()):
            asked = [(g, pair) for g, bracket in enumerate(brackets) for pair in bracket.pairings()]
            if not asked:
                break
            shares = self._shares(
                [(groups[g].problem, players[g][one], players[g][other]) for g, (one, other) in asked], tools, number
            )
            for g, bracket in enumerate(brackets):
                bracket.play({pair: share for (of, pair), share in zip(asked, shares, strict=True) if of == g})
        placings = {
            id(member): 1 - rank / (len(playing) - 1)
            for playing, bracket in zip(players, brackets, strict=True)
            for member, rank in zip(playing, bracket.ranks() or [], strict=False)
        }
        return [
            replace(group, members=tuple(_placed(m, placings.get(id(m))) for m in group.members)) for group in groups
        ]

    def _shares(
        self, pairings: Sequence[tuple[Problem, Member, Member]], tools: Toolbox, number: int
    ) -> list[float | None]:
        """The share of the first of each pair, both ways round together, between 0 and 2; ``None`` where the judge failed."""
        requests = [
            JudgeRequest(problem, tuple(tools.text(m.rollout) for m in order), self.instruction, JudgeKind.PICK)
            for problem, *pair in pairings
            for order in (pair, pair[::-1])
        ]
        said = iter(tools.ask_judge(requests, "tournament", number))
        both = [(next(said), next(said)) for _ in pairings]
        return [None if a is None or b is None else a[0] + b[1] for a, b in both]

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        placing = member.extras.get("placing")
        return member.verdict.pay if placing is None else (1 - self.share) * member.verdict.pay + self.share * placing


def _placed(member: Member, placing: float | None) -> Member:
    return member if placing is None else member.having(placing=placing)


class Bracket:
    """One knock-out tournament: whom to pair next, and what came of it.

    >>> bracket = Bracket(3)
    >>> bracket.pairings()  # everybody against the first
    [(0, 1), (0, 2)]
    >>> bracket.play({(0, 1): 0.5, (0, 2): 1.5})  # 1 beats the anchor, 2 loses to it
    >>> bracket.pairings()  # the best seed, 1, passes on
    [(0, 2)]
    >>> bracket.play({(0, 2): 1.2}); bracket.pairings()
    [(1, 0)]
    >>> bracket.play({(1, 0): 1.6}); bracket.ranks()
    [1, 0, 2]
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.rounds = [0] * count
        self.shares: list[list[float]] = [[] for _ in range(count)]
        self.alive: list[int] = []
        self.has_failed = count < 2
        self.is_seeded = False

    def pairings(self) -> list[tuple[int, int]]:
        if self.has_failed:
            return []
        if not self.is_seeded:
            return [(0, other) for other in range(1, self.count)]
        first = len(self.alive) % 2
        playing = self.alive[first:]
        return [(playing[i], playing[-1 - i]) for i in range(len(playing) // 2)]

    def play(self, found: dict[tuple[int, int], float | None]) -> None:
        """The share of the first of each pair, from 0 to 2."""
        if not found:
            return
        if any(share is None for share in found.values()):
            self.has_failed = True
            return
        losers = set()
        for (one, other), share in found.items():
            assert share is not None, "failures were looked for"
            self.shares[one].append(share)
            self.shares[other].append(2 - share)
            losers.add(other if share >= 1 else one)
        if not self.is_seeded:
            self.is_seeded, losers = True, set()
            self.alive = list(range(self.count))
        self.alive = sorted((i for i in self.alive if i not in losers), key=lambda i: -self._mean(i))
        for i in self.alive:
            self.rounds[i] += 1

    def _mean(self, i: int) -> float:
        return fmean(self.shares[i]) if self.shares[i] else 0.0

    def ranks(self) -> list[int] | None:
        """The place of each, from 0; ``None`` where the judge failed."""
        if self.has_failed or not self.is_seeded:
            return None
        return ranks(self.rounds, [self._mean(i) for i in range(self.count)])


def ranks(rounds: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Places from 0: the later the round of elimination, the better, then the higher the mean share."""
    order = sorted(range(len(rounds)), key=lambda i: (-rounds[i], -shares[i]))
    return [order.index(i) for i in range(len(rounds))]
