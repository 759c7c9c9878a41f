"""The settings of the salvage, and the rules that they choose between."""

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
    """Mark every group with a failure: good prefixes are wasted in easy groups, too.

    >>> AnyFailure().marks(num_right=3, num_known=4)
    True
    """

    kind: Literal["any_failure"] = "any_failure"

    def marks(self, num_right: int, num_known: int) -> bool:
        return num_right < num_known


class AllFail(Settings):
    """Mark only groups without a single right rollout, as AMPO, GHPO and Guide do.

    >>> AllFail().marks(num_right=0, num_known=4), AllFail().marks(num_right=1, num_known=4)
    (True, False)
    """

    kind: Literal["all_fail"] = "all_fail"

    def marks(self, num_right: int, num_known: int) -> bool:
        return num_known > 0 and num_right == 0


class RateBelow(Settings):
    """Mark groups in which the share of right rollouts is below ``rate``.

    >>> RateBelow(rate=0.5).marks(num_right=1, num_known=4), RateBelow(rate=0.5).marks(num_right=2, num_known=4)
    (True, False)
    """

    kind: Literal["rate_below"] = "rate_below"
    rate: float = Field(0.5, gt=0, le=1)

    def marks(self, num_right: int, num_known: int) -> bool:
        return num_known > 0 and num_right / num_known < self.rate


GroupRule = Annotated[AnyFailure | AllFail | RateBelow, BY_KIND, BARE_NAME]
"""Every rule that marks the groups to salvage, by the numbers of right rollouts and of known verdicts."""


class NoErrorRule(StrEnum):
    """What to do with a wrong answer in which the scorer finds no wrong step.

    ``SKIP``: leave the failure as it is. ``LAST_STEP``: cut at the last step. ``ARGMIN``: cut at the step with the lowest
    score, the earliest of equals.

    >>> [rule.first_wrong([0.9, 0.6, 0.7]) for rule in NoErrorRule]
    [None, 2, 1]
    """

    SKIP = "skip"
    LAST_STEP = "last_step"
    ARGMIN = "argmin"

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        """The step that counts as the first wrong one; ``None`` leaves the failure as it is."""
        if self is NoErrorRule.SKIP or not step_scores_S:
            return None
        if self is NoErrorRule.LAST_STEP:
            return len(step_scores_S) - 1
        return min(range(len(step_scores_S)), key=step_scores_S.__getitem__)


class Ranking(StrEnum):
    """Which eligible failures of a group come first if there are more than ``max_salvages``.

    ``LONGEST_PREFIX``: the largest share of tokens kept, then the best mean score of the steps before the cut.
    ``LATEST_STEP``: the latest cut, in steps. ``SHORTEST``: the shortest response. ``RANDOM``: a seeded draw.
    """

    LONGEST_PREFIX = "longest_prefix"
    LATEST_STEP = "latest_step"
    SHORTEST = "shortest"
    RANDOM = "random"

    def key(self, failure: Failure, rng: random.Random) -> tuple[float, ...]:
        """The failure with the smallest key comes first. Of equals, the first in the group does."""
        num_kept_steps = failure.cut_step or 0
        kept_scores = failure.step_scores_S[:num_kept_steps]
        return {
            Ranking.LONGEST_PREFIX: (-failure.prefix_ratio, -fmean(kept_scores) if kept_scores else 0.0),
            Ranking.LATEST_STEP: (-num_kept_steps,),
            Ranking.SHORTEST: (len(failure.member.rollout),),
            Ranking.RANDOM: (rng.random(),),
        }[self]


class OneStep(Settings):
    """The teacher writes ``num_steps`` steps, each of at most ``max_tokens`` tokens; the policy continues."""

    kind: Literal["step"] = "step"
    num_steps: int = Field(1, ge=1)
    max_tokens: int = Field(200, ge=1)


class Suffix(Settings):
    """The teacher writes the rest of the solution; the policy continues nothing."""

    kind: Literal["suffix"] = "suffix"


class WholeTrace(Settings):
    """The teacher writes the whole solution and nothing of the failure is kept, as in whole-trajectory guidance."""

    kind: Literal["whole_trace"] = "whole_trace"


class NoTeacher(Settings):
    """No teacher: the policy itself tries again from the cut."""

    kind: Literal["no_teacher"] = "no_teacher"


Mode = Annotated[OneStep | Suffix | WholeTrace | NoTeacher, BY_KIND, BARE_NAME]
"""How much the teacher writes."""


