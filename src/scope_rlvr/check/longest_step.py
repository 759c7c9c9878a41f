"""The longest step that a run can come to, run once: what would fail for lack of memory at step 120 fails now."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PrinterCallback

from scope_rlvr.core.errors import first_line
from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem
from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.methods import Grpo
from scope_rlvr.methods.method import SideUpdate
from scope_rlvr.methods.parts.base import TokenAdvantages
from scope_rlvr.models.lora import adapter_config
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.trainer import starting, trl_config
from scope_rlvr.store.folder import RunFolder

if TYPE_CHECKING:
    from scope_rlvr.models.local import LocalModel


class _EveryRow(Grpo):
    """GRPO as if something could be learned from every rollout; rows without advantage would not be read."""

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        return [[[1.0] * len(member.rollout) for member in group.members] for group in groups]


class _WithSideUpdate(_EveryRow):
    """The same, and an update beside it on the same rollouts: as much memory as any that a method could ask for."""

    def side_updates(self, groups: Sequence[Group], tools: Toolbox) -> list[SideUpdate]:
        return [SideUpdate(_EveryRow(), tuple(groups))]


class OutOfMemory(RuntimeError):
    """The device has no room for the step."""


@dataclass(frozen=True, slots=True)
class LongestStep:
    """What the step took, and its sampling alone; ``where`` says whose memory was measured."""

    seconds: float
    sampling_seconds: float
    peak_bytes: int
    where: str


def run_longest_step(config: RunConfig, policy: LocalModel, problems: Sequence[Problem]) -> LongestStep:
    """Sample, judge, train: one step as the run does it, except that no response ends before its budget.

    Every row of the run's step is sampled, also those that its method would reserve. The policy is no longer what it was
    afterwards. Raises :class:`OutOfMemory` where the device says so.
    """
    on_gpu = policy.model.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        with starting(config):
            trainer = _trainer(config, policy, problems, Path(folder))
        trainer.codec.end_ids = frozenset()
        if trainer.use_vllm:
            trainer.vllm_generation.generation_kwargs["ignore_eos"] = True
        started = time.perf_counter()
        try:
            trainer.train()
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfMemory(first_line(error)) from error
        seconds = time.perf_counter() - started
    sampling = sum(logged.get("seconds/sampling", 0.0) for logged in trainer.state.log_history)
    if on_gpu:
        return LongestStep(seconds, sampling, torch.cuda.max_memory_allocated(), "the graphics processor's memory")
    kilo = 1 if sys.platform == "darwin" else 1024
    return LongestStep(
        seconds, sampling, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo, "this process's memory"
    )


def _trainer(config: RunConfig, policy: LocalModel, problems: Sequence[Problem], folder: Path) -> ScopeTrainer:
    """The run's trainer for one step of GRPO, whose rows need no helper."""
    args = trl_config(config, RunFolder(folder))
    args.max_steps, args.save_strategy, args.report_to = 1, "no", []
    lora = config.model.lora
    trainer = ScopeTrainer(
        model=policy.model,
        method=_WithSideUpdate() if config.method.has_side_updates else _EveryRow(),
        verifier=FinalAnswerVerifier(),
        args=args,
        problems=problems,
        processing_class=policy.codec.tokenizer,
        prompt=config.prompt,
        peft_config=None if lora is None else adapter_config(lora),
        # It would be told that nothing can be learned from responses that never end.
        on_groups=lambda result: None,
        sampling_rows=config.sampling.batch_rows,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
