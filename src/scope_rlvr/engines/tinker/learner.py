"""Any loss of ours on a server that knows none of them.

The loss of a step is a function of the log-probabilities of its tokens. The server computes these (a forward pass); the loss and its
derivative by each log-probability, ``g_t = ∂L/∂log π_t``, are computed here, with every normaliser, clip and penalty as on any other
engine; the server then adds the gradient of ``−Σ_t w_t·log π_t`` with ``w_t = −g_t``, which is that of ``L``. This is exact for all
methods whose loss reads nothing of the logits but the log-probability of the token that was written. It costs one forward
pass more than a loss that the server knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.engines.tinker.service import Service, Text
from scope_rlvr.methods.loss import Counts, Objective, batch_loss, stream_tensors, tokens_of
from scope_rlvr.methods.method import Method, SideUpdate


@dataclass
class TinkerLearner:
    """One optimiser step a batch, on a server. ``rate`` gives the learning rate of a step (from 1)."""

    service: Service
    method: Method
    objective: Objective
    rate: Callable[[int], float]
    steps_done: int = 0

    def update(
        self, groups: Sequence[Group], streams_PG: Sequence[Sequence[Streams]], term_weights: Mapping[str, float]
    ) -> dict[str, float]:
        """The loss, what it is made of, and the server's own figures.

        Rows in which nothing counts are not sent. Where no row counts, no step is made: the optimiser stays as it is.
        """
        pairs = [
            (member, streams)
            for group, streams_G in zip(groups, streams_PG, strict=True)
            for member, streams in zip(group.members, streams_G, strict=True)
            if any(streams.weight_T)
        ]
        self.steps_done += 1
        if not pairs:
            return {"loss": 0.0}
        texts: list[Text] = [(member.rollout.prompt_ids, member.rollout.token_ids) for member, _ in pairs]
        logprobs_BT = self.service.logprobs(texts)
        loss, weights_BT, figures = self.differentiated(pairs, logprobs_BT, term_weights)
        self.service.backward(texts, weights_BT, logprobs_BT)
        learning_rate = self.rate(self.steps_done)
        stepped = self.service.step(learning_rate)
        norm = next((value for name, value in stepped.items() if "grad_norm" in name), None)
        known = {} if norm is None else {"grad_norm": norm}
        return {"loss": loss, "learning_rate": learning_rate, **figures, **known}

    def differentiated(
        self,
        pairs: Sequence[tuple[Member, Streams]],
        logprobs_BT: Sequence[Sequence[float]],
        term_weights: Mapping[str, float],
    ) -> tuple[float, list[list[float]], dict[str, float]]:
        """The loss at these log-probabilities, and ``−∂L/∂log π`` of every token."""
        objective = self.objective.of(self.method)
        num_tokens = max(len(row) for row in logprobs_BT)
        streams = [s for _, s in pairs]
        logp_BT = torch.zeros(len(pairs), num_tokens)
        is_response_BT = torch.zeros(len(pairs), num_tokens, dtype=torch.bool)
        for i, row in enumerate(logprobs_BT):
            logp_BT[i, : len(row)] = torch.tensor(row)
            is_response_BT[i, : len(row)] = True
        logp_BT.requires_grad_(True)
        names = tuple(dict.fromkeys(name for s in streams for name in s.extras))
        tensors = stream_tensors(streams, num_tokens, names)
        kept = {"logprob": logp_BT, "entropy": torch.zeros_like(logp_BT)}
        counts = Counts(torch.tensor(float(len(streams))), torch.tensor(float(sum(sum(s.weight_T) for s in streams))))
        found = batch_loss(
            self.method,
            tokens_of(kept, tensors),
            objective,
            counts,
            entropy_BT=kept["entropy"],
            is_response_BT=is_response_BT,
            sampler_logp_BT=tensors["behaviour_logps"],
            ref_logp_BT=None,
            term_weights=term_weights,
        )
        (grad_BT,) = torch.autograd.grad(found.loss, logp_BT)
        weights = [(-grad_BT[i, : len(row)]).tolist() for i, row in enumerate(logprobs_BT)]
        return found.loss.item(), weights, _mismatch(logp_BT.detach(), tensors)

    def update_aside(self, update: SideUpdate) -> dict[str, float]:
        """Refused: a server has one optimiser for a session."""
        raise ValueError(f"the Tinker engine has no second optimiser for {update.method.title}")


def _mismatch(logp_BT: Any, tensors: Mapping[str, Any]) -> dict[str, float]:
    """How far the sampler's log-probabilities are from those of training, over the policy's tokens."""
    gap_BT = (logp_BT - tensors["behaviour_logps"]).abs()
    known_BT = ~gap_BT.isnan() & ~tensors["is_teacher"] & (tensors["token_weights"] > 0)
    return {"sampler/gap": float(gap_BT[known_BT].mean())} if bool(known_BT.any()) else {}
