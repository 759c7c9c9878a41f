"""How a run starts, new or resumed: what can be found wrong is found first, then its folder is made or opened, and locked."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scope_rlvr.check.inputs import check_inputs
from scope_rlvr.check.quick import input_findings, setup_findings
from scope_rlvr.core.errors import CannotWrite, UserError
from scope_rlvr.core.findings import Severity
from scope_rlvr.core.processes import Processes, launched_zero_stage
from scope_rlvr.run.config import RunConfig, dump_config, load_config
from scope_rlvr.run.data import RunData
from scope_rlvr.run.outcome import is_done
from scope_rlvr.run.resume import environment_changes, require_same_problems, resumed_config, write_start
from scope_rlvr.run.speed import settled
from scope_rlvr.run.warmup import warmup_config
from scope_rlvr.store.checkpoints import step_of
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.lock import locked

_AS_CONFIGURED = (
    "--resume goes on with a run as it was configured; give no other argument with it but --wait-minutes and keys that may "
    "change"
)


@dataclass(frozen=True, slots=True)
class ConfigRequest:
    """The configuration that is asked for: a file, ``section.key=value`` overrides, another method than the file's."""

    file: Path | None = None
    overrides: tuple[str, ...] = ()
    method: str | None = None

    @property
    def is_empty(self) -> bool:
        return self == ConfigRequest()

    def load(self) -> RunConfig:
        return load_config(self.file, self.overrides, self.method)


class WarmupRequest(ConfigRequest):
    """The warm-up for a run of the configuration that is asked for."""

    def load(self) -> RunConfig:
        return warmup_config(load_config(self.file, self.overrides, self.method))


@dataclass(frozen=True)
class RunStart:
    """A run that can start. ``lines`` are what a person should know of it; ``data`` is ``None`` where all is trained and
    measured, and only the report is missing."""

    config: RunConfig
    folder: RunFolder
    lines: list[str]
    data: RunData | None
    is_resumed: bool = False


def new_run(request: ConfigRequest, out: Path | None, processes: Processes, held: ExitStack) -> RunStart:
    """A new run folder for a configuration in which nothing wrong could be found without loading a model.

    ``held`` keeps the lock on the folder. Raises :class:`UserError`; nothing has been written then.
    """
    config, measured = processes.once("reading the configuration", lambda: settled(request.load()))
    method = config.method.name.rpartition(":")[2]
    named = Path("runs") / f"{method}-{time.strftime('%Y%m%d-%H%M%S')}"
    path = processes.once("naming the run folder", lambda: out or named)
    data = _inputs(config, processes)

    def create() -> list[str]:
        lines = _findings(config, data, path, processes.count)
        held.enter_context(locked(path))
        try:
            write_start(RunFolder.create(path, dump_config(config)), config, data)
        except (UserError, CannotWrite):
            RunFolder(path).discard_unused()
            raise
        return [*lines, *measured]

    lines = processes.once("making the run folder", create)
    return RunStart(config, RunFolder(path, is_read_only=not processes.is_main), lines, data)


def resumed_run(
    path: Path, request: ConfigRequest, out: Path | None, processes: Processes, held: ExitStack
) -> RunStart:
    """A run that is not finished, or lacks nothing but its report; ``held`` keeps the lock on its folder.

    Raises :class:`UserError` where it is finished, where another process is writing it, and where its configuration or its
    problems are not those that it began with.
    """
    if out is not None:
        raise UserError(f"{_AS_CONFIGURED}: --out is for a new run")
    folder = RunFolder(path, is_read_only=not processes.is_main)

    def opened() -> tuple[RunConfig, list[str], bool]:
        config, lines = _resumed_config(RunFolder.open(path), request)
        config.share(processes.count)
        summary = folder.read_json("summary.json")
        if summary is not None and not {"before", "after", "steps", "seconds"} <= summary.keys():
            raise UserError(
                f"{path / 'summary.json'} is not what a run writes; remove it, and what it said is found out again"
            )
        is_trained = summary is not None and is_done(summary, config.run.steps)
        if summary is not None and is_trained and folder.has_report:
            raise UserError(
                f"{path} has done its {summary['steps']} steps and is finished; there is nothing left to resume. "
                "Train a new run with more steps instead"
            )
        if not is_trained:
            _require_optimizer(folder, config)
        held.enter_context(locked(path))
        return config, lines, is_trained

    config, lines, is_trained = processes.once("opening the run folder", opened)
    if is_trained:
        return RunStart(config, folder, lines, None, is_resumed=True)
    data = _inputs(config, processes)
    with processes.as_one("comparing the problems"):
        require_same_problems(folder, data)
    return RunStart(config, folder, lines, data, is_resumed=True)


def _require_optimizer(folder: RunFolder, config: RunConfig) -> None:
    """Refuse to go on from a checkpoint that has no optimiser state, in the middle of the training."""
    checkpoint = None if config.run.checkpoint_optimizer else folder.last_checkpoint(lambda damage: None)
    if checkpoint is not None and step_of(checkpoint) < config.run.steps:
        raise UserError(
            f"{folder.path} cannot be resumed: with run.checkpoint_optimizer = false its checkpoints are without the state of the "
            f"optimiser. Begin a new run"
            + (
                ""
                if config.model.lora
                else f" with the weights of step {step_of(checkpoint)}: --set model.policy={checkpoint}"
            )
        )


def _resumed_config(folder: RunFolder, request: ConfigRequest) -> tuple[RunConfig, list[str]]:
    try:
        resumed = resumed_config(folder, request.file, request.overrides, request.method)
    except UserError as error:
        if request.is_empty:
            raise
        raise UserError(f"{_AS_CONFIGURED}: {error}") from error
    lines = [f"changed   {change}" for change in resumed.changes]
    return resumed.config, [*lines, *(f"warning   {change}" for change in environment_changes(folder, resumed.config))]


def _inputs(config: RunConfig, processes: Processes) -> RunData:
    """The problems of the run, read once by each process, and looked at together with all else that it names."""
    with processes.as_one("looking at what the configuration names"):
        return check_inputs(config)


_IN_PLAN = ("data", "solutions")
"""Subjects whose findings are shown also where nothing is wrong."""


def _findings(config: RunConfig, data: RunData, out: Path, num_processes: int) -> list[str]:
    """What the quick part of ``scope check`` has to say before the run starts; its errors end the command."""
    findings = [
        *setup_findings(config, out, num_processes),
        *input_findings(config, data, out, num_processes, launched_zero_stage()),
    ]
    errors = [
        f"{f.subject}: {f.message}{f'; {f.remedy}' if f.remedy else ''}"
        for f in findings
        if f.severity is Severity.ERROR
    ]
    if errors:
        raise UserError("; ".join(errors))
    read = [f"{f.subject:<10}{f.message}" for f in findings if f.subject in _IN_PLAN and f.severity is Severity.OK]
    warned = [f for f in findings if f.severity is Severity.WARNING]
    return [*read, *(f"warning   {f.subject}: {f.message}; {f.remedy}" for f in warned)]
