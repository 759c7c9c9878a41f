"""A run from its configuration and its problems to a model: measure, train with the method, measure again."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import set_seed

from scope_rlvr.core.errors import ExitCode
from scope_rlvr.core.processes import Processes, ProcessFailed
from scope_rlvr.engines.processes import meet, noticing_the_lost
from scope_rlvr.engines.trl.trainer import NonFiniteLoss, ScopeTrainer
from scope_rlvr.evaluation.evaluate import EvaluationSet
from scope_rlvr.grading.settings import BOX_REMEDY, NO_BOX, asks_for_no_box
from scope_rlvr.methods.heads import head_weights
from scope_rlvr.models.lora import merged
from scope_rlvr.run.components import Components, Spending, load_components, make_evaluator
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.context import prompts_that_fit
from scope_rlvr.run.data import RunData
from scope_rlvr.run.metrics import Totals
from scope_rlvr.run.monitor import ProgressDisplay, TrainingMonitor
from scope_rlvr.run.outcome import REACHED, RunOutcome, new_summary
from scope_rlvr.run.trainer import make_trainer
from scope_rlvr.store.checkpoints import step_of
from scope_rlvr.store.files import give_usual_rights, writing
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.interruption import interruptible


def train(
    config: RunConfig, data: RunData, folder: RunFolder, display: ProgressDisplay, resume_from: Path | None = None
) -> RunOutcome:
    """Run (or go on with) a training run. The folder then holds everything but the report; the outcome says how it ended.

    In a run of several processes each calls this, with the same folder, which only the main one writes.
    """
    started = time.perf_counter()
    processes = meet()
    processes.require_equal("the problems", lambda: data.digest)
    torch.set_num_threads(config.run.threads)
    set_seed(config.run.seed)
    totals = Totals.at(resume_from)
    with processes.as_one("loading what the run needs"):
        components = load_components(config, data.training.problems, Spending(totals, folder.spending))
        training = prompts_that_fit(config, components.policy, components.codec, data).problems
    if len(training) < len(data.training.problems):
        display.note(
            f"{len(data.training.problems) - len(training)} of {len(data.training.problems)} problems left out: longer than "
            "max_prompt_tokens"
        )
    if asks_for_no_box(config.verifier, components.codec.prompt_as_read(training[0].prompt)):
        display.note(f"{NO_BOX}: {BOX_REMEDY}")
    monitor = TrainingMonitor(folder, config, components, display, totals, data.dev_sets, processes)
    # The trainer may wrap the policy's forward pass (autocast): before and after are to be measured alike.
    trainer = make_trainer(config, folder, components, training, monitor)
    known = processes.once("what is known of the run", lambda: folder.read_json("summary.json"))
    summary = (known or new_summary(config)) | {"stopped_because": "running", "after": None}
    if summary["before"] is None and config.evaluation.before:
        display.note("measuring the policy before training")
        summary["before"] = _evaluate(config, components, data.test_sets, processes)
    folder.write_json("summary.json", summary)
    ending = _train(trainer, monitor, resume_from)
    if ending.exit_code is not ExitCode.TRAINING_STOPPED:
        display.note("measuring the policy after training")
        summary["after"] = _evaluate(config, components, data.test_sets, processes)
        processes.once("saving the model", lambda: _save_model(config, trainer, folder))
    summary |= totals.summary() | {
        "steps": max(trainer.state.global_step, step_of(resume_from)),
        "stopped_because": ending.message or "finished",
        "seconds": summary["seconds"] + time.perf_counter() - started,
    }
    folder.write_json("summary.json", summary)
    return RunOutcome(ending.exit_code, summary, ending.message)


def _evaluate(
    config: RunConfig, components: Components, sets: Sequence[EvaluationSet], processes: Processes
) -> dict[str, Any]:
    evaluator = make_evaluator(config, components, processes=processes)
    return {one.name: evaluator.evaluate(one).record() for one in sets}


@dataclass(frozen=True)
class _Ending:
    """How the training itself ended; no message where it came to its last step."""

    exit_code: ExitCode
    message: str = ""


def _train(trainer: ScopeTrainer, monitor: TrainingMonitor, resume_from: Path | None) -> _Ending:
    if resume_from is not None and step_of(resume_from) >= monitor.config.run.steps:
        # The Trainer would do one step more before it looked at the number of steps.
        trainer._load_from_checkpoint(str(resume_from))
        return _Ending(ExitCode.OK)
    try:
        with interruptible(monitor.interruption, monitor.display.note), noticing_the_lost():
            trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    except NonFiniteLoss as error:
        return _Ending(ExitCode.TRAINING_STOPPED, str(error))
    except ProcessFailed as error:
        if not monitor.processes.is_main:
            raise
        # The launcher may be about to end this process, too; what happened is to be written down first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return _Ending(ExitCode.TRAINING_STOPPED, str(error))
    if monitor.stopped_because:
        return _Ending(ExitCode.TRAINING_STOPPED, monitor.stopped_because)
    if monitor.reached:
        return _Ending(ExitCode.OK, f"{REACHED}{monitor.reached}")
    if monitor.interrupted_by and trainer.state.global_step < monitor.config.run.steps:
        return _Ending(ExitCode.INTERRUPTED, f"interrupted by {monitor.interrupted_by}")
    return _Ending(ExitCode.OK)


def _save_model(config: RunConfig, trainer: ScopeTrainer, folder: RunFolder) -> None:
    """The trained policy as a model like any other, adapters merged into it."""
    policy = trainer.model if config.model.lora is None else merged(trainer.model)
    with writing(folder.model):
        policy.save_pretrained(folder.model)
        trainer.processing_class.save_pretrained(folder.model)
        heads = head_weights(trainer.tensors)
        if heads:
            save_file(heads, folder.model / "heads.safetensors")
        give_usual_rights(folder.model)
