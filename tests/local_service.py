"""A Tinker server in this process: a model of transformers behind the same questions, with all its weights trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from scope_rlvr.core.ports import Sampling
from scope_rlvr.engines.tinker.service import Sampled, SampleRequest, Text
from scope_rlvr.formulas.readings import LogProb
from scope_rlvr.models.local import LocalModel
from scope_rlvr.models.reading import read_last


class LocalService:
    """Samples, reads, adds up gradients of ``−Σ w·log π`` and steps, as a server does.

    ``saved`` is what a server keeps between sessions; ``state`` is where one of them begins.
    """

    def __init__(
        self,
        local: LocalModel,
        max_grad_norm: float = 1.0,
        saved: dict[str, Any] | None = None,
        state: str | None = None,
    ) -> None:
        self.local, self.max_grad_norm = local, max_grad_norm
        self.optimizer = torch.optim.AdamW(local.model.parameters(), lr=0.0, weight_decay=0.0)
        self.saved = {} if saved is None else saved
        self.asked: list[str] = []
        if state is not None:
            weights, moments = self.saved[state]
            local.model.load_state_dict(weights)
            self.optimizer.load_state_dict(copy.deepcopy(moments))

    def sample(self, requests: Sequence[SampleRequest]) -> list[Sampled]:
        self.asked.append("sample")
        if not requests:
            return []
        like = requests[0]
        found = self.local.extend(
            [r.prefix for r in requests],
            Sampling(temperature=like.temperature, stop_texts=like.stop_texts),
            max_tokens=[r.max_tokens for r in requests],
            seed=sum(r.seed for r in requests) % 2**31,
        )
        return [Sampled(c.token_ids, c.logprobs, c.finished or c.stopped) for c in found]

    def logprobs(self, texts: Sequence[Text]) -> list[tuple[float, ...]]:
        self.asked.append("logprobs")
        read = self.local.read([p for p, _ in texts], [r for _, r in texts], [LogProb()], 1.0)
        return [tuple(kept["logprob"].tolist()) for kept in read]

    def backward(
        self, texts: Sequence[Text], weights: Sequence[Sequence[float]], logprobs: Sequence[Sequence[float]]
    ) -> None:
        self.asked.append("backward")
        for (prompt, response), row, now in zip(texts, weights, logprobs, strict=True):
            ids = torch.tensor([[*prompt, *response]])
            kept = read_last(self.local.model, ids, torch.ones_like(ids), len(response), [LogProb()], 1.0)
            (-(torch.tensor([row]) * torch.exp(kept["logprob"] - torch.tensor([now])))).sum().backward()

    def step(self, learning_rate: float) -> dict[str, float]:
        self.asked.append("step")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = torch.nn.utils.clip_grad_norm_(self.local.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"grad_norm": float(norm)}

    def save(self, name: str) -> str:
        state = f"local://{name}"
        self.saved[state] = copy.deepcopy((self.local.model.state_dict(), self.optimizer.state_dict()))
        return state
