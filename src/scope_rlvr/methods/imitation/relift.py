"""ReLIFT: reinforcement learning, and fine-tuning beside it on the hardest questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, GroupClass
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods.imitation.sft import Sft
from scope_rlvr.methods.method import Method, SideUpdate
from scope_rlvr.methods.parts.base import Need, Status

_WAITING = "hardest"


class ReLift(Method):
    """GRPO, and whenever enough problems were met that no rollout solved, one update of imitation on those beside it.

    Problems of all-wrong groups are remembered, the newest first. As soon as there are as many as a step has, so many of
    them are taken, and after the step's own update the policy imitates the teacher's verified traces of them, ``−log π``,
    mean over all tokens, with an AdamW of its own. Both losses have a bonus of 0.001 on the entropy.
    Source: Ma et al. 2025 (ReLIFT), and its released code, github.com/TheRoadQaQ/ReLIFT at eb95454:
    ``relift/verl/verl/relift/trainer.py`` 441-452 (what is remembered) and 515-533 (after the step's own update),
    ``fsdp_worker.py`` 255 (the optimiser), ``core_algos.py`` 77-79 (the loss), ``examples/math-7b/train.sh``: 128 problems
    a step, 128 imitated, one learning rate for both.

    Different here: the policy's own tokens keep their clip, which the released run leaves out; one update of a step's
    rollouts, where it makes two (``objective.mini_batches = 2``); losses are a mean over rows, not a sum; one largest norm of gradients for both updates
    (0.7 and 1.0 there); a trace that the verifier does not call right is not imitated.

    >>> ReLift().fixed["entropy"], ReLift().sft_rate
    (0.001, 1.0)
    """

    title: ClassVar[str] = "ReLIFT"
    source: ClassVar[str] = "arXiv 2506.07527"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "GRPO, and imitation beside it of problems that nobody solved"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, entropy bonus 0.001; beside it `−log π` on teacher traces"
    departures: ClassVar[str] = "the clip stays; one update a batch; only verified traces are imitated"

    name: Literal["relift"] = "relift"
    normalisation: Normalisation | None = Normalisation.NONE
    aggregation: Aggregation | None = Aggregation.MAX_LENGTH
    kl: float | None = Field(0.0, ge=0)
    entropy: float | None = 0.001
    sft_rate: float = Field(1.0, gt=0, description="learning rate of the imitation, as a multiple of the run's")

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.TEACHER})

    def side_updates(self, groups: Sequence[Group], tools: Toolbox) -> list[SideUpdate]:
        unsolved = [group for group in groups if group.group_class is GroupClass.ALL_WRONG]
        waiting = [*map(_memory_of, unsolved), *tools.memory.get(_WAITING, ())]
        num_imitated = len(groups) if len(waiting) >= len(groups) else 0
        tools.memory[_WAITING] = waiting[num_imitated:]
        if not num_imitated:
            return []
        sft = Sft(aggregation=Aggregation.TOKEN_MEAN)
        traces = sft.edit_groups([_remembered(entry) for entry in waiting[:num_imitated]], tools)
        return [SideUpdate(sft, tuple(traces), self.sft_rate)]


def _memory_of(group: Group) -> dict[str, Any]:
    return {"problem": asdict(group.problem), "prompt_ids": list(group.prompt_ids)}


def _remembered(entry: dict[str, Any]) -> Group:
    context = tuple((role, text) for role, text in entry["problem"].get("context", ()))
    return Group(Problem(**entry["problem"] | {"context": context}), (), prompt_ids=tuple(entry["prompt_ids"]))
