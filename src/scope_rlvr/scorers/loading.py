"""From the ``[scorer]`` section of a configuration to a live step scorer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import snapshot_download

from scope_rlvr.engines.loading import UNLOADABLE, first_line, require_reader
from scope_rlvr.errors import UserError
from scope_rlvr.ports import DecisionRule, StepScorer
from scope_rlvr.problems.family import Family as ProblemFamily
from scope_rlvr.run.sources import resolve_model
from scope_rlvr.scorers.candidate_tokens import load_math_shepherd, load_rlhflow
from scope_rlvr.scorers.exact import ExactScorer
from scope_rlvr.scorers.families import (
    EXACT,
    NONE,
    AnyFamily,
    Auto,
    LocalFamily,
    MathShepherd,
    Pure,
    Qwen,
    RlhFlow,
    ScorerDescription,
    ScorerSection,
    Skywork,
    TokenClassifier,
    Trl,
    Universal,
    rule_of,
)
from scope_rlvr.scorers.local import LocalScorer
from scope_rlvr.scorers.noisy import NoisyScorer
from scope_rlvr.scorers.qwen import load_qwen
from scope_rlvr.scorers.selftest import self_test
from scope_rlvr.scorers.token_classifier import load_token_classifier
from scope_rlvr.scorers.value_head import load_skywork, load_universal
from scope_rlvr.types import Problem

_READ_FROM_THE_HUB = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""Neither code nor pickles."""

_LOADERS: dict[type[LocalFamily], Callable[[Path, Any, DecisionRule], LocalScorer]] = {
    TokenClassifier: load_token_classifier,
    Trl: load_token_classifier,
    Pure: load_token_classifier,
    Qwen: load_qwen,
    MathShepherd: load_math_shepherd,
    RlhFlow: load_rlhflow,
    Skywork: load_skywork,
    Universal: load_universal,
}

_NAMES: dict[str, AnyFamily] = {
    "qwen2.5-math-prm": Qwen(),
    "qwen2.5-math-7b-prm800k": Qwen(),
    "math-shepherd-mistral": MathShepherd(),
    "llama3.1-8b-prm": RlhFlow(),
    "skywork-o1-open-prm": Skywork(),
    "universal-prm": Universal(),
    "pure-prm": Pure(),
}
"""Families by how the last part of a model's name begins, in small letters."""

_CLASSES: dict[str, AnyFamily] = {
    "Qwen2ForProcessRewardModel": Qwen(),
    "Qwen2ForPrmModel": Skywork(),
    "ForTokenClassification": TokenClassifier(),
}
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
        scorer = _LOADERS[type(family)](folder, family, rule)
    except UNLOADABLE as error:
        raise UserError(
            f"scorer.model = {section.model!r} cannot be loaded as a step scorer of the family {family.kind!r}: "
            f"{first_line(error)}"
        ) from error
    require_reader(scorer.tokenizer, problems, f"the step scorer {section.model}")
    self_test(scorer, family, section.model, scorer.tokenizer)
    return scorer


def _model_folder(name: str) -> Path:
    source = resolve_model(name, "scorer.model")
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, allow_patterns=_READ_FROM_THE_HUB))
    except Exception as error:  # the client raises errors of many kinds, none of which stands for a fault of ours
        raise UserError(f"scorer.model = {name!r} cannot be fetched from the Hub: {first_line(error)}") from error


def _family_of(section: ScorerSection, folder: Path, description: ScorerDescription | None) -> Any:
    if not isinstance(section.family, Auto):
        return section.family
    if description is not None and not isinstance(description.family, Auto):
        return description.family
    name = PurePath(section.model).name.lower()
    for beginning, family in _NAMES.items():
        if name.startswith(beginning):
            return family
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
