"""What every loader of models needs: where models go, what a broken folder raises, who can read which problems."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem

_PROBLEMS_READ = 50
"""Problems shown to each tokenizer to see whether it can read them."""

UNLOADABLE = (OSError, ValueError, RuntimeError, SafetensorError)
"""What the libraries raise for a folder that holds no usable model."""


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def inference_dtype() -> torch.dtype:
    return torch.bfloat16 if device().type == "cuda" else torch.float32


def can_read(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a tokenizer has tokens for all of a text."""
    return tokenizer.unk_token_id is None or tokenizer.unk_token_id not in tokenizer.encode(
        text, add_special_tokens=False
    )


def require_reader(tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], who: str) -> None:
    """Refuse a tokenizer that has no token for what stands in the problems."""
    for problem in problems[:_PROBLEMS_READ]:
        if not can_read(tokenizer, problem.prompt):
            shown = textwrap.shorten(problem.prompt, 80, placeholder="...")
            raise UserError(
                f"{who} has another vocabulary: it cannot read the problem {shown!r} (it becomes {tokenizer.unk_token}); use "
                "a model that was made for these problems"
            )
