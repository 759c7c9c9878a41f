"""A run from its configuration to its report: evaluate, train with the method, evaluate again, write everything down."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from scope_rlvr.core.errors import ExitCode
from scope_rlvr.core.processes import ONE_PROCESS, Processes, ProcessFailed
from scope_rlvr.core.types import Problem
from scope_rlvr.engines.processes import meet, noticing_the_lost
from scope_rlvr.engines.trl.trainer import NonFiniteLoss, ScopeTrainer, StepResult
from scope_rlvr.evaluation.evaluate import EvaluationResult, EvaluationSet
from scope_rlvr.grading.settings import BOX_REMEDY, NO_BOX, asks_for_no_box
from scope_rlvr.models.lora import merged
from scope_rlvr.run.components import Components, load_components, make_evaluator
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.context import require_room
from scope_rlvr.run.sources import evaluation_sets, short_enough, training_problems
from scope_rlvr.run.trainer import make_trainer
from scope_rlvr.store.digests import value_digest
from scope_rlvr.store.folder import CHECKPOINT_MARKER, RunFolder, step_of
from scope_rlvr.store.interruption import Interruption, interruptible
from scope_rlvr.store.records import group_records
from scope_rlvr.teachers.failures import TeacherFailureMonitor

SUMMARY_SCHEMA = 1

_RENAMED = {
    "loss": "policy/loss",
    "grad_norm": "policy/grad_norm",
    "learning_rate": "policy/learning_rate",
    "entropy": "policy/entropy",
    "kl": "policy/kl",
    "clip_ratio/region_mean": "policy/clip_share",
    "step_time": "seconds/step",
}
"""TRL's own names of figures, and ours."""

_OURS = (
    "accuracy",
    "diversity/",
    "eval/",
    "gradient/",
    "groups/",
    "pass_at_group",
    "policy/",
    "rollouts/",
    "salvage/",
    "sampler/",
    "seconds/",
    "teacher/",
    "tokens/",
    "verdicts/",
)
_CUMULATIVE = ("tokens/sampled", "tokens/teacher", "tokens/continuation")
"""Counts of a step that are reported as the run's total so far."""

_SALVAGE = ("failures", "attempted", "admitted")
_TEACHER = (
    "asked",
    "errors",
    "requests",
    "retries",
    "cache_hits",
    "request_seconds",
    "prompt_tokens",
    "reply_tokens",
    "money",
)
_TOTALS = (*(f"salvage/{name}" for name in _SALVAGE), *(f"teacher/{name}" for name in _TEACHER))
"""Counts of a step that are added up for the summary."""


class Watcher(Protocol):
    """Somebody who looks on: the live display, or nobody."""

    def update(self, metrics: dict[str, float]) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass
class RunOutcome:
    """How a run ended."""

    exit_code: ExitCode
    summary: dict[str, Any]
    message: str = ""


