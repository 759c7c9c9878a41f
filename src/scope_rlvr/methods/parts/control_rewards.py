"""Controls: rewards that should teach nothing, or little, to compare the gain of a real reward with."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Reward, Status


class RandomReward(Reward):
    """Every rollout is paid 1 or 0 at random, whatever the verifier says: what remains is what training does by itself.

    ``r ~ Bernoulli(rate)``, drawn anew for each rollout. Source: Shao et al. 2025, "Spurious Rewards", and its released code,
    github.com/ruixin31/Spurious_Rewards: ``code/ttrl/verifier/auto_verify.py``; also arXiv 2512.16912.

    >>> RandomReward(rate=1).drawn(3, seed=7), RandomReward(rate=0).drawn(3, seed=7)
    ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    """

    title: ClassVar[str] = "Random reward"
    source: ClassVar[str] = "arXiv 2506.10947"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rewards are drawn at random: a control"
    formula: ClassVar[str] = "`r ~ Bernoulli(½)`"

    kind: Literal["random_reward"] = "random_reward"
    rate: float = Field(0.5, ge=0, le=1, description="chance of a rollout to be paid 1")

    def drawn(self, num_rollouts: int, seed: int) -> list[float]:
        rng = random.Random(seed)
        return [float(rng.random() < self.rate) for _ in range(num_rollouts)]

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [self._with_draws(group, derive_seed(tools.seed, self.kind, i)) for i, group in enumerate(groups)]

    def _with_draws(self, group: Group, seed: int) -> Group:
        """One draw for each known verdict, so that an unknown one changes nothing for the others."""
        draws = iter(self.drawn(sum(member.verdict.is_known for member in group.members), seed))
        return replace(
            group,
            members=tuple(m.having(random_reward=next(draws)) if m.verdict.is_known else m for m in group.members),
        )

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        drawn: float = member.extras["random_reward"]
        return drawn


class FormatReward(Reward):
    """Every response with an answer is paid 1, right or not: ``r = 1[there is an answer]``.

    Source: Shao et al. 2025, "Spurious Rewards", section 2, where the answer is in a box.

    >>> from scope_rlvr.core.types import *
    >>> def member(answer):
    ...     return Member(Rollout((), (Segment((5,), Origin.POLICY),)), Verdict(Outcome.WRONG, answer))
    >>> [FormatReward().reward(None, member(answer), None) for answer in ("3", None)]
    [1.0, 0.0]
    """

    title: ClassVar[str] = "Format reward"
    source: ClassVar[str] = "arXiv 2506.10947"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "any answer is paid: a control"
    formula: ClassVar[str] = "`r = 1[there is an answer]`"

    kind: Literal["format_reward"] = "format_reward"

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        return float(member.verdict.answer is not None)


class FlippedVerdicts(Reward):
    """A verifier that errs: with some chance all rewards of a group are turned round.

    ``r ← 1 − r`` in a whole group, drawn once a group. With ``rate = 1`` what is wrong is paid, the "incorrect" control of
    "Spurious Rewards". Source: Lv et al. 2025, "The Climb Carves Wisdom Deeper Than the Summit", and its released code,
    github.com/trestad/Noisy-Rewards-in-Learning-to-Reason at 083f72b: ``verl/workers/reward_manager/naive.py``.

    >>> FlippedVerdicts(rate=1).is_flipped(seed=7), FlippedVerdicts(rate=0).is_flipped(seed=7)
    (True, False)
    """

    title: ClassVar[str] = "Flipped verdicts"
    source: ClassVar[str] = "arXiv 2505.22653"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the rewards of some groups are turned round: a control"
    formula: ClassVar[str] = "`1 − r` with a chance of 0.4 for each group"

    kind: Literal["flipped_verdicts"] = "flipped_verdicts"
    rate: float = Field(0.4, ge=0, le=1, description="chance of a group to be turned round")

    def is_flipped(self, seed: int) -> bool:
        return random.Random(seed).random() < self.rate

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        flipped_P = [float(self.is_flipped(derive_seed(tools.seed, self.kind, i))) for i in range(len(groups))]
        return [
            replace(group, members=tuple(member.having(is_flipped=flipped) for member in group.members))
            for group, flipped in zip(groups, flipped_P, strict=True)
        ]

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        return 1 - member.verdict.pay if member.extras.get("is_flipped") else member.verdict.pay


REASONING_PHRASES = (
    "wait", "let me", "let us", "let's", "check", "verify", "again", "alternatively", "instead", "suppose", "assume",
    "because", "since", "therefore", "thus", "so that", "first", "next", "then", "finally", "for example", "in other words",
)  # fmt: skip
"""Words of a text that reasons."""


class ReasoningPhrases(Reward):
    """Pays for phrases of reasoning, not for being right: a reward that is easy to game, for tests of what rewards do.

    ``r ← (1 − share)·r + share·R`` with ``R = min(1, phrases present / enough) − repeated``, at least 0; ``repeated`` is the share
    of the text's runs of ``run`` words that it has said before. Source: Lv et al. 2025, reasoning pattern reward, and its
    released code, github.com/trestad/Noisy-Rewards-in-Learning-to-Reason at 083f72b: ``utils/reward_score/math_score.py``. Its
    list has 40 phrases of its own, and it also charges for questions that a response asks itself.

    >>> part = ReasoningPhrases(enough=4, run=2)
    >>> [round(part.worth(text), 4) for text in ("First add. Then check.", "Then check then check.")]  # of 3 runs, 1 is repeated
    [0.75, 0.1667]
    """

    title: ClassVar[str] = "RPR"
    source: ClassVar[str] = "arXiv 2505.22653"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "phrases of reasoning are paid: a control"
    formula: ClassVar[str] = "`max(0, min(1, phrases / 20) − repeated runs of 20 words)`"
    departures: ClassVar[str] = "another list of phrases, which is an option; no charge for questions to oneself"

    kind: Literal["reasoning_phrases"] = "reasoning_phrases"
    share: float = Field(1.0, ge=0, le=1, description="share of the reward that the phrases take the place of")
    enough: int = Field(20, ge=1, description="different phrases that are paid in full")
    run: int = Field(20, ge=1, description="words of a run that should not be repeated")
    phrases: tuple[str, ...] = Field(REASONING_PHRASES, min_length=1, description="what is paid for, in lower case")

    def worth(self, text: str) -> float:
        """What a text is paid for its phrases, between 0 and 1."""
        lowered = text.lower()
        words = "".join(c if c.isalnum() or c.isspace() else " " for c in lowered).split()
        runs = Counter(zip(*(words[i:] for i in range(self.run)), strict=False))
        repeated = 1 - len(runs) / runs.total() if runs else 0.0
        return max(0.0, min(1.0, sum(phrase in lowered for phrase in self.phrases) / self.enough) - repeated)

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        return (1 - self.share) * member.verdict.pay + self.share * self.worth(tools.text(member.rollout))
