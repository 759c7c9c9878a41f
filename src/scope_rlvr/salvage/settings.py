"""The settings of the salvage."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field

from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.salvage.cuts import Cut, FirstWrong
from scope_rlvr.salvage.failure import Failure


class AnyFailure(Settings):
    """Every group with a failure is helped: the method's motive (wasted good prefixes) is not tied to hard groups."""

    kind: Literal["any_failure"] = "any_failure"

    def marks(self, num_right: int, num_known: int) -> bool:
        return num_right < num_known


class AllFail(Settings):
    """Only groups without a single right rollout are helped, as AMPO, GHPO and Guide do."""

    kind: Literal["all_fail"] = "all_fail"

    def marks(self, num_right: int, num_known: int) -> bool:
        return num_known > 0 and num_right == 0


class RateBelow(Settings):
    """Groups whose share of right rollouts is below ``rate`` are helped."""

    kind: Literal["rate_below"] = "rate_below"
    rate: float = Field(0.5, gt=0, le=1)

    def marks(self, num_right: int, num_known: int) -> bool:
        return num_known > 0 and num_right / num_known < self.rate


GroupRule = Annotated[AnyFailure | AllFail | RateBelow, BY_KIND, BARE_NAME]

# --- where to cut -------------------------------------------------------------------------------------------------


class NoErrorRule(StrEnum):
    """What to do with a wrong answer in which the scorer finds no wrong step."""

    SKIP = "skip"
    LAST_STEP = "last_step"
    ARGMIN = "argmin"

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        """The step to take for the first wrong one, ``None`` to leave the rollout alone."""
        if self is NoErrorRule.SKIP or not step_scores_S:
            return None
        if self is NoErrorRule.LAST_STEP:
            return len(step_scores_S) - 1
        return min(range(len(step_scores_S)), key=step_scores_S.__getitem__)


class Ranking(StrEnum):
    """Which of a group's eligible failures come first when there are more than ``max_salvages``.

    ``LONGEST_PREFIX``: largest share of tokens kept, then mean score of the kept steps. ``LATEST_STEP``: most steps
    kept. ``SHORTEST``: shortest response. ``RANDOM``: a seeded draw.
    """

    LONGEST_PREFIX = "longest_prefix"
    LATEST_STEP = "latest_step"
    SHORTEST = "shortest"
    RANDOM = "random"

    def key(self, failure: Failure, rng: random.Random) -> tuple[float, ...]:
        """Sorts ascending: the smallest key is salvaged first. Ties keep the order in the group."""
        num_kept_steps = failure.cut_step or 0
        kept_scores = failure.step_scores_S[:num_kept_steps]
        return {
            Ranking.LONGEST_PREFIX: (-failure.prefix_ratio, -fmean(kept_scores) if kept_scores else 0.0),
            Ranking.LATEST_STEP: (-num_kept_steps,),
            Ranking.SHORTEST: (len(failure.member.rollout),),
            Ranking.RANDOM: (rng.random(),),
        }[self]


# --- what the teacher writes --------------------------------------------------------------------------------------


class OneStep(Settings):
    """The teacher writes the corrected step and ``num_steps`` − 1 further ones, each of at most ``max_tokens`` tokens; the
    policy continues."""

    kind: Literal["step"] = "step"
    num_steps: int = Field(1, ge=1)
    max_tokens: int = Field(200, ge=1)


class Suffix(Settings):
    """The teacher finishes the solution; nothing is left for the policy to continue."""

    kind: Literal["suffix"] = "suffix"


class WholeTrace(Settings):
    """Nothing is kept: the teacher writes the whole solution, as whole-trajectory guidance does."""

    kind: Literal["whole_trace"] = "whole_trace"


class NoTeacher(Settings):
    """Nobody writes: the policy tries again from where it went wrong."""

    kind: Literal["no_teacher"] = "no_teacher"


Mode = Annotated[OneStep | Suffix | WholeTrace | NoTeacher, BY_KIND, BARE_NAME]


class Guards(Settings):
    """Reasons to refuse a teacher's step before anything is spent on continuing it.

    ``repeated``: it says what the rejected step said. ``answer_leak``: it states the right final answer although the
    policy's own next step would not have stated any. ``low_score``: the scorer calls it wrong, too. An empty step or
    one that does not end within its budget is always refused.
    """

    repeated: bool = True
    answer_leak: bool = True
    low_score: bool = True


class Fallback(StrEnum):
    """What to try when all rounds have failed: nothing, or let the teacher finish from the first cut."""

    NONE = "none"
    SUFFIX = "suffix"


class Admission(StrEnum):
    """``VERIFIED``: only what the verifier calls right joins the group. ``ALWAYS``: also what all rounds left wrong."""

    VERIFIED = "verified"
    ALWAYS = "always"


class Insertion(StrEnum):
    """How a salvaged rollout joins its group.

    ``REPLACE``: in the place of the failure. ``APPEND``: beside it. ``PAIR``: beside it, with the shared prefix left out
    of both, so that what remains is the contrast between the rejected step and its correction.
    """

    REPLACE = "replace"
    APPEND = "append"
    PAIR = "pair"


class SalvageSettings(Settings):
    """All that the paper's abstract leaves open about the salvage itself; each default is argued in docs/method.md."""

    max_salvages: int = Field(1, ge=0, description="salvages attempted per group; 0 is plain outcome training")
    group_rule: GroupRule = AnyFailure()
    cut: Cut = FirstWrong()
    no_error_rule: NoErrorRule = NoErrorRule.SKIP
    min_prefix_steps: int = Field(1, ge=0, description="steps that must be left to keep")
    min_prefix_ratio: float = Field(0.1, ge=0, le=1, description="share of the tokens that must be left to keep")
    include_truncated: bool = False
    ranking: Ranking = Ranking.LONGEST_PREFIX
    cut_back_steps: int = Field(
        0, description="right steps given up before the first wrong one; negative: wrong ones kept"
    )
    cut_back_tokens: int = Field(0, ge=0, description="tokens given up before the cut")
    mode: Mode = OneStep()
    max_rounds: int = Field(1, ge=1, description="corrections per rollout")
    num_continuations: int = Field(
        1, ge=1, description="continuations tried after a correction; the first right counts"
    )
    guards: Guards = Guards()
    fallback: Fallback = Fallback.NONE
    admission: Admission = Admission.VERIFIED
    insertion: Insertion = Insertion.REPLACE
    show_rejected_step: bool = False
    show_reference: bool = False

    @property
    def needs_step_scorer(self) -> bool:
        """Whether anything that is asked for here is for the step scorer to say."""
        locates = self.cut.needs_step_scorer or self.max_rounds > 1
        guards = self.guards.low_score and isinstance(self.mode, OneStep)
        return self.max_salvages > 0 and (locates or guards)

    @property
    def needs_teacher(self) -> bool:
        writes = not isinstance(self.mode, NoTeacher) or self.fallback is Fallback.SUFFIX
        return self.max_salvages > 0 and writes
