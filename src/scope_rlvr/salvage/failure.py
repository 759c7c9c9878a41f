"""A failure on its way through the salvage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scope_rlvr.core.groups import Correction, Member, SalvageOutcome, SalvageRecord
from scope_rlvr.core.steps import Step
from scope_rlvr.core.types import Problem, Rollout, Verdict


@dataclass(slots=True)
class Failure:
    """A wrong rollout on its way through the salvage; ``outcome`` is set as soon as its way ends."""

    group: int
    index: int
    problem: Problem
    member: Member
    outcome: SalvageOutcome | None = None
    steps: tuple[Step, ...] = ()
    scores: tuple[float, ...] = ()
    first_wrong: int | None = None
    """The first wrong step by the step scorer."""
    cut_step: int | None = None
    """The step at or inside which to cut."""
    cut_token: int | None = None
    """Where to cut, if that is not the start of ``cut_step``."""
    prefix: Rollout | None = None
    rejected_step: str = ""
    """The step of the cut, whole."""
    own_next: str = ""
    """What the policy wrote in the place of what the teacher is to write."""
    corrections: list[Correction] = field(default_factory=list)
    num_kept_tokens: int = 0
    num_continuations: int = 0
    num_continuation_tokens: int = 0
    draft: Rollout | None = None
    """What stands so far in this round, to be continued unless it is finished."""
    attempt: Rollout | None = None
    verdict: Verdict | None = None

    @property
    def prefix_ratio(self) -> float:
        return self.num_kept_tokens / max(1, len(self.member.rollout))

    def record(self) -> SalvageRecord:
        assert self.outcome is not None, "every failure leaves the salvage with an outcome"
        return SalvageRecord(
            outcome=self.outcome,
            steps=self.steps,
            step_scores_S=self.scores,
            first_wrong_step=self.first_wrong,
            cut_step=self.cut_step,
            num_kept_tokens=self.num_kept_tokens,
            corrections=tuple(self.corrections),
            num_continuations=self.num_continuations,
            num_continuation_tokens=self.num_continuation_tokens,
            attempt=self.attempt,
            verdict=self.verdict,
        )


def still_open(failures: Sequence[Failure]) -> list[Failure]:
    return [failure for failure in failures if failure.outcome is None]
