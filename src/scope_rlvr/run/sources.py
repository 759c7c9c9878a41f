"""What a configuration names: problems, model folders, evaluation sets. Checked before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path

from scope_rlvr.embedded import model_path
from scope_rlvr.errors import UserError
from scope_rlvr.evaluation.evaluate import EvaluationSet
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.problems import families
from scope_rlvr.problems.family import Family, Split
from scope_rlvr.problems.jsonl import read_problems
from scope_rlvr.run.config import RunConfig
from scope_rlvr.scorers.families import EXACT, NONE
from scope_rlvr.teachers.settings import THE_POLICY
from scope_rlvr.types import Problem

EMBEDDED = "embedded:"
_HELD_OUT_SEED = 0


def family_of(config: RunConfig) -> Family:
    try:
        return families.get(config.problems.family)
    except ValueError as error:
        raise UserError(f"problems.family: {error}") from error


def answer_pattern(config: RunConfig) -> str:
    return config.verifier.answer_pattern or family_of(config).answer_pattern


def training_problems(config: RunConfig) -> list[Problem]:
    """The problems that a run trains on; a family gives as many as the run can use."""
    if config.problems.file is not None:
        problems = read_problems(config.problems.file)
        if len(problems) < config.run.problems_per_step:
            raise UserError(
                f"{config.problems.file} holds {len(problems)} problems and a step needs "
                f"run.problems_per_step = {config.run.problems_per_step}; add problems or lower that number"
            )
        return problems
    count = config.run.steps * config.run.problems_per_step
    return family_of(config).sample(config.problems.level, count, config.run.seed, split="train")


def evaluation_sets(config: RunConfig, split: Split = "test") -> list[EvaluationSet]:
    """The held-out sets: ``test`` for before and after, ``dev`` for what is watched during a run."""
    evaluation = config.evaluation
    num_problems = evaluation.num_problems
    if split == "dev" and evaluation.num_problems_during is not None:
        num_problems = evaluation.num_problems_during
    sets = []
    for section in evaluation.sets:
        if section.file is not None:
            sets.append(file_set(section.file, section.role, num_problems))
            continue
        assert section.level is not None, "a set has a level or a file"
        start = evaluation.problems_block * evaluation.num_problems
        sets.append(family_set(family_of(config), section.level, section.role, num_problems, start, split))
    return sets


def family_set(family: Family, level: int, role: str, num_problems: int, start: int, split: Split) -> EvaluationSet:
    """Held-out problems of a family at a level from the ``start``-th on, the same for every run; ``<family>-<level>``."""
    drawn = family.sample(level, start + num_problems, _HELD_OUT_SEED, split=split)
    if start and len({problem.id for problem in drawn}) < len(drawn):
        raise UserError(
            f"evaluation.problems_block: {family.name} at level {level} has fewer than {len(drawn)} problems in its {split} "
            "split, so that blocks would share some; lower the block or the number of problems"
        )
    return EvaluationSet(f"{family.name}-{level}", role, level, tuple(drawn[start:]))


def file_set(file: Path, role: str, num_problems: int) -> EvaluationSet:
    """The first problems of a JSONL file, named after it."""
    return EvaluationSet(file.stem, role, None, tuple(read_problems(file)[:num_problems]))


def resolve_model(name: str, key: str) -> str:
    """The folder that a model name stands for, or the name itself where it can only be a Hub name.

    Raises :class:`UserError` for a folder that holds no model. ``key`` is where the name stands in the configuration.
    """
    if name.startswith(EMBEDDED):
        try:
            folder = model_path(name.removeprefix(EMBEDDED))  # type: ignore[arg-type]
        except ValueError as error:
            raise UserError(f"{key}: {error}") from error
        return str(_model_folder(folder, key))
    if Path(name).exists() or name.startswith((".", "/", "~")):
        return str(_model_folder(Path(name).expanduser(), key))
    if name.count("/") != 1:
        raise UserError(
            f"{key} = {name!r} is neither a model folder, nor embedded:policy / teacher / step_scorer, nor a Hub name of "
            "the form owner/name"
        )
    return name


def _model_folder(folder: Path, key: str) -> Path:
    if not (folder / "config.json").is_file():
        raise UserError(f"{key}: {folder} holds no model (no config.json); give the folder that save_pretrained wrote")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{key}: {folder} holds no safetensors weights; other formats are not loaded")
    return folder


def check_sources(config: RunConfig) -> None:
    """Find every mistake that can be found without loading a model."""
    names = [("model.policy", config.model.policy)]
    if config.method.needs_teacher and not config.teacher.is_served:
        names.append(("teacher.model", config.teacher.model))
    if config.method.needs_step_scorer:
        names.append(("scorer.model", config.scorer.model))
    for key, name in names:
        if (key, name) not in _NOT_MODELS and name != NONE:
            resolve_model(name, key)
    _check_exact_helpers(config)
    try:
        FinalAnswerVerifier(answer_pattern(config))
    except ValueError as error:
        raise UserError(f"verifier.answer_pattern: {error}") from error
    evaluation_sets(config)
    if config.problems.file is not None:
        training_problems(config)
    _check_reporters(config)


_NOT_MODELS = {("teacher.model", THE_POLICY), ("teacher.model", EXACT), ("scorer.model", EXACT)}


def _check_exact_helpers(config: RunConfig) -> None:
    """The exact checker and the exact solver know the problems of their own family alone."""
    family_of(config)
    for is_needed, key, model in (
        (config.method.needs_step_scorer, "scorer.model", config.scorer.model),
        (config.method.needs_teacher, "teacher.model", config.teacher.model),
    ):
        if is_needed and model == EXACT and config.problems.file is not None:
            raise UserError(
                f"{key} = {EXACT!r} knows the problems of the family {config.problems.family!r}, not those of "
                f"{config.problems.file}; name a model folder"
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
