"""The configuration of a run: its sections together, read strictly from TOML, with every derived number spelled out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError, model_validator

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.prompts import PromptSection
from scope_rlvr.core.settings import Settings
from scope_rlvr.core.steps import StepRule
from scope_rlvr.engines.settings import AnyEngine, TinkerEngine, TrlEngine
from scope_rlvr.grading.settings import AnyVerifier, PatternKind
from scope_rlvr.methods import AnyMethod, Scope
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.run.mistakes import described
from scope_rlvr.run.sections import (
    EvaluationSection,
    LoggingSection,
    ModelSection,
    ObjectiveSection,
    OptimizerSection,
    ProblemsSection,
    RunSection,
    SamplingSection,
    WarmupSection,
)
from scope_rlvr.scorers.settings import NONE, ScorerSection
from scope_rlvr.store.toml import parse_toml, read_toml
from scope_rlvr.teachers.settings import JudgeSection, TeacherSection


@dataclass(frozen=True, slots=True)
class Share:
    """The rows that a process trains on in a step, and how many of them at a time."""

    rows: int
    micro_batch_rows: int

    @property
    def num_micro_batches(self) -> int:
        return self.rows // self.micro_batch_rows


class RunConfig(Settings):
    """Everything that decides a run."""

    run: RunSection = RunSection()
    model: ModelSection = ModelSection()
    problems: ProblemsSection = ProblemsSection()
    prompt: PromptSection = PromptSection()
    sampling: SamplingSection = SamplingSection()
    steps: StepRule = StepRule()
    method: AnyMethod = Scope()
    objective: ObjectiveSection = ObjectiveSection()
    optimizer: OptimizerSection = OptimizerSection()
    scorer: ScorerSection = ScorerSection()
    teacher: TeacherSection = TeacherSection()
    judge: JudgeSection = JudgeSection()
    verifier: AnyVerifier = PatternKind()
    evaluation: EvaluationSection = EvaluationSection()
    logging: LoggingSection = LoggingSection()
    warmup: WarmupSection = WarmupSection()
    engine: AnyEngine = TrlEngine()

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        for is_needed, section, model in (
            (self.method.needs_teacher, "teacher", self.teacher.model),
            (self.method.needs_step_scorer, "scorer", self.scorer.model),
            (Need.JUDGE in self.method.needs, "judge", self.judge.model),
        ):
            if is_needed and model == NONE:
                instead = ", or set method.max_salvages = 0" if isinstance(self.method, Scope) else ""
                raise ValueError(
                    f"method {self.method.name!r} needs a {section} and {section}.model is {NONE!r}; name a model folder "
                    f"there{instead}"
                )
        if self.run.checkpoint_every % self.objective.steps_per_batch:
            raise ValueError(
                f"run.checkpoint_every = {self.run.checkpoint_every} is no multiple of objective.updates_per_batch x "
                f"objective.mini_batches = {self.objective.steps_per_batch}: a checkpoint between two optimiser steps on the "
                "same rollouts could not be resumed exactly"
            )
        names = [section.called(self.problems.family) for section in self.evaluation.sets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"two evaluation sets are called {twice[0]!r}, and one would take the other's figures; give one a name = ..."
            )
        self.share()
        return self

    @property
    def resolved_objective(self) -> ObjectiveSection:
        """The objective; what the method fixes replaces what the run says."""
        return self.objective.model_copy(update=self.method.fixed)

    @property
    def model_names(self) -> list[str]:
        """Policy, teacher, step scorer and judge, as they are named."""
        return [self.model.policy, self.teacher.model, self.scorer.model, self.judge.model]

    @property
    def rows_per_group(self) -> int:
        """Rollouts sampled for a problem, and the rows that the method reserves beside them."""
        return self.run.rollouts_per_problem + self.method.num_reserved_rows

    @property
    def rows_per_step(self) -> int:
        return self.run.problems_per_step * self.rows_per_group

    def share(self, num_processes: int = 1) -> Share:
        """What each of ``num_processes`` trains on in a step; :class:`UserError` if a step cannot be shared like that."""
        problems, rows = self.run.problems_per_step, self.rows_per_step // num_processes
        if problems % num_processes:
            raise UserError(
                f"run.problems_per_step = {problems} cannot be shared by {num_processes} processes: each trains on whole groups; "
                "start a number of processes that divides it, or take other problems_per_step"
            )
        parts = self.objective.mini_batches
        if rows % parts:
            raise UserError(
                f"objective.mini_batches = {parts} does not divide the {rows} rows that a process has in a step "
                f"({problems // num_processes} problems x {self.rows_per_group} rows)"
            )
        micro_batch_rows = self.run.micro_batch_rows or rows // parts
        if (rows // parts) % micro_batch_rows:
            of_each = f" that each of {num_processes} processes has" if num_processes > 1 else ""
            raise UserError(
                f"run.micro_batch_rows = {micro_batch_rows} does not divide the {rows // parts} rows of a step{of_each} "
                f"({problems // num_processes} problems x {self.rows_per_group} rows"
                + (f" / {parts} mini-batches)" if parts > 1 else ")")
            )
        return Share(rows, micro_batch_rows)

    def plan(self, num_processes: int = 1) -> list[str]:
        """The run in a few lines, every derived number with the arithmetic that made it."""
        share = self.share(num_processes)
        shared = f" / {num_processes} processes = {share.rows}" if num_processes > 1 else ""
        run, objective, reserved = self.run, self.resolved_objective, self.method.num_reserved_rows
        slots = f" + {reserved} reserved rows a problem" if reserved else ""
        source = self.problems.source or f"{self.problems.family}, level {self.problems.level}"
        sets = [section.described() for section in self.evaluation.sets]
        num_batches = -(-run.steps // self.objective.steps_per_batch)
        batches = f"{run.steps} steps"
        if num_batches != run.steps:
            batches += f" / {self.objective.steps_per_batch} updates = {num_batches} batches"
        helpers = f", scorer {self.scorer.model}" if self.method.needs_step_scorer else ""
        helpers += f", teacher {self.teacher.title}" if self.method.needs_teacher else ""
        helpers += f", judge {self.judge.title}" if Need.JUDGE in self.method.needs else ""
        return [
            f"method    {self.method.title}, policy {self.model.policy}{self._policy()}{helpers}",
            f"problems  {source}; {batches} x {run.problems_per_step} problems x {run.rollouts_per_problem} rollouts = "
            f"{num_batches * run.problems_per_step * run.rollouts_per_problem} rollouts",
            f"step      {run.problems_per_step} x {run.rollouts_per_problem} rollouts{slots} = {self.rows_per_step} rows{shared}, "
            f"{share.num_micro_batches} backward pass(es) of {share.micro_batch_rows}, "
            f"{self.objective.steps_per_batch} update(s){self._mini_batches()}{self._sampler()}",
            f"evaluate  {', '.join(sets)}; "
            f"at most {self.evaluation.num_problems} problems x {self.evaluation.samples_per_problem} samples each"
            f"{self._evaluations_during()}",
            f"objective normalisation {objective.normalisation.value}, aggregation {objective.aggregation.value}, "
            f"clip {objective.clip}, kl {objective.kl}, entropy {objective.entropy}, learning rate "
            f"{self.optimizer.learning_rate}, seed {run.seed}",
            *self._engine(),
        ]

    def _mini_batches(self) -> str:
        parts = self.objective.mini_batches
        return "" if parts == 1 else f" on {parts} mini-batches"

    def _policy(self) -> str:
        lora, layers, dtype = self.model.lora, self.model.train_layers, self.model.dtype
        said = [] if dtype is None else [dtype.value]
        if lora is not None:
            said.append(f"LoRA of rank {lora.rank}, alpha {lora.alpha:g}")
        if layers is not None:
            said.append(f"the upper {layers} layers train" if isinstance(layers, int) else f"{', '.join(layers)} train")
        return f" ({'; '.join(said)})" if said else ""

    def _sampler(self) -> str:
        kind = self.sampling.sampler.kind
        return "" if kind == "local" else f"; sampled by {kind}"

    def _engine(self) -> list[str]:
        engine = self.engine
        if not isinstance(engine, TinkerEngine):
            return []
        return [f"engine    tinker at {engine.url or 'the hosted service'}, LoRA of rank {engine.rank}"]

    def _evaluations_during(self) -> str:
        section = self.evaluation
        during = section.num_problems_during or section.num_problems
        watched = f"; every {section.every} steps {during} other problems each" if section.every else ""
        watched += f", until {_targets(section.stop_at)}" if section.stop_at else ""
        return watched if section.before else f", after training only{watched}"


def _targets(stop_at: Mapping[str, float]) -> str:
    return " and ".join(f"{name} >= {value:g}" for name, value in stop_at.items())


def load_config(file: Path | None = None, overrides: Sequence[str] = (), method: str | None = None) -> RunConfig:
    """Read a configuration and apply ``a.b=c`` overrides; raises :class:`UserError` with every mistake in it.

    ``method`` chooses another method than the file's: the options that the file gives for its own are then dropped.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values = read_toml(file, "the configuration")
    given = values.get("method", {})
    if method is not None and (not isinstance(given, dict) or given.get("name", "scope") != method):
        values["method"] = {"name": method}
    for override in overrides:
        apply_override(values, override)
    return validate_config(values, str(file) if file else "the configuration")