class Guards(Settings):
    """Reasons to refuse a teacher's step before the policy spends tokens on continuing it.

    ``repeated``: it repeats the rejected step. ``answer_leak``: it states the right final answer, and the policy's own
    steps in its place stated no answer. ``low_score``: the scorer calls it wrong. An empty step, and one that does not
    end within its budget, is always refused.
    """

    repeated: bool = Field(True, description="refuse a step that repeats the rejected step")
    answer_leak: bool = Field(
        True,
        description="refuse a step that states the right final answer if the policy's own steps in its place stated no "
        "answer",
    )
    low_score: bool = Field(True, description="refuse a step that the step scorer calls wrong")


class Fallback(StrEnum):
    """What to try if all rounds fail: nothing, or let the teacher finish the solution from the first cut."""

    NONE = "none"
    SUFFIX = "suffix"


class Admission(StrEnum):
    """What joins the group. ``VERIFIED``: only attempts with the verdict right. ``ALWAYS``: also attempts that are still
    wrong after all rounds."""

    VERIFIED = "verified"
    ALWAYS = "always"


class Insertion(StrEnum):
    """How a salvaged rollout joins its group.

    ``REPLACE``: in place of the failure. ``APPEND``: in addition to it. ``PAIR``: in addition to it, and the shared prefix
    trains in neither, so that only the contrast between the rejected step and its correction is left.
    """

    REPLACE = "replace"
    APPEND = "append"
    PAIR = "pair"


class SalvageSettings(Settings):
    """How to salvage. The paper's abstract leaves all of this open; docs/method.md gives the reason for each default."""

    max_salvages: int = Field(1, ge=0, description="salvages attempted per group; 0 is plain outcome training")
    group_rule: GroupRule = Field(AnyFailure(), description="in which groups failures are salvaged")
    cut: Cut = Field(FirstWrong(), description="where a failure is cut")
    no_error_rule: NoErrorRule = Field(
        NoErrorRule.SKIP,
        description="what counts as the first wrong step if the scorer finds none in a wrong response: nothing, the last "
        "step, or the step with the lowest score",
    )
    min_prefix_steps: int = Field(1, ge=0, description="whole steps that must be kept")
    min_prefix_ratio: float = Field(0.1, ge=0, le=1, description="share of the tokens that must be kept")
    include_truncated: bool = Field(False, description="also salvage responses that were truncated")
    ranking: Ranking = Field(
        Ranking.LONGEST_PREFIX,
        description="which failures of a group come first if there are more than `max_salvages`: the longest kept prefix, the "
        "latest cut, the shortest response, or a seeded draw",
    )
    cut_back_steps: int = Field(
        0,
        description="steps given up before the step of the cut; a negative number keeps wrong ones; without effect where `cut` "
        "is `high_entropy`",
    )
    cut_back_tokens: int = Field(0, ge=0, description="tokens given up before the cut")
    mode: Mode = Field(
        OneStep(), description="what the teacher writes: one step that the policy continues, or the whole rest"
    )
    max_rounds: int = Field(1, ge=1, description="corrections per rollout")
    num_continuations: int = Field(
        1, ge=1, description="continuations tried after a correction; the first right one counts"
    )
    guards: Guards = Field(Guards(), description="reasons to refuse a teacher's step before the policy continues it")
    fallback: Fallback = Field(
        Fallback.NONE,
        description="what to try if all rounds fail: nothing, or let the teacher finish from the first cut",
    )
    admission: Admission = Field(
        Admission.VERIFIED,
        description="what joins the group. `verified`: only what the verifier calls right. `always`: also what is still wrong "
        "after all rounds",
    )
    insertion: Insertion = Field(
        Insertion.REPLACE,
        description="how a salvaged rollout joins its group. `replace`: in place of the failure. `append`: in addition to it. "
        "`pair`: in addition to it, and the shared prefix trains in neither. The last two reserve `max_salvages` rows a group",
    )
    show_rejected_step: bool = Field(
        False,
        description="show the rejected step to the teacher. A local model only continues the text and cannot use it",
    )
    show_reference: bool = Field(
        False,
        description="show the reference answer to the teacher. A local model only continues the text and cannot use it",
    )

    @property
    def uses_step_scorer(self) -> bool:
        """Whether these settings ask the step scorer anything."""
        locates = self.cut.needs_step_scorer or self.max_rounds > 1
        guards = self.guards.low_score and isinstance(self.mode, OneStep)
        return self.max_salvages > 0 and (locates or guards)

    @property
    def teacher_writes(self) -> bool:
        """Whether the teacher is to write anything."""
        writes = not isinstance(self.mode, NoTeacher) or self.fallback is Fallback.SUFFIX
        return self.max_salvages > 0 and writes

    @property
    def teacher_scores(self) -> bool:
        """Whether the teacher is to score tokens that it did not write."""
        return self.max_salvages > 0 and self.cut.needs_teacher_scores

    @property
    def uses_teacher(self) -> bool:
        """Whether these settings ask the teacher anything."""
        return self.teacher_writes or self.teacher_scores
