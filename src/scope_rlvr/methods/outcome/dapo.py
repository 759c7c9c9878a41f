"""DAPO: no step without groups that can teach, a wider upper clip, a mean over tokens, a soft penalty on length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, GroupClass, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method


class Dapo(Method):
    """GRPO with decoupled clip and dynamic sampling.

    1. A group whose known verdicts are all right or all wrong is exchanged for one of a freshly drawn problem, up to
       ``max_rounds`` times. What is still flat then stays in its place and counts nowhere, unless ``drop_flat_groups`` is off.
    2. ``r + overlong_penalty · R(|y|)`` with ``R = 0`` up to ``L − C`` tokens, ``−1`` at ``L``, linear between: ``L``
       the longest allowed response, ``C = overlong_share · L``. An unknown verdict stays unknown.
    3. ``(r − mean) / std`` in the group; ratio clipped to ``[0.8, 1.28]``; mean over all tokens of the batch.

    The paper's outcome rewards are ±1 and its penalty goes to −1; rewards here are 1 and 0, hence the penalty of ½.
    Its sampling has no bound. Redrawn problems come from all training problems; figures of a step, its accuracy too, are
    those of the groups that were kept, and the tokens of the others are counted.
    Source: Yu et al. 2025, equations 8 to 13; ``C`` is 4096 of 20480 tokens there.

    >>> dapo = Dapo()
    >>> [dapo.length_penalty(n, max_tokens=100) for n in (80, 90, 100)]
    [0.0, -0.25, -0.5]
    """

    title: ClassVar[str] = "DAPO"
    source: ClassVar[str] = "arXiv 2503.14476"
    changes: ClassVar[str] = "flat groups drawn anew, wider upper clip, token mean, length penalty"
    formula: ClassVar[str] = "`Â = (r + ½R(|y|) − mean) / std`; `S(Â)` with ratios in `[0.8, 1.28]`; mean over tokens"

    name: Literal["dapo"] = "dapo"
    max_rounds: int = Field(3, ge=0, description="redraws of flat groups in one step")
    overlong_share: float = Field(
        0.2, gt=0, le=1, description="share of the longest response, at its end, that is charged for"
    )
    overlong_penalty: float = Field(0.5, ge=0, description="what a response of the full length is charged")
    drop_flat_groups: bool = True
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=0.2, high=0.28)

    @property
    def draws_problems(self) -> bool:
        return True

    def length_penalty(self, num_tokens: int, max_tokens: int) -> float:
        """What a response of this length is charged: 0 or less."""
        buffer = self.overlong_share * max_tokens
        excess = min(max(0.0, num_tokens - (max_tokens - buffer)), buffer)
        return -self.overlong_penalty * excess / buffer if excess else 0.0

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        sampled = tools.sample(groups, num_rollouts)
        for number in range(self.max_rounds):
            flat = [i for i, group in enumerate(sampled) if group.group_class is not GroupClass.MIXED]
            if not flat:
                break
            fresh = tools.sample(tools.fresh_problems(len(flat), number), num_rollouts, "redraw", number)
            for i, group in zip(flat, fresh, strict=True):
                sampled[i] = group if group.group_class is GroupClass.MIXED else sampled[i]
        return sampled

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [
            replace(group, members=tuple(self._charged(member, tools.max_response_tokens) for member in group.members))
            for group in groups
        ]

    def _charged(self, member: Member, max_tokens: int) -> Member:
        pay, penalty = member.verdict.pay, self.length_penalty(len(member.rollout), max_tokens)
        if pay is None or not penalty:
            return member
        return replace(member, verdict=replace(member.verdict, reward=pay + penalty))

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        """As in GRPO; the lengths of responses that are all right, or all wrong, teach nothing."""
        is_used_P = [group.group_class is GroupClass.MIXED or not self.drop_flat_groups for group in groups]
        return super().credit(
            groups,
            [r_G if is_used else [None] * len(r_G) for r_G, is_used in zip(rewards_PG, is_used_P, strict=True)],
            normalisation,
        )
