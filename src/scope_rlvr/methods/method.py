"""What makes one method differ from another: a few small hooks, each with a default that is plain GRPO.

A method is an immutable value: its options are its fields. The engine calls the hooks in this order, once a step:
``sample`` for the rollouts, ``edit_groups`` after the verifier has spoken, ``credit`` once the rewards are known,
``token_loss`` for each micro-batch. What a method has to remember between steps lies in ``Toolbox.memory``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from statistics import fmean
from typing import ClassVar, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from scope_rlvr.core.groups import Group, Member, Role, StepScores, Streams
from scope_rlvr.core.settings import Settings
from scope_rlvr.core.steps import Step
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.advantages import (
    Baseline,
    Normalisation,
    centred_rewards,
    deviations,
    normalise,
    returns_to_go,
)
from scope_rlvr.formulas.losses import Aggregation, Clip, Masked, Shaped, TeacherTerm, Tokens, clipped_policy_loss

_Advantage = TypeVar("_Advantage")
"""One number for a rollout, or one for each of its tokens."""


class Method(Settings):
    """Outcome rewards against a baseline, the same advantage for every token of a rollout.

    ``drop_flat_groups`` leaves groups in which every advantage is zero out of the normaliser as well. A method whose
    paper fixes normalisation, aggregation or clip has it as the default here; ``None`` is what the run's objective says.
    """

    title: ClassVar[str]
    source: ClassVar[str]
    changes: ClassVar[str]
    """What it changes, in a few words."""
    formula: ClassVar[str]
    """Advantage and token loss by default, in one line, as docs/methods.md explains the letters."""

    baseline: Baseline = Baseline.GROUP_MEAN
    drop_flat_groups: bool = False
    normalisation: Normalisation | None = None
    aggregation: Aggregation | None = None
    clip: Clip | None = None

    @property
    def needs_step_scorer(self) -> bool:
        return False

    @property
    def needs_teacher(self) -> bool:
        return False

    @property
    def draws_problems(self) -> bool:
        """Whether groups may be of other problems than those that ``sample`` is given."""
        return False

    @property
    def num_reserved_rows(self) -> int:
        """Rows a group may need beyond the rollouts that are sampled for it."""
        return 0

    def stage(self, step: int, num_steps: int) -> int:
        """Which part of the run a step (from 1) belongs to; the optimiser starts anew where a part begins."""
        return 0

    def learning_rate_factor(self, step: int, num_steps: int) -> float:
        """What the run's learning rate is multiplied by at a step (from 1)."""
        return 1.0

    @property
    def steers_optimizer(self) -> bool:
        """Whether the method has stages or learning rates of its own."""
        own = type(self)
        return own.stage is not Method.stage or own.learning_rate_factor is not Method.learning_rate_factor

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        """The verified rollouts of each group, at most ``num_rollouts``; the groups given have no members yet."""
        return tools.sample(groups, num_rollouts)

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
            self._streams(group, rewards_G, advantage_G, self.credit_member)
            for group, rewards_G, advantage_G in zip(groups, rewards_PG, advantage_PG, strict=True)
        ]

    def _streams(
        self,
        group: Group,
        rewards_G: Sequence[float | None],
        advantage_G: Sequence[_Advantage],
        credit_member: Callable[[Member, _Advantage], Streams],
    ) -> tuple[Streams, ...]:
        """Streams of a group: silent for unknown verdicts and, where flat groups are dropped, for a flat group."""
        streams_G = tuple(
            silent(member) if reward is None else credit_member(member, advantage)
            for member, reward, advantage in zip(group.members, rewards_G, advantage_G, strict=True)
        )
        if self.drop_flat_groups and not any(any(streams.advantage_T) for streams in streams_G):
            return tuple(silent(member) for member in group.members)
        return streams_G

    def credit_member(self, member: Member, advantage: float) -> Streams:
        """Spread a rollout's advantage over its tokens."""
        return own_tokens(member, [advantage] * len(member.rollout))

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        """The loss of each token, ``(B, T)``."""
        return clipped_policy_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, clip)


class GuidedMethod(Method):
    """A method whose groups may hold a teacher's tokens: they train by ``teacher_term``, all others as in GRPO.

    A teacher's token has its rollout's advantage where that is positive, times ``teacher_weight``; it is never pushed
    away.
    """

    teacher_term: TeacherTerm = Shaped()
    teacher_weight: float = Field(1.0, ge=0)

    @property
    def needs_teacher(self) -> bool:
        return True

    def teacher_advantage(self, advantage: float) -> float:
        """The advantage of a teacher's tokens in a rollout with this one."""
        return self.teacher_weight * max(0.0, advantage)

    def credit_member(self, member: Member, advantage: float) -> Streams:
        streams = super().credit_member(member, advantage)
        if not member.rollout.num_tokens_from(Origin.TEACHER):
            return streams
        pull, counts = self.teacher_advantage(advantage), float(not isinstance(self.teacher_term, Masked))
        is_teacher_T = [origin is Origin.TEACHER for origin in streams.origin_T]
        return replace(
            streams,
            advantage_T=tuple(
                pull if t and w else a
                for t, w, a in zip(is_teacher_T, streams.weight_T, streams.advantage_T, strict=True)
            ),
            weight_T=tuple(w * counts if t else w for t, w in zip(is_teacher_T, streams.weight_T, strict=True)),
        )

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        on_policy_BT = super().token_loss(tokens, clip)
        if not tokens.is_teacher_BT.any():
            return on_policy_BT
        return torch.where(tokens.is_teacher_BT, self.teacher_term.loss(tokens, clip), on_policy_BT)