@dataclass
class _Progress(TrainerCallback):
    """Writes journals, watches for trouble, and listens for an interruption, once a step. Of several processes, all watch
    and come to the same decisions."""

    folder: RunFolder
    config: RunConfig
    components: Components
    watcher: Watcher
    totals: dict[str, float]
    dev_sets: list[EvaluationSet]
    processes: Processes = ONE_PROCESS
    interruption: Interruption = field(default_factory=Interruption)
    interrupted_by: str = ""
    """The first signal that any process was sent."""
    stopped_because: str = ""
    flat_steps: int = 0
    pending: StepResult | None = None
    extra: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        section = self.config.teacher
        self.teacher_failures = TeacherFailureMonitor(section.max_failure_share, section.failure_window)

    def on_groups(self, result: StepResult) -> None:
        """A generation batch has its credit: write its rollouts down before anything is trained on them."""
        self.pending = result
        for line in self.teacher_failures.record(result.step, result.teacher_log):
            self.watcher.note(line)
        with self.processes.as_one("writing rollouts"):
            self.folder.append(
                self.folder.rollouts,
                group_records(result.step, result.groups, result.rewards_PG, self.components.codec),
            )

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **kw: Any
    ) -> None:
        if "loss" not in logs:
            return
        named = {_RENAMED.get(name, name): value for name, value in logs.items()}
        metrics = {name: value for name, value in named.items() if name.startswith(_OURS)}
        for name in (*_CUMULATIVE, *_TOTALS):
            self.totals[name] = self.totals.get(name, 0.0) + metrics.get(name, 0.0)
        metrics |= {name: self.totals[name] for name in _CUMULATIVE}
        metrics |= self._evaluate_if_due(state.global_step, kw["model"])
        self.folder.append(self.folder.metrics, [{"step": state.global_step, **metrics}])
        self.watcher.update({"step": state.global_step, **metrics})

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any
    ) -> TrainerControl:
        self._count_flat_steps()
        self.stopped_because = self.stopped_because or self.teacher_failures.reason_to_stop()
        self.interrupted_by = next(filter(None, self.processes.together("signals", lambda: self.interruption.by)), "")
        # Between two passes over the same rollouts nothing can be resumed exactly: finish the passes first.
        is_between_batches = state.global_step % self.config.objective.updates_per_batch == 0
        if is_between_batches and (self.interrupted_by or self.stopped_because):
            control.should_training_stop = True
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        # Every process has written its part of the checkpoint before it comes here.
        self.processes.once("marking a checkpoint", lambda: self._mark(args, state))

    def _mark(self, args: TrainingArguments, state: TrainerState) -> None:
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (checkpoint / "run.json").write_text(json.dumps(self.totals, sort_keys=True) + "\n")
        (checkpoint / CHECKPOINT_MARKER).write_text("")

    def _count_flat_steps(self) -> None:
        if self.pending is None:
            return
        reason = self.pending.no_gradient_because
        self.pending = None
        if reason is None:
            self.flat_steps = 0
            return
        self.flat_steps += 1
        self.watcher.note(f"no gradient in this step: {reason}")
        if self.flat_steps >= self.config.run.flat_steps_limit:
            self.stopped_because = f"nothing could be learned for {self.flat_steps} steps in a row; {reason}"

    def _evaluate_if_due(self, step: int, model: Any) -> dict[str, float]:
        every = self.config.evaluation.every
        is_due = every and (step % every == 0 or step == self.config.run.steps)
        if not is_due:
            return {}
        evaluator = make_evaluator(self.config, self.components, model, self.processes)
        results = [evaluator.evaluate(dev_set) for dev_set in self.dev_sets]
        return {f"eval/{r.name}/{name}": value for r in results for name, value in _figures(r).items()}


def _figures(result: EvaluationResult) -> dict[str, float]:
    """What of an evaluation during the run is written down; pass@1 is the accuracy."""
    passes = {f"pass_at_{k}": value for k, value in result.pass_at.items() if k > 1}
    diversity = {f"diversity/{name}": value for name, value in result.diversity.items()}
    return {"accuracy": result.accuracy} | passes | diversity


