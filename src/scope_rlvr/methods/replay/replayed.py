"""What all methods share that train on rollouts of earlier steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.types import Outcome, Rollout, Verdict
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.methods.memory import off_policy, rollout_from_json, rollout_to_json
from scope_rlvr.methods.method import Method

if TYPE_CHECKING:
    from torch import Tensor


class ReplayingMethod(Method):
    """A method whose groups may hold rollouts of earlier steps. Their tokens count as a teacher's, with the
    log-probabilities that they were sampled with; the ratio of the loss is taken to these, since they are no draw from
    the policy of this step."""

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        then_BT = torch.where(tokens.is_teacher_BT, tokens.teacher_logp_BT, tokens.old_logp_BT)
        return super().token_loss(replace(tokens, old_logp_BT=then_BT), clip)


def member_to_json(member: Member) -> dict[str, Any]:
    """A verified rollout as a plain table, for a memory that a checkpoint holds."""
    verdict = member.verdict
    return {
        "rollout": rollout_to_json(member.rollout),
        "outcome": verdict.outcome.value,
        "answer": verdict.answer,
        "reward": verdict.reward,
    }


def replayed(entry: dict[str, Any], group: Group) -> Member:
    """The rollout that was written down, as a member of a group of the same problem."""
    rollout: Rollout = off_policy(rollout_from_json(entry["rollout"]), group.prompt_ids)
    return Member(rollout, Verdict(Outcome(entry["outcome"]), entry["answer"], reward=entry["reward"]), Role.GUIDED)


def right_and_sampled(group: Group) -> list[Member]:
    """The right rollouts of a group that the policy wrote unaided in this step."""
    return [member for member in group.sampled if member.verdict.is_right]


def distinct(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of different tokens, the last one of equal ones."""

    def tokens(entry: dict[str, Any]) -> tuple[int, ...]:
        return tuple(token for segment in entry["rollout"]["segments"] for token in segment["token_ids"])

    return list({tokens(entry): entry for entry in entries}.values())
