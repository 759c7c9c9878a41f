"""The numbers that decide how a step scorer is trained."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from scope_rlvr.core.settings import Settings
from scope_rlvr.models.precision import Precision
from scope_rlvr.scorers.families import TokenClassifier


class ScorerTraining(Settings):
    """Settings of ``scope scorer train``; an epoch is one pass over the training rows."""

    separator: str = Field(
        "\n\n", min_length=1, description="text after each step; the step is scored at its last token"
    )
    bos: bool = Field(False, description="begin with the tokenizer's begin-of-sequence token")
    after_prompt: bool = Field(False, description="write the separator between the problem and the first step, too")
    epochs: float = Field(1.0, gt=0, description="passes over the training rows")
    steps: int | None = Field(None, ge=1, description="optimiser steps, instead of epochs")
    batch_rows: int = Field(16, ge=1, description="solutions for each optimiser step")
    micro_batch_rows: int | None = Field(None, ge=1, description="solutions in memory at once; batch_rows without it")
    learning_rate: float = Field(2e-5, gt=0, description="peak of the AdamW learning rate, which falls linearly to 0")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    max_tokens: int | None = Field(None, ge=1, description="longest input; the model's own limit without it")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the problems that nothing trains on")
    checkpoint_every: int = Field(200, ge=1, description="optimiser steps from one checkpoint to the next")
    train_layers: int | None = Field(None, ge=1, description="upper layers that train beside the head; all without it")
    dtype: Precision | None = Field(
        None,
        description="what is computed in: float32 or bfloat16; trained weights stay in float32. Without it bfloat16 on a GPU, "
        "float32 on a CPU",
    )
    gradient_checkpointing: bool = Field(False, description="less memory for more time")
    threads: int = Field(1, ge=1, description="CPU threads")
    seed: int = Field(0, ge=0, description="seed of the split, of the order of rows and of a new head")

    @property
    def family(self) -> TokenClassifier:
        """How a solution is written for the scorer, in training as in use."""
        return TokenClassifier(separator=self.separator, bos=self.bos, after_prompt=self.after_prompt)

    @property
    def micro_rows(self) -> int:
        return self.batch_rows if self.micro_batch_rows is None else self.micro_batch_rows

    @field_validator("dtype")
    @classmethod
    def _is_one_format(cls, dtype: Precision | None) -> Precision | None:
        if dtype is Precision.AUTO:
            raise ValueError("only scope train measures which format is faster; name float32 or bfloat16")
        return dtype

    @model_validator(mode="after")
    def _batch_can_be_split(self) -> ScorerTraining:
        if self.batch_rows % self.micro_rows:
            raise ValueError(f"batch_rows = {self.batch_rows} is no multiple of micro_batch_rows = {self.micro_rows}")
        return self
