"""The model that a step scorer starts from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from scope_rlvr.core.errors import UserError
from scope_rlvr.models.layers import train_only
from scope_rlvr.models.loading import UNLOADABLE, can_read, device, require_reader, why_unloadable
from scope_rlvr.problems.labelled import LabelledSolution

LABELS = {0: "wrong", 1: "right"}
_SOLUTIONS_READ = 50


def load_base(
    source: str, name: str, solutions: Sequence[LabelledSolution], seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model with a new head of two labels, or a token classifier with two labels and its own head.

    Weights are float32. Raises :class:`UserError` where it cannot be loaded, or cannot read the solutions.
    """
    if torch.cuda.device_count() > 1:
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible and this command trains on one; name it: CUDA_VISIBLE_DEVICES=0"
        )
    set_seed(seed)
    try:
        model, info = AutoModelForTokenClassification.from_pretrained(
            source,
            num_labels=len(LABELS),
            id2label=LABELS,
            label2id={label: number for number, label in LABELS.items()},
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except UNLOADABLE as error:
        raise UserError(
            f"--base {name!r} cannot be loaded as a base of a token classifier with two labels: {why_unloadable(error)}"
        ) from error
    # Only the head may be new: transformers fills whatever is missing with random numbers.
    missing = sorted(key for key in info["missing_keys"] if key.startswith(f"{model.base_model_prefix}."))
    if missing:
        raise UserError(f"--base {name!r} cannot be used: its weights lack {missing[0]!r}; name a whole model")
    _require_readable(tokenizer, solutions, name)
    return model.to(device()), tokenizer


def train_upper_layers(model: PreTrainedModel, num_layers: int) -> None:
    """Let only the upper ``num_layers`` and what comes after them train, the head included.

    Raises :class:`UserError` for more layers than there are.
    """
    try:
        train_only(model, num_layers)
    except ValueError as error:
        raise UserError(f"--train-layers {num_layers}: {error}") from error
    for name, parameter in model.named_parameters():
        if not name.startswith(f"{model.base_model_prefix}."):
            parameter.requires_grad_(True)


def _require_readable(tokenizer: PreTrainedTokenizerBase, solutions: Sequence[LabelledSolution], name: str) -> None:
    require_reader(tokenizer, [s.problem for s in solutions[:_SOLUTIONS_READ]], f"the base {name}")
    for solution in solutions[:_SOLUTIONS_READ]:
        for step in solution.steps:
            if not can_read(tokenizer, step.strip()):
                raise UserError(
                    f"the base {name} has another vocabulary: it cannot read the step {step.strip()!r} of the solution "
                    f"{solution.problem.id} (it becomes {tokenizer.unk_token}); take a base that was made for such texts"
                )
