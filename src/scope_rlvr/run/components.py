"""From a configuration to live objects: models, scorer, teacher, verifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from scope_rlvr.engines.loading import UNLOADABLE, device, first_line, inference_dtype, require_reader
from scope_rlvr.engines.local import LocalModel, TokenizerCodec
from scope_rlvr.errors import UserError
from scope_rlvr.evaluation.evaluate import Evaluator
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.ports import Sampling, StepScorer, Teacher
from scope_rlvr.run.config import THE_POLICY, RunConfig
from scope_rlvr.run.sources import answer_pattern, family_of, resolve_model
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.teachers.local import LocalTeacher
from scope_rlvr.teachers.noisy import NoisyTeacher
from scope_rlvr.types import Problem


@dataclass(frozen=True)
class Components:
    """Everything a run works with."""

    policy: PreTrainedModel
    codec: TokenizerCodec
    verifier: FinalAnswerVerifier
    step_scorer: StepScorer | None
    teacher: Teacher | None


def load_components(config: RunConfig, problems: list[Problem]) -> Components:
    """Load what the configuration names; :class:`UserError` where a model cannot be used for these problems."""
    # Trained weights stay in float32, also where a GPU computes in bfloat16: small updates would be rounded away.
    policy = load_causal(config.model.policy, "model.policy", torch.float32)
    require_reader(policy.codec.tokenizer, problems, f"the policy {config.model.policy}")
    teacher = _load_teacher(config, policy, problems) if config.method.needs_teacher else None
    scorer = None
    if config.method.needs_step_scorer:
        family = family_of(config)
        scorer = load_scorer(config.scorer, problems=problems, problem_family=family, seed=config.run.seed)
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
        model = load_causal(section.model, "teacher.model", inference_dtype())
        require_reader(model.codec.tokenizer, problems, f"the teacher {section.model}")
    teacher = LocalTeacher(model, policy.codec, Sampling(temperature=section.temperature), section.prompt)
    return NoisyTeacher(teacher, section.noise, policy.codec, config.run.seed) if section.noise else teacher
