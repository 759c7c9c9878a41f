"""What a configuration names, looked at before any model is loaded: models, problems, packages, reporters."""

from __future__ import annotations

from collections.abc import Sequence

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.models.precision import require_hardware
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.problems.sources import is_family
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.data import RunData, read_data
from scope_rlvr.run.verifier import family_of
from scope_rlvr.scorers import function as scorer_function
from scope_rlvr.scorers.description import ChosenRule
from scope_rlvr.scorers.families import Function
from scope_rlvr.scorers.settings import EXACT
from scope_rlvr.store.packages import is_installed
from scope_rlvr.teachers import function as teacher_function
from scope_rlvr.teachers.settings import SOLUTIONS


def check_inputs(config: RunConfig) -> RunData:
    """Find every mistake that can be found without loading a model; the problems, which are read on the way, are returned.

    Raises :class:`UserError` for the first one.
    """
    names = [("model.policy", config.model.policy)]
    if config.method.needs_teacher:
        names += config.teacher.folders
    if config.method.needs_step_scorer:
        names += config.scorer.folders
    for key, name in names:
        resolve_model(name, key)
    if config.method.needs_step_scorer and config.scorer.calibration is not None:
        ChosenRule.read(config.scorer.calibration)
    require_hardware(config.model.dtype, "model.dtype")
    _check_exact_helpers(config)
    _check_functions(config)
    _check_reporters(config)
    _check_packages(config)
    data = read_data(config)
    _check_solutions(config, data.training.problems)
    return data


def _check_exact_helpers(config: RunConfig) -> None:
    """The exact checker and the exact solver know the problems of their own family alone."""
    family_of(config)
    source = config.problems.source
    for is_needed, key, model in (
        (config.method.needs_step_scorer, "scorer.model", config.scorer.model),
        (config.method.needs_teacher, "teacher.model", config.teacher.model),
    ):
        if is_needed and model == EXACT and source is not None and not is_family(source):
            raise UserError(
                f"{key} = {EXACT!r} knows the problems of the family {config.problems.family!r}, not those of "
                f"{source}; name a model folder"
            )


def _check_functions(config: RunConfig) -> None:
    """Functions of the user's can be imported."""
    teacher, scorer = config.teacher.function, config.scorer.family
    if config.method.needs_teacher and teacher is not None:
        teacher.pool(teacher_function.JUDGE).close()
    if config.method.needs_step_scorer and isinstance(scorer, Function):
        scorer.pool(scorer_function.JUDGE).close()


def _check_solutions(config: RunConfig, training: Sequence[Problem]) -> None:
    """A teacher that has nothing but solutions needs some."""
    if not config.method.needs_teacher or config.teacher.model != SOLUTIONS:
        return
    if not any(problem.solution is not None for problem in training):
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
