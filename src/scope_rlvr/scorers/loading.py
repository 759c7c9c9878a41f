"""From the ``[scorer]`` section of a configuration to a live step scorer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from scope_rlvr.engines.loading import UNLOADABLE, device, first_line, require_reader
from scope_rlvr.errors import UserError
from scope_rlvr.ports import StepScorer
from scope_rlvr.problems.family import Family as ProblemFamily
from scope_rlvr.run.sources import resolve_model
from scope_rlvr.scorers.exact import ExactScorer
from scope_rlvr.scorers.families import (
    EXACT,
    NONE,
    AnyFamily,
    Auto,
    ScorerDescription,
    ScorerSection,
    TokenClassifier,
    rule_of,
)
from scope_rlvr.scorers.noisy import NoisyScorer
from scope_rlvr.scorers.token_classifier import TokenClassifierScorer
from scope_rlvr.types import Problem

_READ_FROM_THE_HUB = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""Neither code nor pickles."""

_CLASSES = {"ForTokenClassification": TokenClassifier()}
"""Families by how the name of a model's class ends."""


def load_scorer(
    section: ScorerSection,
    *,
    problems: Sequence[Problem] = (),
    problem_family: ProblemFamily | None = None,
    seed: int = 0,
) -> StepScorer:
    """The step scorer that a configuration names, ready to score and tested.

    ``problems`` are what it will have to read; ``problem_family`` is needed by ``exact`` alone; ``seed`` decides which
    solutions ``noise`` changes. :class:`UserError` where the scorer cannot be used.
    """
    scorer: StepScorer
    if section.model == NONE:
        raise UserError(f"scorer.model = {NONE!r}: a step scorer is needed here; name one")
    if section.model == EXACT:
        if problem_family is None:
            raise UserError(f"scorer.model = {EXACT!r} knows the problems of a family alone, and none is given here")
        scorer = ExactScorer(problem_family)
    else:
        scorer = _load_from_folder(section, problems)
    return NoisyScorer(scorer, section.noise, seed) if section.noise else scorer


def _load_from_folder(section: ScorerSection, problems: Sequence[Problem]) -> StepScorer:
    folder = _model_folder(section.model)
    description = ScorerDescription.read(folder)
    family = _family_of(section, folder, description)
    rule = rule_of(section, family, description)
    try:
        scorer = TokenClassifierScorer.load(folder, rule, family)
    except UNLOADABLE as error:
        raise UserError(
            f"scorer.model = {section.model!r} cannot be loaded as a step scorer: {first_line(error)}"
        ) from error
    scorer.model.to(device())
    require_reader(scorer.tokenizer, problems, f"the step scorer {section.model}")
    return scorer


def _model_folder(name: str) -> Path:
    source = resolve_model(name, "scorer.model")
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, allow_patterns=_READ_FROM_THE_HUB))
    except Exception as error:  # the client raises errors of many kinds, none of which stands for a fault of ours
        raise UserError(f"scorer.model = {name!r} cannot be fetched from the Hub: {first_line(error)}") from error


def _family_of(section: ScorerSection, folder: Path, description: ScorerDescription | None) -> AnyFamily:
    if not isinstance(section.family, Auto):
        return section.family
    if description is not None and not isinstance(description.family, Auto):
        return description.family
    classes = _architectures(folder)
    for end, family in _CLASSES.items():
        if any(name.endswith(end) for name in classes):
            return family
    raise UserError(
        f"scorer.model = {section.model!r}: its class {', '.join(classes) or '(none named)'} belongs to no family of step "
        "scorers that is known by it; name one by scorer.family"
    )


def _architectures(folder: Path) -> list[str]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'} cannot be read as JSON: {first_line(error)}") from error
    return list(config.get("architectures") or []) if isinstance(config, dict) else []
