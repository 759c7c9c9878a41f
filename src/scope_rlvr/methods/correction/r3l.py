"""R³L: the policy reflects on each attempt, and tries again from where it went wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.prompts import fill
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.methods.correction.rewriting import Rewriting, rewrite, verified_rewrites
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Status, TokenAdvantages
from scope_rlvr.methods.streams import outcome_advantages

if TYPE_CHECKING:
    from torch import Tensor

REFLECTION = (
    "{prompt}\n\nAn attempt, its steps numbered:\n\n{attempt}\n\nIt is {outcome}. Name the step from which to try again, as "
    "'step 2', and say in one sentence what to do otherwise.\n\n"
)
RETRY = "{prompt}\n\nAdvice: {advice}\n\n"


class R3l(Method):
    """Reflect, then retry: half of a group explores, each attempt is criticised by the policy itself and tried again.

    The policy is shown its attempt, with its steps numbered, and the verdict; it names a step and gives advice. It then goes on from
    the start of that step with the advice in the prompt. Attempt and retry train together under the plain prompt, and in both
    the tokens before that step do not train. ``a = r − mean(r)`` over the group; ``Â = 1`` where ``r ≥ 1``, ``gain·a`` where else ``a ≥ 0``, and ``a``
    below: successes pull more than failures push. The loss is ``−Â·log π / (1 + τ)``, without ratio or clip. A reflection
    without a step sends the policy back to the beginning; a rollout without a known verdict is not tried again. Source: R³L
    (2601.03715), and its released code, github.com/shiweijiezero/R3L at d503f6c:
    ``trinity/algorithm/advantage_fn/opmd_advantage.py``, ``policy_loss_fn/opmd_policy_loss.py``. Its documentation pays 3 to every success.

    >>> R3l().amplified(0.5, reward=1.0), R3l().amplified(0.25, reward=0.5), R3l().amplified(-0.5, reward=0.0)
    (1.0, 0.75, -0.5)
    """

    title: ClassVar[str] = "R³L"
    source: ClassVar[str] = "arXiv 2601.03715"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the policy reflects on each attempt and tries again from the step that it names"
    formula: ClassVar[str] = "`Â` = 1, `3a` or `a`, `a = r − mean(r)`; `−Â·log π/2` after the step that was named"
    departures: ClassVar[str] = "reflection and guided retry are not imitated beside; the wording is ours"

    name: Literal["r3l"] = "r3l"
    gain: float = Field(3.0, gt=0, description="factor on advantages that are not negative, of what is not fully right")
    tau: float = Field(1.0, ge=0, description="damping: the loss is divided by 1 + τ")
    reflection: str = Field(
        REFLECTION,
        pattern=r"\{attempt\}",
        description="asks for a reflection, with `{prompt}`, `{attempt}` and `{outcome}`",
    )
    retry: str = Field(RETRY, pattern=r"\{advice\}", description="what a retry is shown, of `{prompt}` and `{advice}`")
    normalisation: Normalisation | None = Normalisation.NONE
    kl: float | None = Field(0.0, ge=0)

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        return tools.sample(groups, max(1, num_rollouts // 2))

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        tried = [(g, i) for g, group in enumerate(groups) for i, m in enumerate(group.members) if m.verdict.is_known]
        advice = self._reflections(groups, tried, tools)
        places = []
        for (g, i), text in zip(tried, advice, strict=True):
            rollout = groups[g].members[i].rollout
            steps = tools.split(rollout)
            number = named_step(text, len(steps))
            start = rollout.cut(steps[number].start) if steps else rollout.cut(0)
            places.append(Rewriting(groups[g], {"advice": text}, start))
        retries = verified_rewrites(places, rewrite(places, self.retry, tools, "retry"), tools)
        edited = [list(group.members) for group in groups]
        for (g, i), place, member in zip(tried, places, retries, strict=True):
            edited[g][i] = replace(edited[g][i], num_shared_tokens=len(place.start))
            edited[g].append(member)
        return [replace(group, members=tuple(members)) for group, members in zip(groups, edited, strict=True)]

    def _reflections(self, groups: Sequence[Group], tried: Sequence[tuple[int, int]], tools: Toolbox) -> list[str]:
        """What the policy says of each attempt."""
        starts = []
        for g, i in tried:
            problem, member = groups[g].problem, groups[g].members[i]
            attempt = "".join(f"{n}. {s.text}" for n, s in enumerate(tools.split(member.rollout), 1))
            outcome = "right" if member.verdict.is_right else "wrong"
            shown = fill(self.reflection, prompt=problem.prompt, attempt=attempt, outcome=outcome)
            starts.append(Rollout(tools.read_prompt(problem, shown), ()))
        return [tools.text(rollout).strip() for rollout in tools.extend(starts, "continuation", "reflection")]

    def amplified(self, advantage: float, reward: float) -> float:
        """The advantage, positives amplified."""
        if reward >= 1:
            return 1.0
        return self.gain * advantage if advantage >= 0 else advantage

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        outcome_PG = outcome_advantages(groups, rewards_PG, self.baseline, normalisation)
        return [
            [
                [0.0 if reward is None else self.amplified(a, reward)] * len(m.rollout)
                for m, reward, a in zip(group.members, rewards_G, outcome_G, strict=True)
            ]
            for group, rewards_G, outcome_G in zip(groups, rewards_PG, outcome_PG, strict=True)
        ]

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        return -tokens.advantage_BT * tokens.logp_BT / (1 + self.tau)


def named_step(text: str, num_steps: int) -> int:
    """The step, from 0, that a reflection names; the first where it names none that there is.

    >>> named_step("Go back to Step 3: the sum is wrong.", 4), named_step("step 9", 4), named_step("?", 4)
    (2, 0, 0)
    """
    found = re.search(r"step\s*(\d{1,4})", text, re.IGNORECASE)
    number = int(found.group(1)) if found else 1
    return number - 1 if 1 <= number <= num_steps else 0
