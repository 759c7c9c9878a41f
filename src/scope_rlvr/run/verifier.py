"""The problem family and the verifier that a configuration names."""

from __future__ import annotations

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Verifier
from scope_rlvr.grading.settings import pattern_of, verifier_of
from scope_rlvr.problems import families
from scope_rlvr.problems.family import ProblemFamily
from scope_rlvr.run.config import RunConfig


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
