"""TRL's options: which are honoured, which are refused because they would be ignored, and what they are in our words."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

from trl import GRPOConfig

from scope_rlvr.core.ports import Judge, StepScorer, Teacher, scoring_refusal
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip, SamplerCorrection
from scope_rlvr.methods.loss import Objective
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need

AGGREGATIONS = {
    "dr_grpo": Aggregation.MAX_LENGTH,
    "dapo": Aggregation.TOKEN_MEAN,
    "grpo": Aggregation.SEQUENCE_MEAN,
}
"""TRL's ``loss_type`` values whose normaliser the objective knows."""

NORMALISATIONS = {
    "none": Normalisation.NONE,
    "group": Normalisation.GROUP_STD,
    "batch": Normalisation.BATCH_STD,
}
"""TRL's ``scale_rewards`` values."""


class UnsupportedOption(ValueError):
    """A TRL option that this trainer would have to ignore; it refuses instead."""


_ONLY = {
    "use_transformers_continuous_batching": False,
    "importance_sampling_level": "token",
    "multi_objective_aggregation": "sum_then_normalize",
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
    "delta": None,
    "use_adaptive_entropy": False,
    "mask_truncated_completions": False,
    "use_liger_kernel": False,
    "repetition_penalty": 1.0,
    "generation_kwargs": None,
    "use_transformers_paged": False,
    "cache_implementation": None,
}
"""The only values of TRL options that this trainer honours."""


def refuse_unsupported(args: GRPOConfig, kwargs: dict[str, Any]) -> None:
    for name in ("tools", "environment_factory", "rollout_func"):
        if kwargs.get(name):
            raise UnsupportedOption(f"{name} cannot be used here: the rollouts are made by the method; leave it out")
    for name, only in _ONLY.items():
        value = getattr(args, name, only)
        if value not in (only, {} if only is None else only):
            raise UnsupportedOption(f"{name}={value!r} would be ignored by this trainer; set it to {only!r}")
    for name, known in (("loss_type", AGGREGATIONS), ("scale_rewards", NORMALISATIONS)):
        value = str(getattr(args, name))
        if value not in known:
            raise UnsupportedOption(f"{name}={value!r} is not one of {sorted(known)}")


def refuse_further_rewards(method: Method, reward_funcs: Any, args: GRPOConfig) -> None:
    """Reward functions beside the verifier, where the method could not have them right."""
    if method.baseline is Baseline.SAMPLED_ONLY and (reward_funcs or args.reward_weights):
        raise UnsupportedOption(
            "baseline sampled_only knows the verifier's reward alone: leave out further reward_funcs and reward_weights"
        )
    if (method.draws_problems or method.has_variable_rows) and reward_funcs:
        raise UnsupportedOption(
            f"method {method.title} trains on other problems than the batch's rows, and TRL would hand the rows to "
            "reward_funcs: leave them out, and pay all rewards by the verifier (see RewardVerifier)"
        )


def refuse_unsupported_model(trainer: Any) -> None:
    """What only shows once the trainer has its model and its processes."""
    require_whole_groups(trainer.args, trainer.method, trainer.processes.count)
    is_put_to_sleep = trainer.use_vllm and trainer.args.vllm_enable_sleep_mode
    if is_put_to_sleep and not hasattr(trainer.vllm_generation, "_llm_weights_sleeping"):
        raise UnsupportedOption(
            "this release of TRL wakes vLLM up with the weights that training began with; set vllm_enable_sleep_mode=False, "
            "or install trl>=1.12"
        )
    if trainer.use_vllm and Need.DECODING in trainer.method.needs:
        raise UnsupportedOption(
            f"method {trainer.method.title} changes single decoding steps, and vLLM is not asked to; sample from the model itself"
        )
    if getattr(trainer, "aux_loss_enabled", False):
        raise UnsupportedOption("the load-balancing loss of a mixture of experts would be ignored; set it to 0")
    deepspeed = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if deepspeed is not None and trainer.method.steers_optimizer:
        raise UnsupportedOption(
            f"DeepSpeed updates the weights before method {trainer.method.title} could set its learning rate or begin a stage; "
            "take another method, or start the processes without DeepSpeed"
        )
    if trainer.method.has_side_updates and (deepspeed is not None or trainer.args.fp16):
        raise UnsupportedOption(
            f"the updates that method {trainer.method.title} makes beside the step's can be made neither with DeepSpeed, which "
            "knows one optimiser, nor with fp16, whose scaled gradients they would not see; take bf16 without DeepSpeed, or "
            "another method"
        )
    if trainer.is_fsdp_enabled or (deepspeed is not None and deepspeed.zero_stage == 3):
        raise UnsupportedOption(
            "parameters sharded over processes (FSDP, ZeRO-3) cannot sample rollouts here; use data parallelism"
        )


