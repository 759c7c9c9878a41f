"""The problem family and the verifier that a configuration names."""

from __future__ import annotations

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Verifier
from scope_rlvr.grading.settings import PatternKind, pattern_of, verifier_of
from scope_rlvr.problems import families
from scope_rlvr.problems.family import ProblemFamily
from scope_rlvr.problems.sources import family_name, is_family
from scope_rlvr.run.config import RunConfig


def family_of(config: RunConfig) -> ProblemFamily:
    """The family that is trained on: that of ``problems.source`` where it names a level of one, else ``problems.family``."""
    source = config.problems.source
    if source is not None and is_family(source):
        return families.get(family_name(source))
    try:
        return families.get(config.problems.family)
    except ValueError as error:
        raise UserError(f"problems.family: {error}") from error


def make_verifier(config: RunConfig) -> Verifier:
    """The verifier that a configuration describes."""
    return verifier_of(config.verifier, family_of(config).answer_pattern)


def require_readable(config: RunConfig, source: str | None) -> None:
    """Refuse problems of a family whose answers are written in another way than the run reads them."""
    if source is None or not is_family(source) or config.verifier != PatternKind():
        return
    theirs, ours = families.get(family_name(source)).answer_pattern, family_of(config).answer_pattern
    if theirs != ours:
        raise UserError(
            f"{source}: its answers are read by {theirs!r}, and the family of this configuration has {ours!r}, so that every "
            "answer would be wrong; measure it by itself with 'scope eval --problems', or set verifier.answer_pattern"
        )


def answer_pattern(config: RunConfig) -> str | None:
    """The regular expression that answers are read with; ``None`` where they are read from the last box."""
    return pattern_of(config.verifier, family_of(config).answer_pattern)
