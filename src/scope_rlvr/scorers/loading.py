"""From the ``[scorer]`` section of a configuration to a live step scorer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.core.ports import DecisionRule, StepScorer
from scope_rlvr.core.types import Problem
from scope_rlvr.models.loading import UNLOADABLE, require_reader, why_unloadable
from scope_rlvr.problems.family import ProblemFamily
from scope_rlvr.salvage.rules import Calibrated
from scope_rlvr.scorers.calculator import CalculatorScorer
from scope_rlvr.scorers.candidate_tokens import MathShepherdWriter, load_math_shepherd, load_rlhflow
from scope_rlvr.scorers.critic import CriticScorer, check_critic
from scope_rlvr.scorers.description import ChosenRule, ScorerDescription
from scope_rlvr.scorers.ensemble import EnsembleScorer
from scope_rlvr.scorers.exact import ExactScorer
from scope_rlvr.scorers.families import (
    Auto,
    Calculator,
    Combine,
    Critic,
    Ensemble,
    Function,
    Implicit,
    MathShepherd,
    MonteCarlo,
    PurePrm,
    Qwen,
    RlhFlow,
    ScorerFamily,
    ServerFamily,
    Skywork,
    TokenClassifier,
    Trl,
    Universal,
    VllmPooling,
)
from scope_rlvr.scorers.function import FunctionScorer
from scope_rlvr.scorers.implicit import load_implicit
from scope_rlvr.scorers.local import LocalScorer
from scope_rlvr.scorers.monte_carlo import ContinuationSetup, MonteCarloScorer
from scope_rlvr.scorers.noisy import NoisyScorer
from scope_rlvr.scorers.origin import model_folder, require_made_for
from scope_rlvr.scorers.pooling import PoolingScorer, check_pooling
from scope_rlvr.scorers.qwen import QwenWriter, load_qwen
from scope_rlvr.scorers.selftest import IN_WORDS, self_test
from scope_rlvr.scorers.settings import CALCULATOR, EXACT, NONE, ScorerSection, rule_of
from scope_rlvr.scorers.token_classifier import TokenClassifierWriter, load_token_classifier
from scope_rlvr.scorers.value_head import SkyworkWriter, load_skywork, load_universal
from scope_rlvr.scorers.writing import InputWriter
from scope_rlvr.servers.client import Client
from scope_rlvr.servers.replies import served_models

_LOADERS: dict[type[ScorerFamily], Callable[[Path, Any, DecisionRule], LocalScorer]] = {
    TokenClassifier: load_token_classifier,
    Trl: load_token_classifier,
    PurePrm: load_token_classifier,
    Qwen: load_qwen,
    MathShepherd: load_math_shepherd,
    RlhFlow: load_rlhflow,
    Skywork: load_skywork,
    Universal: load_universal,
}

_WRITERS: dict[type[ScorerFamily], Callable[[Any, Any], InputWriter]] = {
    Qwen: QwenWriter,
    MathShepherd: MathShepherdWriter,
    Skywork: SkyworkWriter,
    TokenClassifier: TokenClassifierWriter,
    Trl: TokenClassifierWriter,
    PurePrm: TokenClassifierWriter,
}

_NAMES: dict[str, ScorerFamily] = {
    "qwen2.5-math-prm": Qwen(),
    "qwen2.5-math-7b-prm800k": Qwen(),
    "math-shepherd-mistral": MathShepherd(),
    "llama3.1-8b-prm": RlhFlow(),
    "skywork-o1-open-prm": Skywork(),
    "universal-prm": Universal(),
    "pure-prm": PurePrm(),
    "eurusprm": Implicit(),
}
"""Families by how the last part of a model's name begins, in small letters."""

_CLASSES: dict[str, ScorerFamily] = {
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
    continuations: ContinuationSetup | None = None,
    seed: int = 0,
) -> StepScorer:
    """The step scorer that a configuration names, ready to score and tested.

    ``problems`` are what it will have to read; ``problem_family`` is needed by ``exact`` alone, ``continuations`` by the
    policy as its own scorer; ``seed`` decides what is drawn at random. :class:`UserError` where it cannot be used.
    """
    if section.calibration is not None:
        require_made_for(section, ChosenRule.read(section.calibration))
    scorer = _load(section, _LoadingContext(problems, problem_family, continuations, seed))
    return NoisyScorer(scorer, section.noise, seed) if section.noise else scorer


@dataclass(frozen=True)
class _LoadingContext:
    """What a scorer may need besides its settings."""

    problems: Sequence[Problem]
    problem_family: ProblemFamily | None
    continuations: ContinuationSetup | None
    seed: int