class ScoredMethod(Method):
    """A method whose credit differs from token to token, by what the step scorer says of every rollout.

    A rollout without scores (the scorer failed) keeps the plain outcome credit. Normalisation divides by the deviation
    of the rollouts' mean token advantages, which for an outcome reward is the deviation of the rewards.
    """

    @property
    def needs_step_scorer(self) -> bool:
        return True

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return tools.score_members(groups, lambda member: member.verdict.is_known)

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        advantage_PGT = self.advantages(groups, rewards_PG, normalisation)
        return [
            self._streams(group, rewards_G, advantage_GT, own_tokens)
            for group, rewards_G, advantage_GT in zip(groups, rewards_PG, advantage_PGT, strict=True)
        ]

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[list[list[float]]]:
        """The advantage of every token of every member."""
        advantage_PGT = [self.group_advantages(g, rewards_G) for g, rewards_G in zip(groups, rewards_PG, strict=True)]
        mean_PG = [
            [None if r is None or not a_T else fmean(a_T) for a_T, r in zip(a_GT, rewards_G, strict=True)]
            for a_GT, rewards_G in zip(advantage_PGT, rewards_PG, strict=True)
        ]
        return [
            [[a / scale for a in a_T] for a_T in a_GT]
            for a_GT, scale in zip(advantage_PGT, deviations(mean_PG, normalisation), strict=True)
        ]

    def group_advantages(self, group: Group, rewards_G: Sequence[float | None]) -> list[list[float]]:
        """The advantage of every token of a group's members, before normalisation; of no account where the reward is unknown."""
        raise NotImplementedError

    def outcome_advantages(self, group: Group, rewards_G: Sequence[float | None]) -> tuple[float, ...]:
        """Reward minus baseline for each member, as in GRPO."""
        return centred_rewards(rewards_G, self.baseline, _sampled_rewards(group, rewards_G))


class PaidSteps(StrEnum):
    """Which of a rollout's step scores are paid.

    ``AS_SCORED``: all. ``NOTHING_AFTER_ERROR``: those up to the first wrong step, its own included. A scorer that was
    trained to find the first error (ProcessBench's task) says so with that step's score, which therefore counts; of a step
    that builds on an error neither "right" nor "wrong" is true, and what it says there is an accident. Such steps are left
    out of the reward, the mean and the deviation alike, as if the rollout had ended with its error. A score of 0 instead
    would be lower than the mean and punish every further step as another error.
    """

    AS_SCORED = "as_scored"
    NOTHING_AFTER_ERROR = "nothing_after_error"

    def of(self, scores: StepScores) -> StepScores:
        """The steps that are paid, with their scores.

        >>> steps = (Step("a", 0, 2), Step("b", 2, 3), Step("c", 3, 6))
        >>> PaidSteps.NOTHING_AFTER_ERROR.of(StepScores(steps, (0.9, 0.1, 0.8), first_wrong=1)).scores_S
        (0.9, 0.1)
        """
        if self is PaidSteps.AS_SCORED or scores.first_wrong is None:
            return scores
        end = scores.first_wrong + 1
        return StepScores(scores.steps[:end], scores.scores_S[:end], scores.first_wrong)


class StepRewardMethod(ScoredMethod):
    """A scored method that pays the scores themselves."""

    paid_steps: PaidSteps = Field(
        PaidSteps.AS_SCORED,
        description="which scores count: all, or none after the first wrong step, where a scorer's words mean little",
    )

    def paid_scores(self, group: Group) -> list[StepScores | None]:
        """What of each member's step scores counts; ``None`` without scores."""
        return [None if m.step_scores is None else self.paid_steps.of(m.step_scores) for m in group.members]


def paid_from_here(paid_S: Sequence[float], steps: Sequence[Step], num_tokens: int) -> list[float]:
    """For each of ``num_tokens`` tokens what is paid from its step on; nothing after the last of ``steps``."""
    paid_T = returns_to_go(paid_S, steps)
    return paid_T + [0.0] * (num_tokens - len(paid_T))


def own_tokens(member: Member, advantage_T: Sequence[float]) -> Streams:
    """Streams with these advantages; tokens that the rollout shares with another one are left out."""
    shared_T, own = [0.0] * member.num_shared_tokens, len(member.rollout) - member.num_shared_tokens
    return Streams.of(member.rollout, [*shared_T, *advantage_T[member.num_shared_tokens :]], [*shared_T, *[1.0] * own])


def silent(member: Member) -> Streams:
    """Streams that train nothing and count nowhere: for unknown verdicts and dropped groups."""
    num_tokens = len(member.rollout)
    return Streams.of(member.rollout, [0.0] * num_tokens, [0.0] * num_tokens)


def _sampled_rewards(group: Group, rewards_G: Sequence[float | None]) -> list[float | None]:
    """Rewards of what the policy wrote unaided; a replaced failure has the verifier's alone."""
    own = [reward for member, reward in zip(group.members, rewards_G, strict=True) if member.role is Role.SAMPLED]
    return own + [member.verdict.pay for member in group.replaced]
