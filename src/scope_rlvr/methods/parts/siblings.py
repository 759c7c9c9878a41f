"""Credit among siblings: the tokens at which rollouts of one group part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, pstdev
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.methods.parts.base import Advantage, Rewards, Status

_EPSILON = 1e-4


class SiblingAdvantage(Advantage):
    """Where rollouts part, each token is compared with the others that were written there.

    For a prefix that rollouts share and after which they go on with different tokens: the score of a token is the mean
    reward of the rollouts through it, and ``(score − mean) / (std + 1e-4)`` over the tokens, times ``weight``, is added
    to the advantage of this one token in these rollouts. Unknown rewards take no part. Rollouts need no tree: all of a
    group share at least the prompt. Source: V-STAR (2602.10699), Sibling-GRPO, advantages among the children of a
    prefix; its search is for recommendation.

    >>> [round(a, 3) for a in sibling_advantages([(5, 6, 7), (5, 6, 8), (5, 9)], [1.0, 0.0, 0.0])[0]]
    [0.0, 1.0, 1.0]
    """

    title: ClassVar[str] = "Sibling advantage"
    source: ClassVar[str] = "arXiv 2602.10699"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "tokens at which rollouts part are compared with each other"
    formula: ClassVar[str] = "`Â_t + (V_t − mean(V)) / (std(V) + 1e-4)` over the tokens after one prefix"
    departures: ClassVar[str] = "language, not recommendation; the population's deviation"

    kind: Literal["sibling_advantage"] = "sibling_advantage"
    weight: float = Field(1.0, ge=0, description="factor on what is added; 0 changes nothing")

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        return [
            self._shaped(group, rewards_G, streams_G)
            for group, rewards_G, streams_G in zip(groups, rewards_PG, streams_PG, strict=True)
        ]

    def _shaped(
        self, group: Group, rewards_G: Sequence[float | None], streams_G: Sequence[Streams]
    ) -> tuple[Streams, ...]:
        added_GT = sibling_advantages([m.rollout.token_ids for m in group.members], rewards_G)
        return tuple(
            replace(
                s,
                advantage_T=tuple(
                    a + self.weight * more if w > 0 else a
                    for a, more, w in zip(s.advantage_T, added_T, s.weight_T, strict=True)
                ),
            )
            for s, added_T in zip(streams_G, added_GT, strict=True)
        )


def sibling_advantages(responses: Sequence[Sequence[int]], rewards_G: Sequence[float | None]) -> list[list[float]]:
    """What each token of each response gains on the other tokens that follow its prefix; 0 without siblings or
    reward."""
    added_GT = [[0.0] * len(ids) for ids in responses]
    together = [[i for i, reward in enumerate(rewards_G) if reward is not None]]
    place = 0
    while together:
        further = []
        for rollouts in together:
            children: defaultdict[int, list[int]] = defaultdict(list)
            for i in rollouts:
                if place < len(responses[i]):
                    children[responses[i][place]].append(i)
            scores = {token: fmean(rewards_G[i] or 0.0 for i in through) for token, through in children.items()}
            if len(scores) > 1:
                mean, scale = fmean(scores.values()), pstdev(scores.values()) + _EPSILON
                for token, through in children.items():
                    for i in through:
                        added_GT[i][place] = (scores[token] - mean) / scale
            further += [through for through in children.values() if len(through) > 1]
        together, place = further, place + 1
    return added_GT
