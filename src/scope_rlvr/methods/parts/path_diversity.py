"""Two scales of variety: right rollouts that go their own way are paid more, and keep more entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.diversity import own_formula_shares
from scope_rlvr.formulas.losses import Tokens
from scope_rlvr.formulas.readings import Entropy, LogitReducer, MeanHidden
from scope_rlvr.methods.parts.base import Reward, Rewards, Status, Term
from scope_rlvr.methods.reading import Reading

if TYPE_CHECKING:
    from torch import Tensor


class PathDiversity(Reward):
    """Right rollouts are paid for going another way than the other right ones of their group.

    ``r + min(weight · d, cap)`` for right rollouts, ``d`` the mean of two numbers between 0 and 1: half of 1 minus the
    mean cosine of its mean hidden state to theirs, and the share of its formulas that none of them has. A right rollout
    by itself has d = 0. Source: DSDR (2602.19895), read in notes, which takes a text encoder; weight and cap have no
    values there.

    >>> round(distances([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])[1], 2)  # cosines 0 and 0, so 1 − 0, and half of it
    0.5
    """

    title: ClassVar[str] = "DSDR bonus"
    source: ClassVar[str] = "arXiv 2602.19895"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "right rollouts that go another way are paid more"
    formula: ClassVar[str] = "`r + min(λ·d, cap)` for right rollouts, `d` from hidden states and formulas"
    departures: ClassVar[str] = (
        "the policy's hidden states in the place of a text encoder; weight and cap are chosen here"
    )

    kind: Literal["path_diversity"] = "path_diversity"
    weight: float = Field(0.1, ge=0, description="factor on the diversity of a right rollout")
    cap: float = Field(
        0.1, ge=0, description="the bonus is at most this, so that a right rollout stays worth more than a wrong one"
    )

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("path_hidden", MeanHidden()),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [self._measured(group, tools) for group in groups]

    @staticmethod
    def _measured(group: Group, tools: Toolbox) -> Group:
        right = [m for m in group.members if m.verdict.is_right and "path_hidden" in m.extras]
        far = distances([m.extras["path_hidden"] for m in right])
        own = own_formula_shares([tools.text(m.rollout) for m in right])
        alone = len(right) < 2
        found = {id(m): 0.0 if alone else (x + y) / 2 for m, x, y in zip(right, far, own, strict=True)}
        return replace(
            group,
            members=tuple(m.having(path_diversity=found[id(m)]) if id(m) in found else m for m in group.members),
        )

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        return member.verdict.pay + min(self.weight * member.extras.get("path_diversity", 0.0), self.cap)


def distances(vectors_GD: Sequence[Sequence[float]]) -> list[float]:
    """Half of 1 minus the mean cosine of each vector to the others, between 0 and 1; 0 for a vector by itself."""
    units = [[x / (math.hypot(*vector) or 1.0) for x in vector] for vector in vectors_GD]
    found = []
    for i, one in enumerate(units):
        cosines = [math.fsum(x * y for x, y in zip(one, other, strict=True)) for j, other in enumerate(units) if j != i]
        found.append(max(0.0, 1 - math.fsum(cosines) / len(cosines)) / 2 if cosines else 0.0)
    return found


class CoupledEntropy(Term):
    """Right rollouts keep their entropy, those that go their own way above all.

    ``−weight · mean over groups of Σ_i softmax(d/temperature)_i · mean_t H_t``, the softmax over the right rollouts of
    a group: the length of a rollout makes no difference. ``d`` is what ``path_diversity`` measured; without that part
    all right rollouts count alike. Source: DSDR (2602.19895), read in notes, which also weights by the importance
    ratio; weight and temperature are chosen here.

    >>> import torch
    >>> from dataclasses import replace
    >>> from scope_rlvr.formulas.losses import example_tokens
    >>> extras = {"entropy": torch.tensor([[0.5]]), "entropy_share": torch.tensor([[2.0]])}
    >>> CoupledEntropy().loss(replace(example_tokens(0.5), extras=extras))
    tensor([[-1.]])
    """

    title: ClassVar[str] = "DSDR entropy"
    source: ClassVar[str] = "arXiv 2602.19895"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "right rollouts keep their entropy, the distinctive ones above all"
    formula: ClassVar[str] = "`−λ·mean_groups Σ_i softmax(d/τ)_i · mean_t H_t` over right rollouts"
    departures: ClassVar[str] = "no importance ratio; weight and temperature are chosen here"

    kind: Literal["coupled_entropy"] = "coupled_entropy"
    weight: float = Field(0.001, ge=0, description="factor on the entropy")
    temperature: float = Field(1.0, gt=0, description="of the softmax over right rollouts; the higher, the more alike")

    @property
    def reducers(self) -> tuple[LogitReducer, ...]:
        return (Entropy(),)

    def mark(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        share_PG = [self._shares(group, streams_G) for group, streams_G in zip(groups, streams_PG, strict=True)]
        num_groups = sum(any(share_G) for share_G in share_PG)
        # A term is a mean over the weights of all tokens, and this one is to be a mean over groups.
        all_weights = math.fsum(w for streams_G in streams_PG for s in streams_G for w in s.weight_T)
        marked = []
        for streams_G, share_G in zip(streams_PG, share_PG, strict=True):
            factors = [
                share * all_weights / (num_groups * math.fsum(s.weight_T)) if share else 0.0
                for s, share in zip(streams_G, share_G, strict=True)
            ]
            marked.append(
                tuple(
                    replace(s, extras={**s.extras, "entropy_share": (factor,) * len(s.weight_T)})
                    for s, factor in zip(streams_G, factors, strict=True)
                )
            )
        return marked

    def _shares(self, group: Group, streams_G: Sequence[Streams]) -> list[float]:
        """The softmax over the right rollouts that train, 0 for the others."""
        pull_G = [
            math.exp(m.extras.get("path_diversity", 0.0) / self.temperature)
            if m.verdict.is_right and any(s.weight_T)
            else 0.0
            for m, s in zip(group.members, streams_G, strict=True)
        ]
        total = math.fsum(pull_G)
        return [pull / total if total else 0.0 for pull in pull_G]

    def loss(self, tokens: Tokens) -> Tensor:
        return -tokens.extras["entropy_share"] * tokens.extras["entropy"]
