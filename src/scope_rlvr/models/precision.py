"""The number format that a policy is sampled and trained in.

Weights that train stay in float32, in which small updates are not rounded away. With bfloat16, training computes in it under
autocast, and sampling holds the weights in it: half the memory to read for each token.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.lazy import torch

if TYPE_CHECKING:
    from torch import nn


class Precision(StrEnum):
    """Number formats that a policy can be computed in; ``AUTO`` is the faster one on this machine."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    AUTO = "auto"

    @property
    def dtype(self) -> torch.dtype:
        """The format as torch names it; ``auto`` has to be settled before."""
        return {Precision.FLOAT32: torch.float32, Precision.BFLOAT16: torch.bfloat16}[self]


def has_bfloat16() -> bool:
    """Whether this machine computes in bfloat16: a GPU that does, or a processor with instructions for it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if os.uname().machine in ("arm64", "aarch64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def require_hardware(precision: Precision | None, key: str) -> None:
    """Refuse bfloat16 on a machine that cannot compute in it; ``key`` is where it is asked for."""
    if precision is Precision.BFLOAT16 and not has_bfloat16():
        raise UserError(
            f"{key} = {precision.value!r}: this machine has no instructions for it and would emulate it, slower than float32; "
            "take 'float32', or 'auto'"
        )


@contextmanager
def weights_in(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """A model whose weights are in another number format inside the block; ``None`` leaves them as they are.

    Afterwards the model has the very weights that it had before, bit for bit.
    """
    own = [(p, p.data) for p in model.parameters() if dtype is not None and p.dtype != dtype]
    try:
        for parameter, data in own:
            parameter.data = data.to(dtype)
        yield
    finally:
        for parameter, data in own:
            parameter.data = data
