"""What makes one method differ from another: a few small hooks, each with a default that is plain GRPO.

A method is an immutable value: its options are its fields. The engine calls the hooks in this order, once a step:
``edit_groups`` after the verifier has spoken, ``credit`` once the rewards are known, ``token_loss`` for each
micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from scope_rlvr.credit import Baseline, Normalisation, centred_rewards, normalise
from scope_rlvr.objective import Clip, Tokens, clipped_policy_loss
from scope_rlvr.salvage import Toolbox
from scope_rlvr.settings import Settings
from scope_rlvr.types import Group, Member, Role, Streams


class Method(Settings):
    """Outcome rewards against a baseline, the same advantage for every token of a rollout.

    ``drop_flat_groups`` leaves groups in which every advantage is zero out of the normaliser as well.
    """

    title: ClassVar[str]
    source: ClassVar[str]

    baseline: Baseline = Baseline.GROUP_MEAN
    drop_flat_groups: bool = False

    @property
    def needs_step_scorer(self) -> bool:
        return False

    @property
    def needs_teacher(self) -> bool:
        return False

    @property
    def num_reserved_rows(self) -> int:
        """Rows a group may need beyond the rollouts that are sampled for it."""
        return 0

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """The groups that train, made from the groups that were sampled."""
        return list(groups)

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        """Streams for every member of every group. ``None`` is the reward of an unknown verdict."""
        centred_PG = [
            centred_rewards(rewards_G, self.baseline, _sampled_rewards(group, rewards_G))
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]
        advantage_PG = normalise(centred_PG, rewards_PG, normalisation)
        return [
            self._credit_group(group, rewards_G, advantage_G)
            for group, rewards_G, advantage_G in zip(groups, rewards_PG, advantage_PG, strict=True)
        ]

    def _credit_group(
        self, group: Group, rewards_G: Sequence[float | None], advantage_G: Sequence[float]
    ) -> tuple[Streams, ...]:
        is_dropped = self.drop_flat_groups and not any(advantage_G)
        return tuple(
            silent(member) if reward is None or is_dropped else self.credit_member(member, advantage)
            for member, reward, advantage in zip(group.members, rewards_G, advantage_G, strict=True)
        )

    def credit_member(self, member: Member, advantage: float) -> Streams:
        """Spread a rollout's advantage over its tokens."""
        num_tokens = len(member.rollout)
        return Streams.of(member.rollout, [advantage] * num_tokens, [1.0] * num_tokens)

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        """The loss of each token, ``(B, T)``."""
        return clipped_policy_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, clip)


def silent(member: Member) -> Streams:
    """Streams that train nothing and count nowhere: for unknown verdicts and dropped groups."""
    num_tokens = len(member.rollout)
    return Streams.of(member.rollout, [0.0] * num_tokens, [0.0] * num_tokens)


def _sampled_rewards(group: Group, rewards_G: Sequence[float | None]) -> list[float | None]:
    """Rewards of what the policy wrote unaided; a replaced failure has the verifier's alone."""
    own = [reward for member, reward in zip(group.members, rewards_G, strict=True) if member.role is Role.SAMPLED]
    return own + [member.verdict.pay for member in group.replaced]
