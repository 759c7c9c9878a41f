"""Extra terms: differentiable, beside the loss, a mean over the tokens with weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.losses import Tokens, kl_penalty
from scope_rlvr.formulas.readings import Entropy, LogitReducer
from scope_rlvr.methods.parts.base import Need, Status, Term
from scope_rlvr.methods.reading import ReadBy, Reading


class EntropySmoothing(Term):
    """Entropy is kept near its own history: a bonus, and a hinge where it leaves a band around the mean so far.

    ``−bonus·H_t + penalty·(max(0, low·H̄ − H_t) + max(0, H_t − high·H̄))`` with ``H̄`` the mean of the entropies of the
    steps so far. The weight rises linearly to its full value over ``warmup`` steps. Source: EPO (agents), read in its code,
    where the penalty is a constant chosen by comparison and so carries no gradient; a hinge on the entropy is what the text
    describes.

    >>> import torch
    >>> from scope_rlvr.formulas.losses import example_tokens
    >>> from dataclasses import replace
    >>> tokens = replace(example_tokens(0.5), extras={"entropy": torch.tensor([[0.5]]), "mean_entropy": torch.tensor([[1.0]])})
    >>> EntropySmoothing(bonus=0.0, penalty=1.0).loss(tokens)  # 0.8 · 1 − 0.5
    tensor([[0.3000]])
    """

    title: ClassVar[str] = "EPO smoothing"
    source: ClassVar[str] = "arXiv 2509.22576"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "entropy is held within a band around its mean so far"
    formula: ClassVar[str] = "`+ λ·mean(−b·H + p·hinge(H; 0.8·H̄, 1.2·H̄))`"
    departures: ClassVar[str] = "a hinge in the place of a constant; no phases of an episode"
    carries = ("mean_entropy",)

    kind: Literal["entropy_smoothing"] = "entropy_smoothing"
    bonus: float = Field(0.001, ge=0, description="weight of the plain entropy bonus in the term")
    penalty: float = Field(0.1, ge=0, description="weight of the hinge")
    low: float = Field(0.8, ge=0, description="lower end of the band, as a multiple of the mean entropy so far")
    high: float = Field(1.2, ge=0, description="upper end of the band, as a multiple of the mean entropy so far")
    warmup: int = Field(0, ge=0, description="steps over which the weight rises to its full value")

    @property
    def reducers(self) -> tuple[LogitReducer, ...]:
        return (Entropy(),)

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("entropy", Entropy()),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        found = [h for group in groups for member in group.members for h in member.extras.get("entropy", ())]
        mean_so_far = tools.memory.setdefault("entropy_smoothing", {"sum": 0.0, "count": 0})
        if found:
            mean_so_far["sum"] += sum(found) / len(found)
            mean_so_far["count"] += 1
        mean = mean_so_far["sum"] / max(1, mean_so_far["count"])
        return [
            replace(group, members=tuple(member.having(mean_entropy=mean) for member in group.members))
            for group in groups
        ]

    def weight_after(self, figures: Mapping[str, float], tools: Toolbox) -> float:
        return self.weight * min(1.0, tools.step / self.warmup) if self.warmup else self.weight

    def loss(self, tokens: Tokens) -> Tensor:
        entropy_BT, mean_BT = tokens.extras["entropy"], tokens.extras["mean_entropy"]
        below_BT = (self.low * mean_BT - entropy_BT).clamp(min=0)
        above_BT = (entropy_BT - self.high * mean_BT).clamp(min=0)
        return -self.bonus * entropy_BT + self.penalty * (below_BT + above_BT)


class Anchor(Term):
    """A KL penalty to the policy before training, or to the moving average of the policies so far.

    ``π_a/π − log(π_a/π) − 1`` on each token. Source: Schulman 2020 (k3); the average as an anchor: WARP (Ramé et al. 2024).

    >>> import torch
    >>> from scope_rlvr.formulas.losses import example_tokens
    >>> from dataclasses import replace
    >>> tokens = replace(example_tokens(0.5), extras={"anchor_logprob": torch.log(torch.tensor([[0.25]]))})
    >>> Anchor().loss(tokens).round(decimals=4)
    tensor([[0.1931]])
    """

    title: ClassVar[str] = "Anchor"
    source: ClassVar[str] = "arXiv 2406.16768"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "a KL penalty to the average of the policies so far, or to the first one"
    formula: ClassVar[str] = "`+ λ·mean(π_a/π − log(π_a/π) − 1)`"
    departures: ClassVar[str] = "no merging of several runs"
    carries = ("anchor_logprob",)

    kind: Literal["anchor"] = "anchor"
    weight: float = Field(0.01, ge=0, description="factor on the penalty")
    to: Literal["average", "reference"] = Field("average", description="the model that the policy is held to")
    decay: float = Field(0.99, ge=0, lt=1, description="decay of the average in a step")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset()

    @property
    def average_decay(self) -> float | None:
        return self.decay if self.to == "average" else None

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("anchor_logprob", by=ReadBy(self.to)),)

    def loss(self, tokens: Tokens) -> Tensor:
        return kl_penalty(tokens.logp_BT, tokens.extras["anchor_logprob"])
