"""A bonus for responses that the policy would have written otherwise to a slightly different prompt."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Reward, Status
from scope_rlvr.methods.reading import Reading, Text

CLEAN, PERTURBED = "policy_logprob", "perturbed_logprob"


class PromptSensitivity(Reward):
    """A bonus by how far the policy's distribution moves when words are missing from the prompt: explore where it is unsure.

    ``r ← r + weight · min(s, largest)``, ``s = mean_t (a_t − 1 + e^(−a_t))`` with ``a_t = log π(y_t | x) − log π(y_t | x′)``: an estimate of
    ``KL(π(·|x) ‖ π(·|x′))`` that is never negative, over the tokens of the response; ``x′`` is the prompt without a random ``dropped`` share
    of its words, at least one, drawn anew for each rollout. Source: VOGUE (2510.01444), where the prompt is an image with noise,
    and the divergence is symmetric.

    >>> PromptSensitivity.surprise([-0.5, -0.5], [-0.5, -1.5])  # (0 + e^(−1))/2
    0.18393972058572117
    """

    title: ClassVar[str] = "VOGUE bonus"
    source: ClassVar[str] = "arXiv 2510.01444"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "responses that depend on the wording of the prompt are paid more"
    formula: ClassVar[str] = "`r + λ·KL(π(·|x) ‖ π(·|x′))`, `x′` the prompt without some of its words"
    departures: ClassVar[str] = "words in the place of pixels; one direction of the divergence, by the sampled tokens"

    kind: Literal["prompt_sensitivity"] = "prompt_sensitivity"
    weight: float = Field(0.1, ge=0, description="factor on the bonus; 0 is none")
    dropped: float = Field(0.1, gt=0, lt=1, description="share of the prompt's words that are missing")
    largest: float = Field(1.0, gt=0, description="divergence in nats a token, above which nothing more is paid")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return Reading(CLEAN), Reading(PERTURBED, text=self.perturbed)

    def perturbed(self, group: Group, member: Member, tools: Toolbox) -> Text | None:
        """The response after a prompt with words missing; ``None`` for a prompt of one word."""
        words = group.problem.prompt.split(" ")
        if len(words) < 2:
            return None
        place = next(i for i, other in enumerate(group.members) if other is member)
        rng = random.Random(derive_seed(tools.seed, self.kind, group.problem.id, place))
        missing = set(rng.sample(range(len(words)), max(1, round(self.dropped * len(words)))))
        shown = " ".join(word for i, word in enumerate(words) if i not in missing)
        return tools.read_prompt(group.problem, shown), member.rollout.token_ids

    @staticmethod
    def surprise(clean_T: Sequence[float], perturbed_T: Sequence[float]) -> float:
        """The divergence a token, from the log-probabilities of the response after either prompt."""
        gaps = [max(-30.0, min(30.0, c - p)) for c, p in zip(clean_T, perturbed_T, strict=True)]
        return fmean([gap - 1 + math.exp(-gap) for gap in gaps]) if gaps else 0.0

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        clean, perturbed = member.extras.get(CLEAN), member.extras.get(PERTURBED)
        if clean is None or perturbed is None:
            return member.verdict.pay
        return member.verdict.pay + self.weight * min(self.largest, self.surprise(clean, perturbed))
