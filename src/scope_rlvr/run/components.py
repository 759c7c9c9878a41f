"""From a configuration to live objects: models, scorer, teacher, verifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.engines.local import LocalModel, TokenizerCodec
from scope_rlvr.errors import UserError
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.ports import Sampling
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.sources import answer_pattern, resolve_model
from scope_rlvr.scorers.token_classifier import TokenClassifierScorer
from scope_rlvr.teachers.local import LocalTeacher
from scope_rlvr.types import Problem

_PROBLEMS_READ = 50
"""Problems shown to each tokenizer to see whether it can read them."""

_UNLOADABLE = (OSError, ValueError, RuntimeError, SafetensorError)
"""What the libraries raise for a folder that holds no usable model."""


@dataclass(frozen=True)
class Components:
    """Everything a run works with."""

    policy: PreTrainedModel
    codec: TokenizerCodec
    verifier: FinalAnswerVerifier
    step_scorer: TokenClassifierScorer | None
    teacher: LocalTeacher | None


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_components(config: RunConfig, problems: list[Problem]) -> Components:
    """Load what the configuration names; :class:`UserError` where a model cannot be used for these problems."""
    # Trained weights stay in float32, also where a GPU computes in bfloat16: small updates would be rounded away.
    policy, codec = _load_causal(config.model.policy, "model.policy", torch.float32)
    _require_reader(codec.tokenizer, problems, f"the policy {config.model.policy}")
    teacher = scorer = None
    if config.method.needs_teacher:
        model, teacher_codec = _load_causal(config.teacher.model, "teacher.model", _inference_dtype())
        _require_reader(teacher_codec.tokenizer, problems, f"the teacher {config.teacher.model}")
        sampling = Sampling(temperature=config.teacher.temperature)
        teacher = LocalTeacher(LocalModel(model.eval(), teacher_codec), codec, sampling)
    if config.method.needs_step_scorer:
        scorer = _load_scorer(config)
        _require_reader(scorer.tokenizer, problems, f"the step scorer {config.scorer.model}")
    return Components(policy, codec, FinalAnswerVerifier(answer_pattern(config)), scorer, teacher)


def _inference_dtype() -> torch.dtype:
    return torch.bfloat16 if device().type == "cuda" else torch.float32


def _load_causal(name: str, key: str, dtype: torch.dtype) -> tuple[PreTrainedModel, TokenizerCodec]:
    source = resolve_model(name, key)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        codec = TokenizerCodec.of(AutoTokenizer.from_pretrained(source, trust_remote_code=False), model)
    except _UNLOADABLE as error:
        raise UserError(
            f"{key} = {name!r} cannot be loaded as a causal language model: {_first_line(error)}"
        ) from error
    # transformers would fill what is missing with random numbers and go on.
    if info["missing_keys"]:
        raise UserError(
            f"{key} = {name!r} is no causal language model: its weights lack {min(info['missing_keys'])!r}; name a folder "
            "that holds one"
        )
    return model.to(device()), codec


def _load_scorer(config: RunConfig) -> TokenClassifierScorer:
    source = resolve_model(config.scorer.model, "scorer.model")
    try:
        scorer = TokenClassifierScorer.load(Path(source), config.scorer.threshold)
    except _UNLOADABLE as error:
        raise UserError(
            f"scorer.model = {config.scorer.model!r} cannot be loaded as a step scorer: {_first_line(error)}"
        ) from error
    scorer.model.to(device())
    return scorer


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _require_reader(tokenizer: PreTrainedTokenizerBase, problems: list[Problem], who: str) -> None:
    """Refuse a tokenizer that has no token for what stands in the problems."""
    if tokenizer.unk_token_id is None:
        return
    for problem in problems[:_PROBLEMS_READ]:
        if tokenizer.unk_token_id in tokenizer.encode(problem.prompt, add_special_tokens=False):
            raise UserError(
                f"{who} has another vocabulary: it cannot read the problem {problem.prompt.strip()!r} (it becomes "
                f"{tokenizer.unk_token}); use a model that was made for these problems"
            )
