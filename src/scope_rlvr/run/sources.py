"""What a configuration names: problems, model folders, evaluation sets. Checked before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import TextCodec, Verifier
from scope_rlvr.core.types import Problem
from scope_rlvr.evaluation.evaluate import EvaluationSet
from scope_rlvr.grading.settings import pattern_of, verifier_of
from scope_rlvr.methods import Scope
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.problems import families
from scope_rlvr.problems.family import ProblemFamily, Split
from scope_rlvr.problems.rows import ProblemTable
from scope_rlvr.problems.sources import (
    SourceSettings,
    Wanted,
    is_family,
    level_of,
    load_problems,
    makes_problems,
    overlap,
)
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.sections import EvaluationSetSection
from scope_rlvr.scorers.families import EXACT, NONE, ChosenRule
from scope_rlvr.store.packages import is_installed
from scope_rlvr.teachers.settings import SOLUTIONS, THE_POLICY

_HELD_OUT_SEED = 0


def family_of(config: RunConfig) -> ProblemFamily:
    try:
        return families.get(config.problems.family)
    except ValueError as error:
        raise UserError(f"problems.family: {error}") from error


def make_verifier(config: RunConfig) -> Verifier:
    """The verifier that a configuration describes."""
    return verifier_of(config.verifier, family_of(config).answer_pattern)


def answer_pattern(config: RunConfig) -> str | None:
    """The regular expression that answers are read with; ``None`` where they are read from the last box."""
    return pattern_of(config.verifier, family_of(config).answer_pattern)


def training_problems(config: RunConfig) -> list[Problem]:
    """The problems that a run trains on; a source that makes problems gives as many as the run can use."""
    return list(training_table(config).problems)


def training_table(config: RunConfig) -> ProblemTable:
    """The training problems, with the complaints about rows that were left out."""
    section, run = config.problems, config.run
    if section.source is None:
        count = run.steps * run.problems_per_step
        return ProblemTable(tuple(family_of(config).sample(section.level, count, run.seed, split="train")))
    wanted = Wanted("train", seed=run.seed)
    if makes_problems(section.source):
        wanted = replace(wanted, count=run.steps * run.problems_per_step)
    table = load_problems(section, wanted, section.folder)
    require_enough(len(table.problems), config, section.source)
    return table


def require_enough(num_problems: int, config: RunConfig, source: str) -> None:
    """Refuse fewer problems than a step needs."""
    if num_problems < config.run.problems_per_step:
        raise UserError(
            f"{source} holds {num_problems} problems and a step needs run.problems_per_step = "
            f"{config.run.problems_per_step}; add problems or lower that number"
        )


def short_enough(problems: list[Problem], codec: TextCodec, config: RunConfig) -> list[Problem]:
    """The problems whose prompt, as the policy is shown it, has at most ``problems.max_prompt_tokens`` tokens."""
    longest = config.problems.max_prompt_tokens
    if longest is None:
        return problems
    kept = [problem for problem in problems if len(codec.encode_prompt(problem.prompt)) <= longest]
    require_enough(
        len(kept), config, f"after problems.max_prompt_tokens = {longest}, {config.problems.source or 'the family'}"
    )
    return kept


def evaluation_sets(config: RunConfig, split: Split = "test") -> list[EvaluationSet]:
    """The held-out sets: ``test`` for before and after, ``dev`` for what is watched during a run."""
    evaluation = config.evaluation
    num_problems = evaluation.num_problems
    if split == "dev" and evaluation.num_problems_during is not None:
        num_problems = evaluation.num_problems_during
    return [evaluation_set(config, section, num_problems, split) for section in evaluation.sets]


def evaluation_set(config: RunConfig, section: EvaluationSetSection, num_problems: int, split: Split) -> EvaluationSet:
    """One held-out set with its first ``num_problems`` problems; of what makes problems, those of the block."""
    name, level = section.called(config.problems.family), section.level
    settings: SourceSettings = section
    if level is not None:
        family_of(config)
        settings = section.model_copy(update={"source": f"{config.problems.family}:{level}"})
    elif section.source is not None and is_family(section.source):
        level = level_of(section.source)
    start = config.evaluation.problems_block * config.evaluation.num_problems if makes_problems(settings.source) else 0
    wanted = Wanted(split, num_problems, start, _HELD_OUT_SEED)
    table = load_problems(settings, wanted, config.problems.folder)
    return EvaluationSet(
        name, section.role, level, table.problems, section.samples_per_problem, table.num_available, table.left_out
    )


def rows_left_out(*sources: tuple[str, Sequence[str]]) -> str:
    """How many rows of each source were no problems, for the end of a line: a source is its name and its complaints.

    >>> rows_left_out(("", ["line 3: no answer"]), ("of math500 ", []))
    '; 1 row(s) left out, the first: line 3: no answer'
    """
    found = ((name, complaints) for name, complaints in sources if complaints)
    return "".join(f"; {name}{len(said)} row(s) left out, the first: {said[0]}" for name, said in found)


@dataclass(frozen=True)
class RunData:
    """The data of a run: training problems, held-out sets, and what is in both, by the name of the set."""

    training: ProblemTable
    held_out: tuple[EvaluationSet, ...]
    shared: dict[str, str]

    def lines(self) -> list[str]:
        """What there is, for whoever reads before a run starts."""
        clean = "" if self.shared else ", none of them in an evaluation set"
        some = rows_left_out(
            ("", self.training.left_out), *((f"of {one.name} ", one.left_out) for one in self.held_out)
        )
        return [f"{len(self.training.problems)} training problems{clean}{some}", *self.shared.values()]


def run_data(config: RunConfig) -> RunData:
    """Read all data of a run; :class:`UserError` where they cannot be used.

    Held-out problems that are trained on, too, make what is measured worthless: they are refused unless
    ``problems.allow_overlap`` says otherwise.
    """
    training, held_out = training_table(config), evaluation_sets(config)
    pairs = {one.name: overlap(training.problems, one.problems) for one in held_out}
    shared = {
        name: f"{len(found)} training problem(s) are in the evaluation set {name}, too; the first is {found[0][0].id!r}, "
        f"there {found[0][1].id!r}"
        for name, found in pairs.items()
        if found
    }
    if shared and not config.problems.allow_overlap:
        raise UserError(
            f"{next(iter(shared.values()))}. What is measured there would be worthless: remove them from the training "
            "problems, measure on another set, or set problems.allow_overlap = true"
        )
    return RunData(training, tuple(held_out), shared)


def check_sources(config: RunConfig) -> None:
    """Find every mistake that can be found without loading a model."""
    names = [("model.policy", config.model.policy)]
    if config.method.needs_teacher and not config.teacher.is_served:
        names.append(("teacher.model", config.teacher.model))
    if config.method.needs_step_scorer:
        names += config.scorer.folders
    for key, name in names:
        if (key, name) not in _NOT_MODELS and name != NONE:
            resolve_model(name, key)
    if config.method.needs_step_scorer and config.scorer.calibration is not None:
        ChosenRule.read(config.scorer.calibration)
    _check_exact_helpers(config)
    evaluation_sets(config)
    if config.problems.source is not None:
        training_problems(config)
    _check_solutions(config)
    _check_reporters(config)
    _check_packages(config)


_NOT_MODELS = {("teacher.model", THE_POLICY), ("teacher.model", EXACT), ("teacher.model", SOLUTIONS)}


def _check_exact_helpers(config: RunConfig) -> None:
    """The exact checker and the exact solver know the problems of their own family alone."""
    family_of(config)
    for is_needed, key, model in (
        (config.method.needs_step_scorer, "scorer.model", config.scorer.model),
        (config.method.needs_teacher, "teacher.model", config.teacher.model),
    ):
        if is_needed and model == EXACT and config.problems.source is not None:
            raise UserError(
                f"{key} = {EXACT!r} knows the problems of the family {config.problems.family!r}, not those of "
                f"{config.problems.source}; name a model folder"
            )


def _check_solutions(config: RunConfig) -> None:
    """Who recites needs something to recite, and a method that asks for whole solutions."""
    method = config.method
    if not method.needs_teacher or config.teacher.model != SOLUTIONS:
        return
    if isinstance(method, Scope) and method.mode.kind != "whole_trace":
        raise UserError(
            f"teacher.model = {SOLUTIONS!r} cannot go on from a policy's prefix; set method.mode = 'whole_trace', or take "
            "another teacher or method"
        )
    problems = training_table(config).problems if config.problems.source is not None else ()
    num_solved = sum(problem.solution is not None for problem in problems)
    if not num_solved:
        raise UserError(
            f"teacher.model = {SOLUTIONS!r}, and no training problem has a solution; name its column in "
            "problems.columns.solution, or take another teacher"
        )


def _check_packages(config: RunConfig) -> None:
    """Packages that only some runs need."""
    if config.model.lora is not None and not is_installed("peft"):
        raise UserError(
            "model.lora trains adapters by the package peft, which is not installed: pip install 'scope-rlvr[lora]', or leave "
            "model.lora out"
        )
    kind = config.sampling.sampler.kind
    if kind != "local" and not is_installed("vllm"):
        raise UserError(
            f"sampling.sampler = {kind!r} needs the package vllm, also where a server samples, and it is not installed: pip "
            "install 'trl[vllm]' takes a release that fits, or leave sampling.sampler out"
        )


def _check_reporters(config: RunConfig) -> None:
    if not config.logging.report_to:
        return
    from transformers.integrations import get_available_reporting_integrations

    available = get_available_reporting_integrations()
    missing = [name for name in config.logging.report_to if name not in available]
    if missing:
        raise UserError(
            f"logging.report_to names {', '.join(missing)}; installed here: {', '.join(available) or 'none'}. Install the "
            "package, or leave the name out"
        )
