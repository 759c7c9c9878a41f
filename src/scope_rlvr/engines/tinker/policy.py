"""The policy on a server, as methods know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scope_rlvr.core.ports import Continuation, Sampling, TextCodec
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.engines.tinker.service import SampleRequest, Service
from scope_rlvr.formulas.readings import LogProb

_SEEDS = 2**31
"""Servers take seeds of 31 bits."""


@dataclass
class TinkerPolicy:
    """Samples and reads on the server. It gives no entropies and no logits: what needs them is refused when a run starts."""

    service: Service
    codec: TextCodec

    def extend(
        self, prefixes: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: Sequence[int], seed: int
    ) -> list[Continuation]:
        """All prefixes at once; one without room comes back empty."""
        ends, texts = tuple(sorted(self.codec.end_ids)), sampling.stop_texts
        requests = {
            i: SampleRequest(tuple(prefix), room, derive_seed(seed, i) % _SEEDS, texts, sampling.temperature, ends)
            for i, (prefix, room) in enumerate(zip(prefixes, max_tokens, strict=True))
            if room > 0
        }
        replies = dict(zip(requests, self.service.sample(list(requests.values())), strict=True))
        return [self._continuation(replies.get(i)) for i in range(len(prefixes))]

    def _continuation(self, reply: Any) -> Continuation:
        if reply is None:
            return Continuation((), ())
        # Some servers write on behind the end of a response.
        ends = [i for i, token in enumerate(reply.token_ids) if token in self.codec.end_ids]
        kept = ends[0] + 1 if ends else len(reply.token_ids)
        return Continuation(reply.token_ids[:kept], reply.logprobs[:kept], bool(ends), reply.stopped and not ends)

    def entropies(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
    ) -> list[tuple[float, ...]]:
        raise ValueError("a Tinker server gives no entropies; take another engine, or cut by another rule")

    def read(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        reducers: Sequence[Any],
        temperature: float,
    ) -> list[dict[str, Any]]:
        """Log-probabilities, which is all that a server gives."""
        others = [reducer.name for reducer in reducers if not isinstance(reducer, LogProb)]
        if others:
            raise ValueError(
                f"a Tinker server gives log-probabilities alone, not {', '.join(others)}; take another engine"
            )
        texts = [(tuple(prompt), tuple(response)) for prompt, response in zip(prompts, responses, strict=True)]
        return [{LogProb().name: torch.tensor(row)} for row in self.service.logprobs(texts)]
