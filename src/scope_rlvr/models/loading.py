"""What every loader of models needs: where models go, what a broken folder raises, who can read which problems."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.core.types import Problem
from scope_rlvr.models.resolve import resolve_model

_PROBLEMS_READ = 50
"""Problems shown to each tokenizer to see whether it can read them."""

UNLOADABLE = Exception
"""What the libraries raise for a folder that holds no usable model: anything, from ``KeyError`` to a bare ``Exception``."""

_SPEAKS_FOR_ITSELF = (OSError, ValueError, RuntimeError, SafetensorError)


def why_unloadable(error: Exception) -> str:
    """What a library says of a broken folder, in one line; the kind of an error that says little by itself.

    >>> why_unloadable(ValueError("no weights")), why_unloadable(KeyError("added_tokens"))
    ('no weights', "KeyError: 'added_tokens'")
    """
    said = first_line(error)
    return said if isinstance(error, _SPEAKS_FOR_ITSELF) else f"{type(error).__name__}: {said}"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def inference_dtype() -> torch.dtype:
    return torch.bfloat16 if device().type == "cuda" else torch.float32


def require_all_weights(model: PreTrainedModel, info: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` where a folder's weights and its configuration do not fit, or a weight is no number.

    ``info`` is what transformers says of the loading. It would fill what is missing with random numbers, and leave out the
    layers that the configuration does not know, and go on.
    """
    if info["missing_keys"]:
        raise ValueError(f"its weights lack {min(info['missing_keys'])!r}; name a folder that holds such a model")
    unused = [name for name in info["unexpected_keys"] if name.startswith(f"{model.base_model_prefix}.")]
    if unused:
        raise ValueError(
            f"its configuration has no place for the weights {min(unused)!r}; name a folder that fits together"
        )
    broken = next((name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()), None)
    if broken is not None:
        raise ValueError(f"its weights {broken!r} are not all numbers; take another copy of the model")


def load_tokenizer(name: str, key: str) -> PreTrainedTokenizerBase:
    """The tokenizer of the model that the configuration names at ``key``; :class:`UserError` if there is none."""
    try:
        return AutoTokenizer.from_pretrained(resolve_model(name, key), trust_remote_code=False)
    except UNLOADABLE as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{key} = {name!r} has no tokenizer that can be loaded: {first_line(error)}") from error


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
