"""Where to cut a failure: each rule is one class, and a new rule is one more class in :data:`Cut`.

Every rule gets all failures of a step at once, so that a model is asked in one batch.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from scope_rlvr.core.groups import SalvageOutcome
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.salvage.failure import Failure

NUM_ENTROPY_TOKENS = 20
"""Tokens of highest entropy among which one is drawn (CURE)."""


class CutRule(Settings):
    """Base of the rules. ``needs_step_scorer`` and ``needs_policy`` say which models a rule asks."""

    needs_step_scorer: ClassVar[bool] = False
    needs_policy: ClassVar[bool] = False

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


Cut = Annotated[FirstWrong | RandomStep | HighEntropy, BY_KIND, BARE_NAME]
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
