"""The entropy where the policy is unsure is held to what it was before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.losses import Tokens
from scope_rlvr.formulas.readings import LogitReducer, NucleusEntropy
from scope_rlvr.methods.parts.base import Rewards, Status, Term
from scope_rlvr.methods.parts.weights import quantile
from scope_rlvr.methods.reading import Reading
from scope_rlvr.methods.streams import over_members

if TYPE_CHECKING:
    from torch import Tensor


class AnchoredEntropy(Term):
    """A penalty on the square of how far the entropy of the least certain tokens is from where it began.

    ``(E − E₀)²`` with ``E`` the mean over rollouts of the mean entropy of a rollout's ``share`` of tokens with the highest one, each the
    entropy of its nucleus of ``top_p``; ``E₀`` is the E of the first step. The gradient is ``2(E − E₀)·∇E`` with the E of the policy
    that sampled, which is exact for the first update of a batch: the loss is ``2(E − E₀)·(mean of H over those tokens)`` less a
    constant. Source: SIREN (2509.25133), and its released code, github.com/Linn3a/siren at fa59a8d:
    ``verl/verl/workers/actor/dp_actor.py`` 89-97 and 516-527. There E is that of a micro-batch, the nucleus stops before the
    token that reaches ``top_p``, and the anchor is measured before training.

    >>> slopes([[0.1, 0.9, 0.8], [0.4]], gap=0.5, share=0.5)  # 2 · ½ · 4 tokens / 2 rollouts, on the two highest, on the one
    [[0.0, 1.0, 1.0], [2.0]]
    """

    title: ClassVar[str] = "SIREN anchor"
    source: ClassVar[str] = "arXiv 2509.25133"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the entropy of the least certain tokens is held where it began"
    formula: ClassVar[str] = "`+ 0.005·(E − E₀)²`, E the nucleus entropy of the least certain fifth of each rollout"
    departures: ClassVar[str] = "E − E₀ is that of the policy that sampled; the anchor is the first step's"

    kind: Literal["anchored_entropy"] = "anchored_entropy"
    weight: float = Field(0.005, description="factor on the term")
    share: float = Field(
        0.2, gt=0, le=1, description="share of a rollout's tokens, those of highest entropy, that are held"
    )
    top_p: float = Field(0.8, gt=0, le=1, description="probability of the likeliest tokens whose entropy it is")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("nucleus_entropy_before", NucleusEntropy(top_p=self.top_p)),)

    @property
    def reducers(self) -> tuple[LogitReducer, ...]:
        return (NucleusEntropy(top_p=self.top_p),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        rollouts = [_entropies(m) for g in groups for m in g.members if m.verdict.is_known and _entropies(m)]
        if not rollouts:
            return list(groups)
        now = fmean(fmean(h for h in entropy_T if h >= self._least(entropy_T)) for entropy_T in rollouts)
        gap = now - tools.memory.setdefault(self.kind, now)
        return [replace(g, members=tuple(m.having(entropy_gap=gap) for m in g.members)) for g in groups]

    def _least(self, entropy_T: Sequence[float]) -> float:
        return quantile(entropy_T, 1 - self.share)

    def mark(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        found = [m.extras["entropy_gap"] for group in groups for m in group.members if "entropy_gap" in m.extras]
        read_PG = over_members(groups, streams_PG, lambda _, m, s: _entropies(m) if any(s.weight_T) else ())
        slope_BT = slopes([read_T for read_G in read_PG for read_T in read_G], found[0] if found else 0.0, self.share)
        slope = iter(slope_BT)
        return [
            tuple(
                replace(s, extras={**s.extras, "entropy_slope": tuple(next(slope)) or (0.0,) * len(s.weight_T)})
                for s in streams_G
            )
            for streams_G in streams_PG
        ]

    def loss(self, tokens: Tokens) -> Tensor:
        return tokens.extras["entropy_slope"] * tokens.extras["nucleus_entropy"]


def _entropies(member: Member) -> tuple[float, ...]:
    found: tuple[float, ...] = member.extras.get("nucleus_entropy_before", ())
    return found


def slopes(entropy_BT: Sequence[Sequence[float]], gap: float, share: float) -> list[list[float]]:
    """What each token's entropy is multiplied by, so that the mean over all tokens has the gradient of ``(E − E₀)²``.

    A rollout without entropies does not count, and gets nothing.
    """
    num_tokens, num_rollouts = sum(map(len, entropy_BT)), sum(map(bool, entropy_BT))
    found: list[list[float]] = []
    for entropy_T in entropy_BT:
        least = quantile(entropy_T, 1 - share) if entropy_T else 0.0
        num_kept = sum(h >= least for h in entropy_T)
        found.append([2 * gap * num_tokens / (num_rollouts * num_kept) * (h >= least) for h in entropy_T])
    return found