def train(config: RunConfig, folder: RunFolder, watcher: Watcher, resume_from: Path | None = None) -> RunOutcome:
    """Run (or go on with) a training run. The folder then holds everything; the outcome says how it ended.

    Of several processes each calls this, with one folder, which only the main one writes.
    """
    started = time.perf_counter()
    processes = meet()
    torch.set_num_threads(config.run.num_threads)
    set_seed(config.run.seed)
    with processes.as_one("loading what the run needs"):
        problems = training_problems(config)
        totals = _totals_at(resume_from)
        components = load_components(config, problems, totals)
        num_problems = len(problems)
        problems = short_enough(problems, components.codec, config)
        require_room(config, components.policy, components.codec, problems)
    processes.require_equal("the problems", lambda: _data_digest(config, problems))
    if len(problems) < num_problems:
        watcher.note(
            f"{num_problems - len(problems)} of {num_problems} problems left out: longer than max_prompt_tokens"
        )
    if asks_for_no_box(config.verifier, components.codec.prompt_as_read(problems[0].prompt)):
        watcher.note(f"{NO_BOX}: {BOX_REMEDY}")
    progress = _Progress(folder, config, components, watcher, totals, evaluation_sets(config, "dev"), processes)
    # The trainer may wrap the policy's forward pass (autocast): before and after are to be measured alike.
    trainer = make_trainer(config, folder, components, problems, progress)
    known = processes.once("what is known of the run", lambda: folder.read_json("summary.json"))
    summary = (known or _new_summary(config)) | {"stopped_because": "running", "after": None}
    if summary["before"] is None and config.evaluation.before:
        watcher.note("measuring the policy before training")
        summary["before"] = _evaluate(config, components, processes)
    folder.write_json("summary.json", summary)
    outcome = _train(trainer, progress, resume_from)
    if outcome.exit_code is not ExitCode.TRAINING_STOPPED:
        watcher.note("measuring the policy after training")
        summary["after"] = _evaluate(config, components, processes)
        processes.once("saving the model", lambda: _save_model(config, trainer, folder))
    summary |= {
        "steps": max(trainer.state.global_step, step_of(resume_from)),
        "stopped_because": outcome.message or "finished",
        "seconds": summary["seconds"] + time.perf_counter() - started,
        "salvage": {name: int(totals.get(f"salvage/{name}", 0)) for name in _SALVAGE},
        "teacher": {name: round(totals.get(f"teacher/{name}", 0), 6) for name in _TEACHER},
        "tokens": {name: int(totals.get(f"tokens/{name}", 0)) for name in ("sampled", "teacher", "continuation")},
    }
    folder.write_json("summary.json", summary)
    return RunOutcome(outcome.exit_code, summary, outcome.message)


def _save_model(config: RunConfig, trainer: ScopeTrainer, folder: RunFolder) -> None:
    """The trained policy as a model like any other, adapters merged into it."""
    policy = trainer.model if config.model.lora is None else merged(trainer.model)
    policy.save_pretrained(folder.model)
    trainer.processing_class.save_pretrained(folder.model)


def _data_digest(config: RunConfig, problems: list[Problem]) -> str:
    """Equal for equal problems to train on and to measure on."""
    held_out = [asdict(problem) for one in evaluation_sets(config) for problem in one.problems]
    return value_digest([[asdict(problem) for problem in problems], held_out])


def _new_summary(config: RunConfig) -> dict[str, Any]:
    return {
        "schema": SUMMARY_SCHEMA,
        "method": config.method.name,
        "seed": config.run.seed,
        "steps": 0,
        "stopped_because": "running",
        "seconds": 0.0,
        "before": None,
        "after": None,
        "salvage": {},
        "teacher": {},
        "tokens": {},
    }


def _totals_at(checkpoint: Path | None) -> dict[str, float]:
    return {} if checkpoint is None else json.loads((checkpoint / "run.json").read_text())


def _evaluate(config: RunConfig, components: Components, processes: Processes) -> dict[str, Any]:
    evaluator = make_evaluator(config, components, processes=processes)
    return {s.name: evaluator.evaluate(s).record() for s in evaluation_sets(config)}


def _train(trainer: ScopeTrainer, progress: _Progress, resume_from: Path | None) -> RunOutcome:
    if resume_from is not None and step_of(resume_from) >= progress.config.run.steps:
        # The Trainer would do one step more before it looked at the number of steps.
        trainer._load_from_checkpoint(str(resume_from))
        return RunOutcome(ExitCode.OK, {})
    try:
        with interruptible(progress.interruption, progress.watcher.note), noticing_the_lost():
            trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    except NonFiniteLoss as error:
        return RunOutcome(ExitCode.TRAINING_STOPPED, {}, str(error))
    except ProcessFailed as error:
        if not progress.processes.is_main:
            raise
        # The launcher may be about to end this process, too; what happened is to be written down first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return RunOutcome(ExitCode.TRAINING_STOPPED, {}, str(error))
    if progress.stopped_because:
        return RunOutcome(ExitCode.TRAINING_STOPPED, {}, progress.stopped_because)
    if progress.interrupted_by and trainer.state.global_step < progress.config.run.steps:
        return RunOutcome(ExitCode.INTERRUPTED, {}, f"interrupted by {progress.interrupted_by}")
    return RunOutcome(ExitCode.OK, {})