def validate_config(values: dict[str, Any], where: str) -> RunConfig:
    """Check raw values; one :class:`UserError` names every mistake with what was received."""
    values = dict(values)
    if isinstance(values.get("method"), str):
        values["method"] = {"name": values["method"]}
    if isinstance(values.get("method"), dict):
        values["method"] = {"name": "scope"} | values["method"]
    if isinstance(values.get("verifier"), str):
        values["verifier"] = {"kind": values["verifier"]}
    if isinstance(values.get("verifier"), dict):
        values["verifier"] = {"kind": "pattern"} | values["verifier"]
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"  {described(mistake, values, RunConfig)}" for mistake in error.errors()]
        raise UserError(f"{where} has {len(lines)} mistake(s):\n" + "\n".join(lines)) from error


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as TOML; reading it again gives the same configuration."""
    return tomlkit.dumps(_without_none(config.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    """TOML has no null: an absent key means the same, since no default differs from null where null is allowed."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one key of raw values, as ``--set section.key=value`` does."""
    path, equals, text = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise UserError(f"--set {override!r} is not of the form section.key=value, e.g. --set run.steps=100")
    table: Any = values
    for key in keys[:-1]:
        place = _place(table, key, override)
        inner = table[place] if isinstance(table, list) else table.setdefault(key, {})
        # A bare name means a rule with its defaults; setting one of its fields keeps the rule.
        if isinstance(inner, str):
            inner = {"name" if table is values and key == "method" else "kind": inner}
            table[place] = inner
        if not isinstance(inner, dict | list):
            raise UserError(f"--set {override!r}: {key!r} is not a section")
        table = inner
    table[_place(table, keys[-1], override)] = _parse_value(text.strip())


def _place(table: dict[str, Any] | list[Any], key: str, override: str) -> Any:
    """Where a key leads to in a table, or in a list whose entries are numbered from 0."""
    if isinstance(table, dict):
        return key
    if not key.isdigit() or int(key) >= len(table):
        raise UserError(f"--set {override!r}: {key!r} is no entry of a list of {len(table)}, which are numbered from 0")
    return int(key)


def _parse_value(text: str) -> Any:
    """A TOML value, or the text itself where it is none, so that names need no quotes."""
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text
