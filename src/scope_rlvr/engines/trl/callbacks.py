"""What happens around the optimiser: state in checkpoints, stages and learning rates of methods, a look at gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from scope_rlvr.engines.memory import Remembered, require_text_keys
from scope_rlvr.store.files import write_text

if TYPE_CHECKING:
    from scope_rlvr.engines.trl.trainer import ScopeTrainer

WRITER_FILE = "writer.json"
"""Which method wrote a checkpoint."""


class ForeignCheckpoint(ValueError):
    """A checkpoint that another method wrote."""


def require_own_checkpoint(folder: Path, method: str) -> None:
    """Raise :class:`ForeignCheckpoint` where another method wrote the checkpoint: what it remembers means nothing here."""
    file = folder / WRITER_FILE
    writer = json.loads(file.read_text())["method"] if file.is_file() else method
    if writer != method:
        raise ForeignCheckpoint(
            f"{folder} is a checkpoint of method {writer!r}, and training goes on with {method!r}; give that method, or begin a "
            "new run from the weights alone"
        )


class MethodState(TrainerCallback):
    """Keeps what the method remembers in the checkpoints, sets its learning rate, and starts the optimiser anew where a
    stage begins."""

    def __init__(self, trainer: ScopeTrainer) -> None:
        self.trainer = trainer
        self.begins_from: Path | None = None
        """The checkpoint that training resumes from."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        folder, trainer = self.begins_from, self.trainer
        found = trainer.processes.once("what the method remembers", lambda: Remembered.at(folder))
        trainer.memory, trainer.tensors, trainer.last_figures = found.memory, found.tensors, found.figures

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        require_text_keys(self.trainer.memory, "tools.memory")
        if not self.trainer.processes.is_main:
            return
        checkpoint, trainer = Path(args.output_dir) / f"checkpoint-{state.global_step}", self.trainer
        Remembered(trainer.memory, trainer.tensors, trainer.last_figures).save(checkpoint)
        write_text(checkpoint / WRITER_FILE, json.dumps({"method": trainer.method.name}) + "\n")

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step, method = state.global_step + 1, self.trainer.method
        if step > 1 and method.stage(step, args.max_steps) != method.stage(step - 1, args.max_steps):
            kwargs["optimizer"].state.clear()
        # The scheduler sets the rate anew after every step.
        for group in kwargs["optimizer"].param_groups:
            group["lr"] *= method.learning_rate_factor(step, args.max_steps)


class GradientGuard(TrainerCallback):
    """Looks at the gradients last, when nothing but the optimiser comes after them."""

    def __init__(self, trainer: ScopeTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # With fp16 the gradient scaler expects overflows and skips such steps itself.
        if args.fp16:
            return
        norms = [p.grad.norm() for p in kwargs["model"].parameters() if p.grad is not None]
        if norms and not torch.isfinite(torch.stack(norms)).all():
            self.trainer.refuse_update("a gradient is not a number")
