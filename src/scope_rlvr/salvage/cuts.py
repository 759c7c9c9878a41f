"""Where to cut a failure: each rule is one class, and a new rule is one more class in :data:`Cut`.

Every rule gets all failures of a step at once, so that a model is asked in one batch.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import SalvageOutcome
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.core.steps import Step
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.salvage.failure import Failure

NUM_ENTROPY_TOKENS = 20
"""Tokens of highest entropy among which one is drawn (CURE)."""


class CutRule(Settings):
    """Base of the rules. ``needs_step_scorer``, ``needs_policy`` and ``needs_teacher_scores`` say which models a rule asks."""

    needs_step_scorer: ClassVar[bool] = False
    needs_policy: ClassVar[bool] = False
    needs_teacher_scores: ClassVar[bool] = False

    @abstractmethod
    def locate(self, failures: Sequence[Failure], tools: Toolbox) -> None:
        """Choose where to cut each failure: ``failure.cut_at_step`` or ``failure.cut_at_token``.

        A failure that is neither cut nor given an ``outcome`` is left to the ``no_error_rule``.
        """


class FirstWrong(CutRule):
    """At the first wrong step, by the step scorer: the method itself. The other rules show what the scorer is worth."""

    kind: Literal["first_wrong"] = "first_wrong"
    needs_step_scorer: ClassVar[bool] = True

    def locate(self, failures: Sequence[Failure], tools: Toolbox) -> None:
        scores = tools.score([(f.problem, f.steps) for f in failures])
        for failure, step_scores_S in zip(failures, scores, strict=True):
            if step_scores_S is None:
                failure.outcome = SalvageOutcome.SCORER_FAILED
                continue
            failure.step_scores_S = step_scores_S
            failure.first_wrong = tools.decision_rule.first_wrong(step_scores_S)
            if failure.first_wrong is not None:
                failure.cut_at_step(failure.first_wrong)


class RandomStep(CutRule):
    """At the start of a step drawn at random, never the first."""

    kind: Literal["random_step"] = "random_step"

    def locate(self, failures: Sequence[Failure], tools: Toolbox) -> None:
        rng = random.Random(derive_seed(tools.seed, "cut"))
        for failure in failures:
            step = rng.randrange(1, max(2, len(failure.steps)))
            if step < len(failure.steps):
                failure.cut_at_step(step)
            else:
                failure.outcome = SalvageOutcome.PREFIX_TOO_SHORT


class HighEntropy(CutRule):
    """At a token drawn from the ``NUM_ENTROPY_TOKENS`` at which the policy was least certain (CURE)."""

    kind: Literal["high_entropy"] = "high_entropy"
    needs_policy: ClassVar[bool] = True

    def locate(self, failures: Sequence[Failure], tools: Toolbox) -> None:
        rng = random.Random(derive_seed(tools.seed, "cut"))
        for failure, entropy_T in zip(failures, tools.entropies([f.member.rollout for f in failures]), strict=True):
            token = uncertain_token(entropy_T, NUM_ENTROPY_TOKENS, rng)
            if token < len(entropy_T):
                failure.cut_at_token(token)
            else:
                failure.outcome = SalvageOutcome.PREFIX_TOO_SHORT


class TeacherDrop(CutRule):
    """At the first step with a token that the policy was sure of and that the teacher finds far less likely.

    ``k* = min{k : log π_T(y_t) − log π_old(y_t) < −drop for a t in step k with π_old(y_t) ≥ sure}``. The teacher writes nothing
    for it: it scores the failure's tokens. Where the policy had a choice, the teacher may have made another one, which is no
    mistake; ``sure`` leaves such tokens out. A failure that the teacher could not score is given up; a token whose own probability is unknown
    counts as certain. No step scorer is asked.

    >>> rule = TeacherDrop(drop=2.0, sure=0.8)
    >>> rule.first_drop([-4.0, -0.1, -5.0], [-1.5, -0.1, -0.2], (Step("a", 0, 2), Step("b", 2, 3)))
    1
    """

    kind: Literal["teacher_drop"] = "teacher_drop"
    needs_teacher_scores: ClassVar[bool] = True
    drop: float = Field(3.0, gt=0, description="nats by which a token is less likely to the teacher than to the policy")
    sure: float = Field(
        0.8, ge=0, le=1, description="probability that the policy gave a token, from which on it counts"
    )

    def first_drop(
        self, teacher_T: Sequence[float], own_T: Sequence[float | None], steps: Sequence[Step]
    ) -> int | None:
        """The first step with such a token, by the log-probabilities of both."""
        known_T = [own or 0.0 for own in own_T]
        falls_T = [
            own >= math.log(max(self.sure, 1e-12)) and theirs - own < -self.drop
            for theirs, own in zip(teacher_T, known_T, strict=True)
        ]
        return next((k for k, step in enumerate(steps) if any(falls_T[step.start : step.end])), None)

    def locate(self, failures: Sequence[Failure], tools: Toolbox) -> None:
        rollouts = [failure.member.rollout for failure in failures]
        said = tools.score_tokens(
            [(f.problem, r.prompt_ids, r.token_ids) for f, r in zip(failures, rollouts, strict=True)]
        )
        for failure, rollout, scores in zip(failures, rollouts, said, strict=True):
            if "logprob" not in scores:
                failure.outcome = SalvageOutcome.SCORER_FAILED
                continue
            cut = self.first_drop(scores["logprob"], rollout.logprob_T, failure.steps)
            if cut is not None:
                failure.cut_at_step(cut)


class EntropyJump(CutRule):
    """At the first step in which the policy is much less certain than it was in the steps before.

    ``k* = min{k > 0 : H̄_k > mean_{j<k} H̄_j + jump}`` with ``H̄_k`` the mean entropy of the tokens of step k, in nats. Nobody but
    the policy is asked.

    >>> EntropyJump(jump=0.5).first_jump([0.2, 0.4, 0.9, 0.1])
    2
    """

    kind: Literal["entropy_jump"] = "entropy_jump"
    needs_policy: ClassVar[bool] = True
    jump: float = Field(0.3, gt=0, description="nats by which a step's mean entropy exceeds that of the steps before")

    def first_jump(self, entropy_S: Sequence[float]) -> int | None:
        """The first step whose entropy lies above the mean of those before it by more than the jump."""
        steps = range(1, len(entropy_S))
        return next((k for k in steps if entropy_S[k] > fmean(entropy_S[:k]) + self.jump), None)

    def locate(self, failures: Sequence[Failure], tools: Toolbox) -> None:
        for failure, entropy_T in zip(failures, tools.entropies([f.member.rollout for f in failures]), strict=True):
            cut = self.first_jump([fmean(entropy_T[step.start : step.end]) for step in failure.steps])
            if cut is not None:
                failure.cut_at_step(cut)


class SiblingDisagreement(CutRule):
    """At the first step that no right response of the group has.

    Steps are compared as text, white space aside, wherever they occur. In a group without a right response no step is found.
    Nobody is asked at all. It is made for problems whose steps have one form; where every response words its steps in its own
    way, this is the first step.

    >>> SiblingDisagreement.first_alone(["1 + 1 = 2", "2 + 3 = 6"], [{"1 + 1 = 2", "2 + 3 = 5"}])
    1
    """

    kind: Literal["sibling_disagreement"] = "sibling_disagreement"

    @staticmethod
    def first_alone(steps_S: Sequence[str], right_steps: Sequence[set[str]]) -> int | None:
        """The first of the steps that is in none of the right responses; ``None`` without any."""
        if not right_steps:
            return None
        shared = set[str]().union(*right_steps)
        return next((k for k, step in enumerate(steps_S) if step not in shared), None)

    def locate(self, failures: Sequence[Failure], tools: Toolbox) -> None:
        right_of: dict[int, list[set[str]]] = {}
        for failure in failures:
            if failure.group_index not in right_of:
                right = [m.rollout for m in failure.group.members if m.verdict.is_right]
                right_of[failure.group_index] = [{_bare(s.text) for s in tools.split(rollout)} for rollout in right]
            cut = self.first_alone([_bare(step.text) for step in failure.steps], right_of[failure.group_index])
            if cut is not None:
                failure.cut_at_step(cut)


def _bare(text: str) -> str:
    return " ".join(text.split())


Cut = Annotated[
    FirstWrong | RandomStep | HighEntropy | TeacherDrop | EntropyJump | SiblingDisagreement, BY_KIND, BARE_NAME
]
"""Every rule for the place of the cut, told apart by ``kind``."""


def uncertain_token(
    entropy_T: Sequence[float], num_tokens: int, rng: random.Random, among: Sequence[int] | None = None
) -> int:
    """One of the ``num_tokens`` tokens with the highest entropy before them, each equally likely.

    ``among`` are the indices of those that can be chosen, in order; without it, all but the first, before which there is
    nothing to keep. Of equal entropies the earlier comes first. 0 where there is no token to choose.

    >>> sorted({uncertain_token([9.0, 0.1, 2.0, 0.1, 3.0], 2, random.Random(seed)) for seed in range(9)})
    [2, 4]
    >>> uncertain_token([9.0, 0.1, 2.0, 0.1, 3.0], 1, random.Random(0), among=[1, 2, 3])
    2
    """
    tokens = range(1, len(entropy_T)) if among is None else among
    ranked = sorted(tokens, key=lambda t: -entropy_T[t])[:num_tokens]
    return rng.choice(ranked) if ranked else 0