def objective_of(args: GRPOConfig, method: Method) -> Objective:
    """The objective in our words, with what the method fixes."""
    high = args.epsilon if args.epsilon_high is None else args.epsilon_high
    return Objective(
        max_length=args.max_completion_length,
        normalisation=NORMALISATIONS[str(args.scale_rewards)],
        aggregation=AGGREGATIONS[args.loss_type],
        clip=Clip(low=args.epsilon, high=high),
        kl=args.beta,
        entropy=args.entropy_coef,
        corrects_kl=bool(getattr(args, "use_bias_correction_kl", False)),
        correction=_correction_of(args),
    ).of(method)


def with_objective(args: GRPOConfig, objective: Objective) -> GRPOConfig:
    """The options with the method's KL penalty and entropy bonus: by them TRL decides which models it loads."""
    args = copy.copy(args)
    args.beta, args.entropy_coef = objective.kl, objective.entropy
    return args


def _correction_of(args: GRPOConfig) -> tuple[SamplerCorrection, float, float]:
    """How samples of vLLM are corrected, and the bounds of the ratio; TRL has ``None`` for no bound."""
    if not (args.use_vllm and args.vllm_importance_sampling_correction):
        return SamplerCorrection.NONE, 0.0, math.inf
    low, high = args.vllm_importance_sampling_clip_min, args.vllm_importance_sampling_clip_max
    return (
        SamplerCorrection(args.vllm_importance_sampling_mode),
        0.0 if low is None else low,
        math.inf if high is None else high,
    )


def abilities(has_pool: bool) -> frozenset[Need]:
    """What this engine can give to a method; ``has_pool``: all training problems are known from the start."""
    return frozenset(Need) - (frozenset() if has_pool else {Need.PROBLEM_POOL})


def require_helpers(
    method: Method, step_scorer: StepScorer | None, teacher: Teacher | None, judge: Judge | None
) -> None:
    """Refuse a method without the helpers that it needs."""
    given = {
        Need.STEP_SCORER: ("step_scorer", step_scorer),
        Need.TEACHER: ("teacher", teacher),
        Need.TEACHER_SCORES: ("teacher", teacher),
        Need.JUDGE: ("judge", judge),
    }
    for need, (name, helper) in given.items():
        if need in method.needs and helper is None:
            instead = f", or {method.without_helpers}" if method.without_helpers else ""
            raise ValueError(f"method {method.title} needs a {need.value}: give {name}=...{instead}")
    if Need.TEACHER_SCORES in method.needs and (refusal := scoring_refusal(teacher)) is not None:
        raise ValueError(f"method {method.title} needs a teacher that scores tokens: {refusal}")


def require_whole_groups(args: GRPOConfig, method: Method, num_processes: int) -> None:
    rows = args.per_device_train_batch_size * (args.steps_per_generation or 1)
    if rows % args.num_generations:
        raise ValueError(
            f"a process holds {rows} rows (per_device_train_batch_size {args.per_device_train_batch_size} x "
            f"steps_per_generation {args.steps_per_generation}), not a multiple of num_generations "
            f"{args.num_generations}: groups would be split over {num_processes} processes; change one of the three"
        )
    if args.num_generations - method.num_reserved_rows < 2:
        raise ValueError(
            f"num_generations {args.num_generations} less {method.num_reserved_rows} reserved for {method.title} leaves "
            "fewer than 2 sampled rollouts in a group; raise num_generations"
        )


class _NoUnscorableWarning(logging.Filter):
    """TRL prints a whole row for each unknown verdict and each empty slot; we count them instead."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "All reward functions returned None" not in record.getMessage()


def silence_unscorable_warning() -> None:
    logger = logging.getLogger("trl.trainer.grpo_trainer")
    if not any(isinstance(f, _NoUnscorableWarning) for f in logger.filters):
        logger.addFilter(_NoUnscorableWarning())
