"""The problems of a run, read once: those to train on, and the held-out sets to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.evaluation.evaluate import EvaluationSet
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.rows import ProblemTable
from scope_rlvr.problems.sources import (
    MOST_MADE,
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
from scope_rlvr.run.verifier import family_of, require_readable
from scope_rlvr.store.digests import value_digest

_HELD_OUT_SEED = 0


@dataclass(frozen=True)
class RunData:
    """Everything that a run reads of problems. It is made once and handed on, so nothing is read a second time.

    ``test_sets`` are measured before and after, ``dev_sets`` during the run. ``shared`` says for each test set, by its
    name, which training problems are in it.
    """

    training: ProblemTable
    test_sets: tuple[EvaluationSet, ...]
    dev_sets: tuple[EvaluationSet, ...]
    shared: dict[str, str]

    def lines(self) -> list[str]:
        """What there is, for the person who starts the run."""
        clean = "" if self.shared else ", none of them in an evaluation set"
        left_out = rows_left_out(
            ("", self.training.left_out), *((f"of {one.name} ", one.left_out) for one in self.test_sets)
        )
        return [f"{len(self.training.problems)} training problems{clean}{left_out}", *self.shared.values()]

    @cached_property
    def digest(self) -> str:
        """Equal for equal problems to train on and to measure on."""
        held_out = [_content(problem) for one in (*self.test_sets, *self.dev_sets) for problem in one.problems]
        return value_digest([[_content(problem) for problem in self.training.problems], held_out])


def _content(problem: Problem) -> list[str | int | None]:
    return [problem.id, problem.prompt, problem.reference, problem.level, problem.solution]


def read_data(config: RunConfig) -> RunData:
    """Read all problems of a run; :class:`UserError` where they cannot be used.

    Held-out problems that are trained on, too, make what is measured worthless: they are refused unless
    ``problems.allow_overlap`` says otherwise.
    """
    training, test_sets = training_problems(config), evaluation_sets(config)
    pairs = {one.name: overlap(training.problems, one.problems) for one in test_sets}
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
    dev_sets = evaluation_sets(config, "dev") if config.evaluation.every else []
    return RunData(training, tuple(test_sets), tuple(dev_sets), shared)


def training_problems(config: RunConfig) -> ProblemTable:
    """The problems to train on, with the complaints about rows that were left out.

    A source that makes problems gives as many as the run can use, a million at most.
    """
    section, run = config.problems, config.run
    if section.source is None:
        family_of(config)
        section = section.model_copy(update={"source": f"{section.family}:{section.level}"})
    count = min(run.steps * run.problems_per_step, MOST_MADE) if makes_problems(section.source) else 0
    table = load_problems(section, Wanted("train", count, seed=run.seed), section.folder)
    require_enough(len(table.problems), config)
    return table


def require_enough(num_problems: int, config: RunConfig, where: str = "") -> None:
    """Refuse fewer problems than a step needs; ``where`` is what the message begins with."""
    if num_problems < config.run.problems_per_step:
        raise UserError(
            f"{where}{config.problems.source or 'the family'} holds {num_problems} problems and a step needs "
            f"run.problems_per_step = {config.run.problems_per_step}; add problems or lower that number"
        )


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
    require_readable(config, settings.source)
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
