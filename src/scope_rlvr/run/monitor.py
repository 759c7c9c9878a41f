"""What looks after a training run from step to step: journals, checkpoints, reasons to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from scope_rlvr.core.processes import ONE_PROCESS, Processes
from scope_rlvr.evaluation.evaluate import EvaluationResult, EvaluationSet
from scope_rlvr.methods.step import StepResult
from scope_rlvr.run.components import Components, make_evaluator
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.metrics import Totals, step_metrics
from scope_rlvr.run.sections import STOP_FIGURES
from scope_rlvr.store.checkpoints import mark_complete
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.interruption import Interruption
from scope_rlvr.store.records import group_records
from scope_rlvr.teachers.failures import TeacherFailureMonitor


class ProgressDisplay(Protocol):
    """Shows a run while it trains."""

    def update(self, metrics: dict[str, float]) -> None:
        """Take in the metrics of one more step."""
        ...

    def note(self, text: str) -> None:
        """Say something that a person should read."""
        ...


@dataclass
class TrainingMonitor(TrainerCallback):
    """Writes the journals, finds reasons to stop, and listens for an interruption, once a step.

    In a run of several processes each has one, and all of them come to the same decisions.
    """

    folder: RunFolder
    config: RunConfig
    components: Components
    display: ProgressDisplay
    totals: Totals
    dev_sets: tuple[EvaluationSet, ...] = ()
    processes: Processes = ONE_PROCESS
    interruption: Interruption = field(default_factory=Interruption)
    interrupted_by: str = ""
    """The first signal that any process was sent."""
    stopped_because: str = ""
    reached: str = ""
    """The figures of ``evaluation.stop_at``, once an evaluation has found all of them."""
    flat_steps: int = 0
    """Steps without any gradient, up to this one."""
    pending: StepResult | None = None

    def __post_init__(self) -> None:
        section = self.config.teacher
        self.teacher_failures = TeacherFailureMonitor(section.max_failure_share, section.failure_window)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        # The Trainer would go on with the interval that the checkpoint was written with.
        state.save_steps = args.save_steps

    def on_groups(self, result: StepResult) -> None:
        """A generation batch has its credit: write its rollouts down before anything is trained on them."""
        self.pending = result
        for line in self.teacher_failures.record(result.step, result.teacher_log):
            self.display.note(line)
        # What is trained on beside the step has its verdicts for rewards.
        aside = [group for update in result.side_updates for group in update.groups]
        rewards_PG = [*result.rewards_PG, *([member.verdict.pay for member in group.members] for group in aside)]
        with self.processes.as_one("writing rollouts"):
            records = group_records(result.step, [*result.groups, *aside], rewards_PG, self.components.codec)
            self.folder.append_rollouts(result.step, records)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **kw: Any
    ) -> None:
        if "loss" not in logs:
            return
        metrics = self.totals.add(step_metrics(logs))
        metrics |= self._evaluate_if_due(state.global_step, kw["model"])
        self.folder.append(self.folder.metrics, [{"step": state.global_step, **metrics}])
        self.display.update({"step": state.global_step, **metrics})
        # The Trainer logs a step after it has asked whether to go on.
        self._stop_if_due(state, control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any
    ) -> TrainerControl:
        self._count_flat_steps()
        self.stopped_because = self.stopped_because or self.teacher_failures.reason_to_stop()
        self.interrupted_by = next(filter(None, self.processes.together("signals", lambda: self.interruption.by)), "")
        self._stop_if_due(state, control)
        return control

    def _stop_if_due(self, state: TrainerState, control: TrainerControl) -> None:
        # Between two passes over the same rollouts nothing can be resumed exactly: finish the passes first.
        is_between_batches = state.global_step % self.config.objective.steps_per_batch == 0
        if is_between_batches and (self.interrupted_by or self.stopped_because or self.reached):
            control.should_training_stop = True
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        # Every process has written its part of the checkpoint before it comes here.
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.processes.once("marking a checkpoint", lambda: self._mark_complete(checkpoint))

    def _mark_complete(self, checkpoint: Path) -> None:
        self.totals.save(checkpoint)
        mark_complete(checkpoint)

    def _count_flat_steps(self) -> None:
        if self.pending is None:
            return
        reason = self.pending.no_gradient_because
        self.pending = None
        if reason is None:
            self.flat_steps = 0
            return
        self.flat_steps += 1
        self.display.note(f"no gradient in this step: {reason}")
        if self.flat_steps >= self.config.run.flat_steps_limit:
            self.stopped_because = f"nothing could be learned for {self.flat_steps} steps in a row; {reason}"

    def _evaluate_if_due(self, step: int, model: Any) -> dict[str, float]:
        every = self.config.evaluation.every
        is_due = every and (step % every == 0 or step == self.config.run.steps)
        if not is_due:
            return {}
        evaluator = make_evaluator(self.config, self.components, model, self.processes)
        results = [evaluator.evaluate(dev_set) for dev_set in self.dev_sets]
        self.reached = targets_reached(self.config.evaluation.stop_at, results)
        return {f"eval/{r.name}/{name}": value for r in results for name, value in _figures(r).items()}


def _figures(result: EvaluationResult) -> dict[str, float]:
    """What of an evaluation during the run is written down; pass@1 is the accuracy."""
    passes = {f"pass_at_{k}": value for k, value in result.pass_at.items() if k > 1}
    diversity = {f"diversity/{name}": value for name, value in result.diversity.items()}
    record = result.record()
    more = {name: record[name] for name in STOP_FIGURES if name in record}
    return more | passes | diversity


def targets_reached(stop_at: Mapping[str, float], results: Sequence[EvaluationResult]) -> str:
    """What the results of the trained sets show of the figures to stop at; empty while one is missed or not known."""
    found = [
        (r.name, name, r.record().get(name)) for r in results if r.evaluation_set.role == "trained" for name in stop_at
    ]
    if not found or any(value is None or value < stop_at[name] for _, name, value in found):
        return ""
    return ", ".join(f"{name} {value:.3g} on {where}" for where, name, value in found)
