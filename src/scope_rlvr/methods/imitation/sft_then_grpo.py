"""SFT, then GRPO: the baseline that most mixed methods have to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.imitation.sft import Imitation
from scope_rlvr.methods.parts.base import Status

WARMUP_STEPS = 5
"""Steps of GRPO over which the learning rate rises to the run's."""


class SftThenGrpo(Imitation):
    """The first ``sft_share`` of the steps imitate whole teacher traces, the others are GRPO.

    Imitation wants another learning rate than the policy gradient: ``sft_rate`` times the run's. The optimiser starts anew
    between the two, with a short warm-up: the second moments of imitation are much larger than those of the policy
    gradient and would hold it back for a thousand steps. Source: arXiv 2604.23747, which finds that this beats
    mixed-policy methods once it is free of bugs.

    >>> method = SftThenGrpo(sft_share=0.2, sft_rate=4)
    >>> [(method.stage(step, 10), method.learning_rate_factor(step, 10)) for step in (1, 2, 3, 4, 9)]
    [(0, 4.0), (0, 4.0), (1, 0.2), (1, 0.4), (1, 1.0)]
    """

    title: ClassVar[str] = "SFT, then GRPO"
    source: ClassVar[str] = "arXiv 2604.23747"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "imitates whole teacher traces first, then GRPO"
    formula: ClassVar[str] = "`−log π` on teacher traces, then `Â = r − mean(r)`; `S(Â)`"
    departures: ClassVar[str] = "how long imitation lasts, its learning rate and the warm-up are chosen here"

    name: Literal["sft_then_grpo"] = "sft_then_grpo"
    sft_share: float = Field(0.5, gt=0, lt=1, description="share of the steps that imitate")
    sft_rate: float = Field(4.0, gt=0, description="learning rate of the imitation, as a multiple of the run's")

    def stage(self, step: int, num_steps: int) -> int:
        return int(step > round(self.sft_share * num_steps))

    def learning_rate_factor(self, step: int, num_steps: int) -> float:
        num_grpo_steps = step - round(self.sft_share * num_steps)
        return self.sft_rate if num_grpo_steps <= 0 else min(1.0, num_grpo_steps / WARMUP_STEPS)

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        if self.stage(tools.step, tools.num_steps) == 0:
            return list(groups)
        return tools.sample(groups, num_rollouts)
