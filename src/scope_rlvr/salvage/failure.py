"""A failed rollout while it is salvaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scope_rlvr.core.groups import Correction, Group, Member, SalvageOutcome, SalvageRecord
from scope_rlvr.core.steps import Step
from scope_rlvr.core.types import Problem, Rollout, Verdict


@dataclass(slots=True)
class Failure:
    """A wrong rollout: member ``index`` of ``group``, which is number ``group_index`` of the batch.

    The stages of the salvage fill in the other fields, in this order. ``outcome`` stays ``None`` as long as the failure
    can still be salvaged.
    """

    group_index: int
    group: Group
    index: int
    outcome: SalvageOutcome | None = None
    steps: tuple[Step, ...] = ()
    step_scores_S: tuple[float, ...] = ()
    first_wrong: int | None = None
    """The first wrong step by the step scorer."""
    cut_step: int | None = None
    """The step at or inside which to cut."""
    cut_token: int | None = None
    """The token before which to cut; ``None`` for the start of ``cut_step``."""
    prefix: Rollout | None = None
    """What is kept and built on: in later rounds, also corrections and continuations."""
    num_kept_tokens: int = 0
    """Length of the first ``prefix``."""
    rejected_step: str = ""
    """The whole step in which the cut lies."""
    own_next: str = ""
    """What the policy itself wrote after ``prefix``, as many steps as the teacher is to write."""
    corrections: list[Correction] = field(default_factory=list)
    num_continuations: int = 0
    num_continuation_tokens: int = 0
    draft: Rollout | None = None
    """The attempt of this round so far, to be continued unless it is finished."""
    attempt: Rollout | None = None
    """The last attempt that was put together."""
    verdict: Verdict | None = None
    """The verifier's verdict on ``attempt``."""

    @property
    def member(self) -> Member:
        return self.group.members[self.index]

    @property
    def problem(self) -> Problem:
        return self.group.problem

    @property
    def prefix_ratio(self) -> float:
        """Share of the failure's tokens that is kept."""
        return self.num_kept_tokens / max(1, len(self.member.rollout))

    def cut_at_step(self, step: int) -> None:
        """Cut at the start of a step."""
        self.cut_step, self.cut_token = step, None

    def cut_at_token(self, token: int) -> None:
        """Cut before a token, which may be inside a step."""
        self.cut_step = next(index for index, step in enumerate(self.steps) if step.end > token)
        self.cut_token = token

    def record(self) -> SalvageRecord:
        assert self.outcome is not None, "every failure leaves the salvage with an outcome"
        return SalvageRecord(
            outcome=self.outcome,
            steps=self.steps,
            step_scores_S=self.step_scores_S,
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
    """The failures that can still be salvaged."""
    return [failure for failure in failures if failure.outcome is None]
