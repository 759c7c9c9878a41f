"""From a configuration to live objects: models, scorer, teacher, verifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.engines.local import LocalModel, TokenizerCodec
from scope_rlvr.errors import UserError
from scope_rlvr.evaluation.evaluate import Evaluator
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.ports import Sampling, StepScorer, Teacher
from scope_rlvr.run.config import EXACT, THE_POLICY, RunConfig
from scope_rlvr.run.sources import answer_pattern, family_of, resolve_model
from scope_rlvr.scorers.exact import ExactScorer
from scope_rlvr.scorers.noisy import NoisyScorer
from scope_rlvr.scorers.token_classifier import TokenClassifierScorer
from scope_rlvr.teachers.local import LocalTeacher
from scope_rlvr.teachers.noisy import NoisyTeacher
from scope_rlvr.types import Problem

_PROBLEMS_READ = 50
"""Problems shown to each tokenizer to see whether it can read them."""

UNLOADABLE = (OSError, ValueError, RuntimeError, SafetensorError)
"""What the libraries raise for a folder that holds no usable model."""


@dataclass(frozen=True)
class Components:
    """Everything a run works with."""

    policy: PreTrainedModel
    codec: TokenizerCodec
    verifier: FinalAnswerVerifier
    step_scorer: StepScorer | None
    teacher: Teacher | None


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_components(config: RunConfig, problems: list[Problem]) -> Components:
    """Load what the configuration names; :class:`UserError` where a model cannot be used for these problems."""
    # Trained weights stay in float32, also where a GPU computes in bfloat16: small updates would be rounded away.
    policy = load_causal(config.model.policy, "model.policy", torch.float32)
    require_reader(policy.codec.tokenizer, problems, f"the policy {config.model.policy}")
    teacher = _load_teacher(config, policy, problems) if config.method.needs_teacher else None
    scorer = _load_scorer(config, problems) if config.method.needs_step_scorer else None
    return Components(policy.model, policy.codec, FinalAnswerVerifier(answer_pattern(config)), scorer, teacher)


def make_evaluator(config: RunConfig, components: Components, model: PreTrainedModel | None = None) -> Evaluator:
    """The evaluator of a run, on the policy or on a wrapped model that is being trained."""
    section = config.evaluation
    temperature = config.sampling.temperature if section.temperature is None else section.temperature
    return Evaluator(
        policy=LocalModel(components.policy if model is None else model, components.codec),
        codec=components.codec,
        verifier=components.verifier,
        sampling=Sampling(temperature=temperature),
        samples_per_problem=section.samples_per_problem,
        max_response_tokens=section.max_response_tokens,
        seed=config.run.seed,
    )


def _inference_dtype() -> torch.dtype:
    return torch.bfloat16 if device().type == "cuda" else torch.float32


def load_causal(name: str, key: str, dtype: torch.dtype) -> LocalModel:
    """A causal language model by its name, which stands at ``key``; :class:`UserError` where it is none."""
    source = resolve_model(name, key)
    try:
        local = LocalModel.load(source, dtype=dtype)
    except UNLOADABLE as error:
        raise UserError(f"{key} = {name!r} cannot be loaded as a causal language model: {first_line(error)}") from error
    local.model.to(device())
    return local


def _load_teacher(config: RunConfig, policy: LocalModel, problems: list[Problem]) -> Teacher:
    section, model = config.teacher, policy
    if section.model != THE_POLICY:
        model = load_causal(section.model, "teacher.model", _inference_dtype())
        require_reader(model.codec.tokenizer, problems, f"the teacher {section.model}")
    teacher = LocalTeacher(model, policy.codec, Sampling(temperature=section.temperature), section.prompt)
    return NoisyTeacher(teacher, section.noise, policy.codec, config.run.seed) if section.noise else teacher


def _load_scorer(config: RunConfig, problems: list[Problem]) -> StepScorer:
    scorer: StepScorer
    if config.scorer.model == EXACT:
        scorer = ExactScorer(family_of(config))
    else:
        scorer = _load_token_classifier(config)
        require_reader(scorer.tokenizer, problems, f"the step scorer {config.scorer.model}")
    return NoisyScorer(scorer, config.scorer.noise, config.run.seed) if config.scorer.noise else scorer


def _load_token_classifier(config: RunConfig) -> TokenClassifierScorer:
    source = resolve_model(config.scorer.model, "scorer.model")
    try:
        scorer = TokenClassifierScorer.load(Path(source), config.scorer.threshold)
    except UNLOADABLE as error:
        raise UserError(
            f"scorer.model = {config.scorer.model!r} cannot be loaded as a step scorer: {first_line(error)}"
        ) from error
    scorer.model.to(device())
    return scorer


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def require_reader(tokenizer: PreTrainedTokenizerBase, problems: list[Problem], who: str) -> None:
    """Refuse a tokenizer that has no token for what stands in the problems."""
    if tokenizer.unk_token_id is None:
        return
    for problem in problems[:_PROBLEMS_READ]:
        if tokenizer.unk_token_id in tokenizer.encode(problem.prompt, add_special_tokens=False):
            raise UserError(
                f"{who} has another vocabulary: it cannot read the problem {problem.prompt.strip()!r} (it becomes "
                f"{tokenizer.unk_token}); use a model that was made for these problems"
            )
