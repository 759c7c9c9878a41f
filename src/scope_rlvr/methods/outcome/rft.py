"""RFT: rejection fine-tuning, imitation of the policy's own successes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Estimator, Status, TokenAdvantages

if TYPE_CHECKING:
    from torch import Tensor


class Rft(Method):
    """Maximum likelihood of the distinct right rollouts of each group: ``−log π``; failures and repetitions do not count.

    No baseline and nothing negative. Source: Yuan et al. 2023 (RFT), section 3.3, done online with the rollouts of the
    current policy as in RAFT (Dong et al. 2023).

    >>> from scope_rlvr.core.types import *
    >>> from scope_rlvr.core.groups import *
    >>> def member(outcome, *ids):
    ...     return Member(Rollout((1,), (Segment(ids, Origin.POLICY),)), Verdict(outcome))
    >>> group = Group(Problem("p", "?", "1"), (member(Outcome.RIGHT, 7), member(Outcome.RIGHT, 7), member(Outcome.WRONG, 8)))
    >>> [s.advantage_T + s.weight_T for s in Rft().credit([group], [[1.0, 1.0, 0.0]], Normalisation.NONE)[0]]
    [(1.0, 1.0), (0.0, 0.0), (0.0, 0.0)]
    """

    title: ClassVar[str] = "RFT"
    source: ClassVar[str] = "arXiv 2308.01825"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "imitates the policy's own distinct successes"
    formula: ClassVar[str] = "`−log π` on distinct right rollouts"
    departures: ClassVar[str] = (
        "online, from the current policy; repetitions are equal tokens, not equal lists of equations"
    )

    name: Literal["rft"] = "rft"

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        """Each distinct success trains; nothing else does."""
        return super().credit(groups, [_successes(group) for group in groups], normalisation)

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        if self.parts_of(Estimator):
            return super().advantages(groups, rewards_PG, normalisation)
        return [[[1.0] * len(member.rollout) for member in group.members] for group in groups]

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        return -tokens.advantage_BT * tokens.logp_BT


def _successes(group: Group) -> list[float | None]:
    """1 for the first of equal right rollouts, ``None`` for any other rollout."""
    seen: set[tuple[int, ...]] = set()
    found: list[float | None] = []
    for member in group.members:
        found.append(1.0 if member.verdict.is_right and member.rollout.token_ids not in seen else None)
        seen.add(member.rollout.token_ids)
    return found
