"""Other rewards than the verifier's: unlikeliness, and the length of thoughts."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.group_rewards import ThoughtLength, Unlikeliness
from scope_rlvr.methods.parts.value_baseline import ValueBaseline


class RewardUnlikely(Method):
    """GRPO in which right rollouts that the policy found likely are paid less than rare ones.

    ``r_i·(1 − ¼·rank_i/G)``, then ``(r − mean)/std``; groups of equal rewards are dropped; a KL penalty of 0.1. The paper's second
    remedy is to make two updates of each batch: set ``objective.updates_per_batch = 2``. Source: He et al. 2025,
    "Rewarding the Unlikely".

    >>> RewardUnlikely().kl, RewardUnlikely().own_parts[0].weight
    (0.1, 0.25)
    """

    title: ClassVar[str] = "Rewarding the Unlikely"
    source: ClassVar[str] = "arXiv 2506.02355"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "likely right rollouts are paid less than rare ones"
    formula: ClassVar[str] = "`r·(1 − ¼·rank/G)`; `Â = (r − mean) / std`; `S(Â) + 0.1·KL`"
    departures: ClassVar[str] = (
        "one update a batch unless the run says two; no buffer, no skipping of steps with large gradients"
    )

    name: Literal["reward_unlikely"] = "reward_unlikely"
    weight: float = Field(0.25, ge=0, le=1, description="what the likeliest rollout of a large group loses")
    drop_flat_groups: bool = True
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    kl: float | None = 0.1

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (Unlikeliness.of(self),)


class Rlsp(Method):
    """Reinforcement learning via self-play in its simplest form: PPO with a reward that charges short thoughts.

    ``r − min(1, cost/|y|)``, a trained value baseline, and a KL penalty of 0.05. Source: RLSP (2502.06773), and its released code,
    github.com/GuanghaoYe/Emergence-of-Thinking at e7feea7.

    >>> [part.kind for part in Rlsp().own_parts]
    ['thought_length', 'value_baseline']
    """

    title: ClassVar[str] = "RLSP"
    source: ClassVar[str] = "arXiv 2502.06773"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "PPO, and short responses are charged"
    formula: ClassVar[str] = "`r − min(1, 1000/|y|)`; `Â` from a value head; `S(Â) + 0.05·KL`"
    departures: ClassVar[str] = "the length form of its reward for exploration, without a language model's mark"

    name: Literal["rlsp"] = "rlsp"
    cost: float = Field(1000.0, ge=0, description="tokens of a response that is charged the whole reward")
    kl: float | None = 0.05

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return ThoughtLength.of(self), ValueBaseline()
