"""ReLIFT: reinforcement learning interleaved with fine-tuning on the hardest questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, GroupClass
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem
from scope_rlvr.methods.imitation.sft import Imitation
from scope_rlvr.methods.parts.base import Status

_BUFFER = "hardest"


class ReLift(Imitation):
    """GRPO, and whenever enough problems were met that no rollout solved, one step of imitation on those.

    Problems of all-wrong groups are remembered. As soon as they fill a step, the next step samples nothing and imitates
    the teacher's verified traces of them, ``−log π``; its own problems are passed over. Both kinds of step share one
    optimiser, whose second moments a step of imitation would blow up: by default it weighs an eighth, as if its traces stood
    among the rollouts of eight a problem that it replaces. Source: Ma et al. 2025 (ReLIFT), algorithm 1; its buffer of 64 for steps of 128 problems is here one step's
    problems.

    >>> ReLift().teacher_term.kind, ReLift().teacher_weight
    ('nll', 0.125)
    """

    title: ClassVar[str] = "ReLIFT"
    source: ClassVar[str] = "arXiv 2506.07527"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "GRPO, with steps of imitation on problems that nobody solved"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, in a step of imitation `−⅛·log π`"
    departures: ClassVar[str] = (
        "imitation takes the place of a step, with the same optimiser, at an eighth of the weight, oldest problems first"
    )

    name: Literal["relift"] = "relift"
    teacher_weight: float = Field(0.125, ge=0)

    @property
    def draws_problems(self) -> bool:
        return True

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        buffer: list[dict[str, Any]] = tools.memory.setdefault(_BUFFER, [])
        if len(buffer) < len(groups):
            return tools.sample(groups, num_rollouts)
        hardest = [_remembered(entry) for entry in buffer[: len(groups)]]
        del buffer[: len(groups)]
        return hardest

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        unsolved = [group for group in groups if group.group_class is GroupClass.ALL_WRONG]
        tools.memory[_BUFFER] += [_memory_of(group) for group in unsolved]
        return super().edit_groups(groups, tools)


def _memory_of(group: Group) -> dict[str, Any]:
    return {"problem": asdict(group.problem), "prompt_ids": list(group.prompt_ids)}


def _remembered(entry: dict[str, Any]) -> Group:
    context = tuple((role, text) for role, text in entry["problem"].get("context", ()))
    return Group(Problem(**entry["problem"] | {"context": context}), (), prompt_ids=tuple(entry["prompt_ids"]))
