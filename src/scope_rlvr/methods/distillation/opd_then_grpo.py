"""On-policy distillation, then GRPO: the distillation counterpart of SFT, then GRPO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.imitation.sft_then_grpo import WARMUP_STEPS
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need, Status, TokenAdvantages
from scope_rlvr.methods.parts.distillation import log_ratio
from scope_rlvr.methods.reading import ReadBy, Reading, Text, as_written

_STAGE = "is_distilled"


class OpdThenGrpo(Method):
    """The first ``opd_share`` of the steps are on-policy distillation, the others GRPO; the teacher is not asked then.

    ``Â_t = log π_T − log π_old`` on all tokens that the teacher scored, then GRPO's advantage. The optimiser starts anew
    between the two, with a short warm-up, as in ``sft_then_grpo``. Source: 2609.04108, whose abstract says that distillation
    before reinforcement learning beats both at once.

    >>> method = OpdThenGrpo(opd_share=0.2)
    >>> [(method.stage(step, 10), method.learning_rate_factor(step, 10)) for step in (1, 2, 3, 9)]
    [(0, 1.0), (0, 1.0), (1, 0.2), (1, 1.0)]
    """

    title: ClassVar[str] = "OPD, then GRPO"
    source: ClassVar[str] = "arXiv 2609.04108"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "on-policy distillation first, then GRPO"
    formula: ClassVar[str] = "`Â_t = log π_T − log π_old`, then `Â = r − mean(r)`; `S(Â)`"
    departures: ClassVar[str] = "how long distillation lasts, its learning rate and the warm-up are chosen here"

    name: Literal["opd_then_grpo"] = "opd_then_grpo"
    opd_share: float = Field(0.5, gt=0, lt=1, description="share of the steps that distil")
    opd_rate: float = Field(1.0, gt=0, description="learning rate of the distillation, as a multiple of the run's")

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.TEACHER_SCORES})

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (*super().readings, Reading("teacher_logprob", by=ReadBy.TEACHER, text=self._while_distilling))

    def _while_distilling(self, group: Group, member: Member, tools: Toolbox) -> Text | None:
        return as_written(group, member, tools) if self.stage(tools.step, tools.num_steps) == 0 else None

    def stage(self, step: int, num_steps: int) -> int:
        return int(step > round(self.opd_share * num_steps))

    def learning_rate_factor(self, step: int, num_steps: int) -> float:
        num_grpo_steps = step - round(self.opd_share * num_steps)
        return self.opd_rate if num_grpo_steps <= 0 else min(1.0, num_grpo_steps / WARMUP_STEPS)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        is_distilled = self.stage(tools.step, tools.num_steps) == 0
        marked = [
            replace(g, members=tuple(m.having(**{_STAGE: float(is_distilled)}) for m in g.members)) for g in groups
        ]
        return super().prepare(marked, tools)

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        if _are_distilled(groups):
            rewards_PG = [[0.0 if "teacher_logprob" in m.extras else None for m in group.members] for group in groups]
        return super().credit(groups, rewards_PG, normalisation)

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        if _are_distilled(groups):
            return [[log_ratio(m, "teacher_logprob") for m in group.members] for group in groups]
        return super().advantages(groups, rewards_PG, normalisation)


def _are_distilled(groups: Sequence[Group]) -> bool:
    """Whether the rollouts are of a step that distils; the whole batch is of one stage."""
    return any(m.extras.get(_STAGE) for group in groups for m in group.members)
