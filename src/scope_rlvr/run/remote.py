"""A run whose model lives on a server: the loop is here, and so are journals, checkpoints and everything that judges."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import get_scheduler, set_seed

from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.engines.loop import TrainingLoop
from scope_rlvr.engines.memory import Remembered, require_text_keys
from scope_rlvr.engines.settings import TinkerEngine
from scope_rlvr.engines.tinker.engine import tinker_loop, unsupported
from scope_rlvr.engines.tinker.service import Connection, Service, ServiceFailed, TinkerService
from scope_rlvr.evaluation.evaluate import EvaluationSet
from scope_rlvr.methods.loss import Objective
from scope_rlvr.methods.metrics import batch_tally
from scope_rlvr.methods.step import StepResult
from scope_rlvr.run.components import Components, Spending, evaluator_of, load_helpers, load_shell
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.context import prompts_that_fit
from scope_rlvr.run.data import RunData
from scope_rlvr.run.metrics import Totals, step_metrics
from scope_rlvr.run.monitor import ProgressDisplay
from scope_rlvr.run.outcome import RunOutcome, new_summary
from scope_rlvr.store.checkpoints import mark_complete, step_of
from scope_rlvr.store.files import write_json
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.interruption import Interruption, interruptible
from scope_rlvr.store.records import group_records
from scope_rlvr.teachers.failures import TeacherFailureMonitor

STATE_FILE = "tinker.json"
"""Where the server keeps weights and optimiser of a checkpoint."""

Start = Callable[[Connection, str | None], Service]


def train_on_server(
    config: RunConfig,
    data: RunData,
    folder: RunFolder,
    display: ProgressDisplay,
    resume_from: Path | None = None,
    start: Start = TinkerService,
) -> RunOutcome:
    """Run (or go on with) a training run on a server. ``start`` begins a session there.

    The folder then holds everything but the model, which stays on the server, and the report.
    """
    started = time.perf_counter()
    _require_supported(config)
    torch.set_num_threads(config.run.threads)
    set_seed(config.run.seed)
    totals = Totals.at(resume_from)
    shell = load_shell(config, data.training.problems)
    components = load_helpers(config, shell, data.training.problems, Spending(totals, folder.spending))
    training = prompts_that_fit(config, shell.model, shell.codec, data).problems
    state = None if resume_from is None else json.loads((resume_from / STATE_FILE).read_text(encoding="utf-8"))["state"]
    service = start(_connection(config), state)
    run = _RemoteRun(
        config, folder, display, totals, data, components, service, _loop(config, components, service), state
    )
    run.restore(resume_from)
    summary = (folder.read_json("summary.json") or new_summary(config)) | {"stopped_because": "running", "after": None}
    try:
        if summary["before"] is None and config.evaluation.before:
            display.note("measuring the policy before training")
            summary["before"] = run.evaluate(data.test_sets)
        folder.write_json("summary.json", summary)
        exit_code, message = run.train(training, step_of(resume_from))
        if exit_code is not ExitCode.TRAINING_STOPPED:
            display.note("measuring the policy after training")
            summary["after"] = run.evaluate(data.test_sets)
            display.note(f"the trained adapters are on the server: {run.state}")
    except ServiceFailed as error:
        exit_code, message = ExitCode.TRAINING_STOPPED, str(error)
    summary |= totals.summary() | {
        "steps": run.steps_done,
        "stopped_because": message or "finished",
        "seconds": summary["seconds"] + time.perf_counter() - started,
    }
    folder.write_json("summary.json", summary)
    return RunOutcome(exit_code, summary, message)


def _require_supported(config: RunConfig) -> None:
    """Refuse what a server cannot do, all of it at once, before anything is loaded."""
    updates = config.objective.steps_per_batch
    found = unsupported(config.method, _objective(config), config.sampling.sampling(), updates)
    if found:
        raise UserError("engine.kind = 'tinker' cannot do this run: " + "; ".join(map(str, found)))


def _objective(config: RunConfig) -> Objective:
    section = config.objective
    return Objective(
        max_length=config.sampling.max_response_tokens,
        normalisation=section.normalisation,
        aggregation=section.aggregation,
        clip=section.clip,
        kl=section.kl,
        entropy=section.entropy,
    )


def _engine(config: RunConfig) -> TinkerEngine:
    assert isinstance(config.engine, TinkerEngine)
    return config.engine


def _connection(config: RunConfig) -> Connection:
    engine, optimizer = _engine(config), config.optimizer
    return Connection(
        url=engine.url,
        base_model=engine.base_model or config.model.policy,
        rank=engine.rank,
        seed=config.run.seed,
        deadline=engine.deadline,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.max_grad_norm,
        train_unembed=engine.train_unembed,
        reduction=engine.reduction,
    )


def _loop(config: RunConfig, components: Components, service: Service) -> TrainingLoop:
    return tinker_loop(
        service,
        components.codec,
        config.method,
        components.verifier,
        _objective(config),
        learning_rates(config),
        step_scorer=components.step_scorer,
        teacher=components.teacher,
        judge=components.judge,
        sampling=config.sampling.sampling(),
        step_rule=config.steps,
        seed=config.run.seed,
    )


def learning_rates(config: RunConfig) -> Callable[[int], float]:
    """The learning rate of a step (from 1), as transformers' schedule of the same name has it, times the method's factor."""
    optimizer, steps = config.optimizer, config.run.steps
    stand_in = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=optimizer.learning_rate)
    scheduler = get_scheduler(optimizer.schedule.value, stand_in, optimizer.warmup_steps, steps)
    rates = []
    for _ in range(steps):
        rates.append(float(scheduler.get_last_lr()[0]))
        stand_in.step()
        scheduler.step()
    return lambda step: rates[step - 1] * config.method.learning_rate_factor(step, steps)


@dataclass
class _RemoteRun:
    """The steps of a run on a server, written down one by one."""

    config: RunConfig
    folder: RunFolder
    display: ProgressDisplay
    totals: Totals
    data: RunData
    components: Components
    service: Service
    loop: TrainingLoop
    state: str | None
    """Where the server keeps weights and optimiser of the last checkpoint."""
    steps_done: int = 0
    flat_steps: int = 0

    def __post_init__(self) -> None:
        section = self.config.teacher
        self.teacher_failures = TeacherFailureMonitor(section.max_failure_share, section.failure_window)
        self.interruption = Interruption()

    def train(self, problems: Sequence[Any], first_step: int) -> tuple[ExitCode, str]:
        """All steps that are left, with a checkpoint where one is due and at the end. How it ended, and why."""
        run = self.config.run
        steps = self.loop.train(
            problems,
            steps=run.steps,
            problems_per_step=run.problems_per_step,
            rollouts_per_problem=run.rollouts_per_problem,
            first_step=first_step,
        )
        message = ""
        with interruptible(self.interruption, self.display.note):
            started = time.perf_counter()
            for result, figures in steps:
                message = self._finish_step(result, figures, time.perf_counter() - started)
                is_last = self.steps_done == run.steps
                if is_last or message or self.interruption.by or self.steps_done % run.checkpoint_every == 0:
                    self.checkpoint()
                if message:
                    return ExitCode.TRAINING_STOPPED, message
                if self.interruption.by and not is_last:
                    return ExitCode.INTERRUPTED, f"interrupted by {self.interruption.by}"
                started = time.perf_counter()
        return ExitCode.OK, ""

    def _finish_step(self, result: StepResult, figures: dict[str, float], seconds: float) -> str:
        """Write a step down; the reason to stop, if there is one."""
        self.steps_done = result.step
        records = group_records(result.step, result.groups, result.rewards_PG, self.components.codec)
        self.folder.append_rollouts(result.step, records)
        assert self.loop.tools is not None
        tally = batch_tally(result.groups, result.streams_PG, self.loop.tools).flush()
        metrics = self.totals.add(step_metrics({**tally, **figures, "step_time": seconds}))
        metrics |= self._evaluate_if_due()
        self.folder.append(self.folder.metrics, [{"step": result.step, **metrics}])
        self.display.update({"step": result.step, **metrics})
        for line in self.teacher_failures.record(result.step, result.teacher_log):
            self.display.note(line)
        return self._count_flat_steps(result.no_gradient_because) or self.teacher_failures.reason_to_stop()

    def _count_flat_steps(self, reason: str | None) -> str:
        self.flat_steps = 0 if reason is None else self.flat_steps + 1
        if reason is None:
            return ""
        self.display.note(f"no gradient in this step: {reason}")
        is_over = self.flat_steps >= self.config.run.flat_steps_limit
        return f"nothing could be learned for {self.flat_steps} steps in a row; {reason}" if is_over else ""

    def _evaluate_if_due(self) -> dict[str, float]:
        every = self.config.evaluation.every
        if not every or (self.steps_done % every and self.steps_done != self.config.run.steps):
            return {}
        return {f"eval/{name}/accuracy": r["accuracy"] for name, r in self.evaluate(self.data.dev_sets).items()}

    def evaluate(self, sets: Sequence[EvaluationSet]) -> dict[str, Any]:
        """The policy on the server, measured as a run measures."""
        evaluator = evaluator_of(self.config, self.components, self.loop.policy)
        return {one.name: evaluator.evaluate(one).record() for one in sets}

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """What a resumed run needs: the state's place on the server, and what the method remembers."""
        folder = self.folder.checkpoints / f"checkpoint-{self.steps_done}"
        folder.mkdir(parents=True, exist_ok=True)
        self.state = self.service.save(f"{self.folder.path.name}-step-{self.steps_done}")
        write_json(folder / STATE_FILE, {"state": self.state, "step": self.steps_done})
        require_text_keys(self.loop.memory, "tools.memory")
        Remembered(self.loop.memory, self.loop.tensors, self.loop.figures).save(folder)
        self.totals.save(folder)
        mark_complete(folder)

    def restore(self, checkpoint: Path | None) -> None:
        """What the method remembered at a checkpoint."""
        if checkpoint is None:
            return
        found = Remembered.at(checkpoint)
        self.loop.memory, self.loop.tensors, self.loop.figures = found.memory, found.tensors, found.figures
        self.steps_done = step_of(checkpoint)
        self.loop.learner.steps_done = self.steps_done  # type: ignore[attr-defined]