def _load(section: ScorerSection, context: _LoadingContext) -> StepScorer:
    family = section.family
    if section.model == NONE:
        raise UserError(f"scorer.model = {NONE!r}: a step scorer is needed here; name one")
    if section.model == EXACT:
        if context.problem_family is None:
            raise UserError(f"scorer.model = {EXACT!r} knows the problems of a family alone, and none is given here")
        return ExactScorer(context.problem_family)
    if isinstance(family, MonteCarlo):
        if context.continuations is None:
            raise UserError("scorer.family = 'monte_carlo' asks the policy to continue, and there is no policy here")
        rule = rule_of(section, family, None)
        return MonteCarloScorer(context.continuations, family.num_continuations, rule, context.seed)
    if section.model == CALCULATOR:
        calculator = family if isinstance(family, Calculator) else Calculator()
        return CalculatorScorer(calculator, rule_of(section, calculator, None))
    if isinstance(family, Function):
        return _load_function(section, family)
    if isinstance(family, Ensemble):
        return _load_ensemble(section, family, context)
    if isinstance(family, Critic):
        return _load_critic(section, family, context.seed)
    if isinstance(family, VllmPooling):
        return _load_pooling(section, family, context)
    return _load_from_folder(section, context.problems)


def _load_from_folder(section: ScorerSection, problems: Sequence[Problem]) -> StepScorer:
    folder = model_folder(section.model, "scorer.model")
    description = ScorerDescription.read(folder)
    family = _family_of(section, folder, description)
    rule = rule_of(section, family, description)
    try:
        if isinstance(family, Implicit):
            scorer = load_implicit(folder, model_folder(family.reference, "scorer.family.reference"), family, rule)
        else:
            scorer = _LOADERS[type(family)](folder, family, rule)
    except UserError:
        raise
    except UNLOADABLE as error:
        raise UserError(
            f"scorer.model = {section.model!r} cannot be loaded as a step scorer of the family {family.kind!r}: "
            f"{why_unloadable(error)}"
        ) from error
    require_reader(scorer.tokenizer, problems, f"the step scorer {section.model}")
    self_test(scorer, family, section.model, scorer.tokenizer)
    return scorer


def _load_ensemble(section: ScorerSection, family: Ensemble, context: _LoadingContext) -> StepScorer:
    members = []
    for member in family.members:
        own = ScorerSection(model=member.model, family=member.family, rule=member.rule)
        scorer = _load(own, context)
        scale = getattr(scorer, "family", Qwen())
        if (
            family.combine is not Combine.VOTE
            and not isinstance(scorer.rule, Calibrated)
            and not _is_probability(scale)
        ):
            raise UserError(
                f"scorer.family.combine = {family.combine.value!r}: the scores of {member.model} lie between {scale.lowest} "
                f"and {scale.highest} and cannot be mixed with probabilities; calibrate this member, or combine by vote"
            )
        members.append(scorer)
    return EnsembleScorer(members, family.combine, rule_of(section, family, None))


def _is_probability(family: ScorerFamily) -> bool:
    return (family.lowest, family.highest) == (0.0, 1.0)


def _load_function(section: ScorerSection, family: Function) -> StepScorer:
    scorer = FunctionScorer(family, rule_of(section, family, None))
    scorer.check(IN_WORDS[0])
    return scorer


def _load_critic(section: ScorerSection, family: Critic, seed: int) -> StepScorer:
    client = Client(section.model, family.server, seed)
    name, _ = _served_model(client, "/models", family)
    scorer = CriticScorer(client, name, family, rule_of(section, family, None), seed)
    check_critic(scorer, IN_WORDS)
    return scorer


def _load_pooling(section: ScorerSection, family: VllmPooling, context: _LoadingContext) -> StepScorer:
    # vLLM pools beside the paths of the OpenAI interface, not below them.
    client = Client(section.model.rstrip("/").removesuffix("/v1"), family.server, context.seed)
    tokenizer = _load_tokenizer(family.tokenizer)
    require_reader(tokenizer, context.problems, f"the tokenizer {family.tokenizer}")
    name, limit = _served_model(client, "/v1/models", family)
    try:
        writer = _WRITERS[type(family.of)](tokenizer, family.of)
        writer.write(IN_WORDS[0][0], IN_WORDS[0][1])
    except ValueError as error:
        raise UserError(f"scorer.family.tokenizer = {family.tokenizer!r} cannot be used: {error}") from error
    rule = rule_of(section, family.of, None)
    scorer = PoolingScorer(client, name, writer, family, rule, family.max_tokens or limit)
    check_pooling(scorer, IN_WORDS)
    self_test(scorer, family.of, name, tokenizer)
    return scorer


def _load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    source = Path(name).expanduser()
    try:
        return AutoTokenizer.from_pretrained(source if source.is_dir() else name, trust_remote_code=False)
    except UNLOADABLE as error:
        raise UserError(f"scorer.family.tokenizer = {name!r} cannot be loaded: {why_unloadable(error)}") from error


def _served_model(client: Client, path: str, family: ServerFamily) -> tuple[str, int | None]:
    """The name of the model to ask, and the longest input that the server says it reads."""
    served = served_models(client.get(path))
    if not served:
        raise UserError(f"the server at {client.url} does not say which models it serves ({path}); check scorer.model")
    if family.name is None and len(served) > 1:
        raise UserError(
            f"the server at {client.url} serves {', '.join(served)}; say in scorer.family.name which to ask"
        )
    name = family.name or next(iter(served))
    if name not in served:
        raise UserError(f"scorer.family.name = {name!r}: the server at {client.url} serves {', '.join(served)}")
    limit = served[name].get("max_model_len")
    return name, limit if isinstance(limit, int) and limit > 0 else None


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
