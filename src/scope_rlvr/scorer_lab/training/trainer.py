"""Token classification at the ends of steps, by the Hugging Face Trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from scope_rlvr.models.loading import device
from scope_rlvr.models.precision import Precision
from scope_rlvr.scorer_lab.training.examples import IGNORED, Example, OrderedExamples, collate, training_order
from scope_rlvr.scorer_lab.training.settings import ScorerTraining
from scope_rlvr.store.checkpoints import mark_complete, step_of
from scope_rlvr.store.files import writing
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.interruption import Interruption, interruptible

_FIGURES = ("loss", "grad_norm", "learning_rate")


class TrainingDiverged(RuntimeError):
    """A gradient is not a number. Raised before the optimiser step; weights are as they were."""


@dataclass
class ScorerTrainingMonitor:
    """Receives the progress of a training: ``start`` with the number of steps, ``step`` after every step with its number, the
    number of all steps and the loss, ``note`` with anything else that a person should read."""

    start: Callable[[int], None] = lambda num_steps: None
    step: Callable[[int, int, float], None] = lambda step, num_steps, loss: None
    note: Callable[[str], None] = lambda text: None


def num_steps(settings: ScorerTraining, num_examples: int) -> int:
    """Optimiser steps in all: as many as were asked for, or whole batches for so many epochs.

    >>> num_steps(ScorerTraining(epochs=1.5, batch_rows=16), 100)
    10
    """
    if settings.steps is not None:
        return settings.steps
    return max(1, -int(-(settings.epochs * num_examples) // settings.batch_rows))


def step_end_loss(outputs: Any, labels_BT: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Cross-entropy, ``−Σ log p(label) / N`` over the N labelled step ends of the whole batch, in float32.

    The sum is divided by the labels of all micro-batches together, so that cutting a batch into other micro-batches
    changes nothing but rounding.
    """
    logits_BTC, labels_BT = outputs["logits"].float(), labels_BT.to(outputs["logits"].device)
    total = torch.nn.functional.cross_entropy(
        logits_BTC.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels_BT.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


@dataclass
class _TrainingRecorder(TrainerCallback):
    """Writes the metrics of every step, stops before a gradient that is not finite, marks checkpoints, and saves and stops
    after an interruption."""

    folder: RunFolder
    monitor: ScorerTrainingMonitor
    interruption: Interruption = field(default_factory=Interruption)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any
    ) -> None:
        norms = [p.grad.norm() for p in kw["model"].parameters() if p.grad is not None]
        if not torch.isfinite(torch.stack(norms)).all():
            raise TrainingDiverged(
                f"a gradient of step {state.global_step + 1} is not a number; a lower learning rate may help. The weights of "
                "the last checkpoint are sound"
            )

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **kw: Any
    ) -> None:
        if "loss" in logs:
            figures = {name: logs[name] for name in _FIGURES if name in logs}
            self.folder.append(self.folder.metrics, [{"step": state.global_step, **figures}])
            self.monitor.step(state.global_step, state.max_steps, logs["loss"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any
    ) -> TrainerControl:
        if self.interruption.by:
            control.should_training_stop = control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class _SavingTrainer(Trainer):
    """Says which folder could not be written."""

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with writing(Path(self.args.output_dir)):
            super()._save_checkpoint(*args, **kwargs)


def fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScorerTraining,
    folder: RunFolder,
    monitor: ScorerTrainingMonitor,
    resume_from: Path | None = None,
) -> str:
    """Train, from the beginning or from a checkpoint on; returns the signal that ended it early, or nothing.

    Raises :class:`TrainingDiverged`. Checkpoints and ``metrics.jsonl`` are written into the folder.
    """
    set_seed(settings.seed)
    steps = num_steps(settings, len(examples))
    monitor.start(steps)
    folder.forget_after(step_of(resume_from))
    if resume_from is not None and step_of(resume_from) >= steps:
        # The Trainer would do one step more before it looked at the number of steps.
        load_model(model, resume_from / "model.safetensors")
        return ""
    order = training_order([len(e.ids) for e in examples], steps, settings.batch_rows, settings.seed)
    recorder = _TrainingRecorder(folder, monitor)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    trainer = _SavingTrainer(
        model=model,
        args=_arguments(settings, steps, folder),
        train_dataset=OrderedExamples(examples, order),
        data_collator=partial(collate, pad_id=tokenizer.pad_token_id or 0),
        processing_class=tokenizer,
        compute_loss_func=step_end_loss,
        callbacks=[recorder],
    )
    trainer.remove_callback(PrinterCallback)
    with interruptible(recorder.interruption, monitor.note):
        trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    return recorder.interruption.by if trainer.state.global_step < steps else ""


def _arguments(settings: ScorerTraining, steps: int, folder: RunFolder) -> TrainingArguments:
    on_gpu = device().type == "cuda"
    return TrainingArguments(
        output_dir=str(folder.checkpoints),
        seed=settings.seed,
        max_steps=steps,
        per_device_train_batch_size=settings.micro_rows,
        gradient_accumulation_steps=settings.batch_rows // settings.micro_rows,
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(settings.warmup_share * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=settings.checkpoint_every,
        # One could be lost while the next is not yet marked complete.
        report_to="none",
        use_cpu=not on_gpu,
        bf16=on_gpu and torch.cuda.is_bf16_supported()
        if settings.dtype is None
        else settings.dtype is Precision.BFLOAT16,
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
    )
