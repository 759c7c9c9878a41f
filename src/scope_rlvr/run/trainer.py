"""The trainer that a configuration describes, in TRL's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, set_seed
from trl import GRPOConfig

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.core.types import Problem
from scope_rlvr.engines.samplers import VllmServer
from scope_rlvr.engines.trl.options import AGGREGATIONS, NORMALISATIONS, UnsupportedOption
from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.models.loading import device
from scope_rlvr.models.lora import adapter_config
from scope_rlvr.run.components import Components, policy_dtype
from scope_rlvr.run.config import RunConfig
from scope_rlvr.store.folder import RunFolder

if TYPE_CHECKING:
    from scope_rlvr.run.monitor import TrainingMonitor


def make_trainer(
    config: RunConfig, folder: RunFolder, components: Components, problems: Sequence[Problem], monitor: TrainingMonitor
) -> ScopeTrainer:
    """The trainer that a configuration describes."""
    lora = config.model.lora
    if lora is not None:
        # Whatever was loaded before, equal seeds begin with equal adapters.
        set_seed(config.run.seed)
    with starting(config):
        trainer = ScopeTrainer(
            model=components.policy,
            method=config.method,
            verifier=components.verifier,
            step_scorer=components.step_scorer,
            teacher=components.teacher,
            judge=components.judge,
            reference=components.reference,
            step_rule=config.steps,
            prompt=config.prompt,
            sampling_rows=config.sampling.batch_rows,
            args=trl_config(config, folder, monitor.processes.count),
            problems=problems,
            processing_class=components.codec.tokenizer,
            peft_config=None if lora is None else adapter_config(lora),
            on_groups=monitor.on_groups,
            callbacks=[monitor],
        )
    # It would print every figure a second time.
    trainer.remove_callback(PrinterCallback)
    return trainer


@contextmanager
def starting(config: RunConfig) -> Iterator[None]:
    """What a trainer refuses when it is made is the user's to mend, and so is a server for sampling that is not there."""
    try:
        yield
    except UnsupportedOption as error:
        raise UserError(str(error)) from error
    except ConnectionError as error:
        if not isinstance(config.sampling.sampler, VllmServer):
            raise
        raise UserError(
            f"sampling.sampler.url = {config.sampling.sampler.url!r}: {first_line(error)} docs/vllm.md says how to start one"
        ) from error


def _key_of(mapping: dict[str, Any], value: Any) -> str:
    return next(key for key, known in mapping.items() if known is value)


def trl_config(config: RunConfig, folder: RunFolder, num_processes: int = 1) -> GRPOConfig:
    """The same run in TRL's words."""
    share = config.share(num_processes)
    run, sampling, objective, optimizer = config.run, config.sampling, config.resolved_objective, config.optimizer
    on_gpu = device().type == "cuda"
    return GRPOConfig(
        output_dir=str(folder.checkpoints),
        seed=run.seed,
        max_steps=run.steps,
        num_generations=config.rows_per_group,
        per_device_train_batch_size=share.micro_batch_rows,
        gradient_accumulation_steps=share.num_micro_batches // objective.mini_batches,
        steps_per_generation=share.num_micro_batches,
        num_iterations=objective.updates_per_batch,
        max_completion_length=sampling.max_response_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        loss_type=_key_of(AGGREGATIONS, objective.aggregation),
        scale_rewards=_key_of(NORMALISATIONS, Normalisation(objective.normalisation)),
        epsilon=objective.clip.low,
        epsilon_high=objective.clip.high,
        beta=objective.kl,
        entropy_coef=objective.entropy,
        learning_rate=optimizer.learning_rate,
        lr_scheduler_type=optimizer.schedule.value,
        warmup_steps=optimizer.warmup_steps,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.max_grad_norm,
        logging_steps=1,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_steps=run.checkpoint_every,
        save_only_model=not run.checkpoint_optimizer,
        report_to=list(config.logging.report_to) or "none",
        use_cpu=not on_gpu,
        bf16=policy_dtype(config) is torch.bfloat16,
        gradient_checkpointing=run.gradient_checkpointing,
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        **sampling.sampler.in_trl(),
    )
