"""One token after another: the rows that are still being written, and how the next token is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from scope_rlvr.core.ports import Sampling


@dataclass(slots=True)
class Running:
    """The rows still being written, in the order in which they lie in the cache, and the positions of their last tokens."""

    rows: list[int]
    attention_mask: Tensor
    positions_B1: Tensor
    cache: DynamicCache

    def keep(self, kept: list[int]) -> None:
        """Go on with these rows; one that is named several times goes on as several."""
        index = torch.tensor(kept, device=self.attention_mask.device)
        self.rows = [self.rows[i] for i in kept]
        self.attention_mask, self.positions_B1 = self.attention_mask[index], self.positions_B1[index]
        self.cache.batch_select_indices(index)

    def add_token(self) -> None:
        """Every row has one token more."""
        self.positions_B1 = self.positions_B1 + 1
        self.attention_mask = torch.nn.functional.pad(self.attention_mask, (0, 1), value=1)


def warpers_of(sampling: Sampling) -> LogitsProcessorList:
    warpers = LogitsProcessorList()
    if sampling.top_k > 0:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers


def draw(
    logits_BV: Tensor,
    sampling: Sampling,
    warpers: LogitsProcessorList,
    generator: torch.Generator,
    num_written_B: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """One token a row and its log-probability. Gumbel noise makes the draw an arg-max."""
    if sampling.temperature == 0:
        logprobs_BV = logits_BV.log_softmax(-1)
        tokens_B = logits_BV.argmax(-1)
    else:
        scaled_BV = logits_BV / sampling.temperature
        logprobs_BV = scaled_BV.log_softmax(-1)
        drawn_BV = scaled_BV if sampling.control is None else sampling.control.adjust(scaled_BV, num_written_B)
        kept_BV = warpers(None, drawn_BV) if warpers else drawn_BV  # type: ignore[arg-type]
        noise_BV = torch.empty_like(kept_BV).exponential_(generator=generator)
        # Some platforms can draw exactly zero, whose logarithm would choose the token whatever its probability.
        noise_BV.clamp_(min=torch.finfo(noise_BV.dtype).tiny)
        tokens_B = (kept_BV - noise_BV.log()).argmax(-1)
    return tokens_B, logprobs_BV.gather(-1, tokens_B[:, None])[:, 0]
