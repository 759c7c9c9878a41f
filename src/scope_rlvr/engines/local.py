"""The plainest engine: one model in this process, AdamW, and the training step as :mod:`scope_rlvr.methods.step` has it.

It is what the other engines are compared with, and what to read first. Real runs want what Hugging Face's trainer adds:
schedules, checkpoints, mixed precision, several processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.ports import ReadableModel, Sampling, StepScorer, Teacher, Verifier
from scope_rlvr.engines.loop import HELPERS, TrainingLoop
from scope_rlvr.methods.loss import Counts, Objective, batch_loss, loss_reducers, stream_tensors, tokens_of
from scope_rlvr.methods.method import Method, SideUpdate
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.methods.reading import ReadBy
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.models.reading import read_last


@dataclass
class LocalLearner:
    """Moves the weights of one model by one AdamW step a batch.

    ``micro_batch_rows`` rows run forward and backward at a time, all by default; another number changes nothing but rounding.
    """

    model: PreTrainedModel
    method: Method
    objective: Objective
    temperature: float = 1.0
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0
    micro_batch_rows: int | None = None
    aside: dict[str, LocalLearner] = field(default_factory=dict)
    """Who makes the side updates of each method."""

    def __post_init__(self) -> None:
        self.objective = self.objective.of(self.method)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=self.learning_rate, weight_decay=0.0)

    def update(
        self, groups: Sequence[Group], streams_PG: Sequence[Sequence[Streams]], term_weights: Mapping[str, float]
    ) -> dict[str, float]:
        """One optimiser step on the loss of all members; its loss, and the norm of the gradient before it was clipped."""
        members = [member for group in groups for member in group.members]
        streams = [s for streams_G in streams_PG for s in streams_G]
        counts = Counts(
            torch.tensor(float(sum(any(s.weight_T) for s in streams)), device=self.model.device),
            torch.tensor(float(sum(sum(s.weight_T) for s in streams)), device=self.model.device),
        )
        self.model.train()
        size = self.micro_batch_rows or max(1, len(members))
        losses = [
            self._backward(members[start : start + size], streams[start : start + size], counts, term_weights)
            for start in range(0, len(members), size)
        ]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": sum(losses), "grad_norm": float(norm)}

    def update_aside(self, update: SideUpdate) -> dict[str, float]:
        """One step of the side update's own AdamW."""
        name = update.method.name
        if name not in self.aside:
            rate = update.rate * self.learning_rate
            self.aside[name] = replace(self, method=update.method, learning_rate=rate, aside={})
        learner = self.aside[name]
        rewards_PG = [[member.verdict.pay for member in group.members] for group in update.groups]
        streams_PG = update.method.credit(update.groups, rewards_PG, learner.objective.normalisation)
        if not any(any(s.weight_T) for streams_G in streams_PG for s in streams_G):
            return {}
        figures = learner.update(update.groups, streams_PG, {})
        return {f"side/{name}/{figure}": value for figure, value in figures.items()}

    def _backward(
        self, members: Sequence[Member], streams: Sequence[Streams], counts: Counts, term_weights: Mapping[str, float]
    ) -> float:
        rows = padded(members, self.model.device)
        num_tokens = rows["response_mask"].size(1)
        names = dict.fromkeys(name for s in streams for name in s.extras)
        tensors = stream_tensors(streams, num_tokens, tuple(names))
        given = {name: tensor.to(self.model.device) for name, tensor in tensors.items()}
        reducers = loss_reducers(self.method, self.objective)
        kept = read_last(self.model, rows["input_ids"], rows["mask"], num_tokens, reducers, self.temperature)
        found = batch_loss(
            self.method,
            tokens_of(kept, given),
            self.objective,
            counts,
            entropy_BT=kept["entropy"],
            is_response_BT=rows["response_mask"].bool(),
            sampler_logp_BT=given["behaviour_logps"],
            term_weights=term_weights,
        )
        found.loss.backward()
        return found.loss.item()


def padded(members: Sequence[Member], device: Any) -> dict[str, Tensor]:
    """Prompts padded on the left, responses on the right: ids and mask ``(B, L)``, and the responses' own mask ``(B, T)``."""
    rollouts = [member.rollout for member in members]
    before = max(len(r.prompt_ids) for r in rollouts)
    after = max(1, *(len(r) for r in rollouts))
    ids = [
        [0] * (before - len(r.prompt_ids)) + [*r.prompt_ids, *r.token_ids] + [0] * (after - len(r)) for r in rollouts
    ]
    mask = [
        [0] * (before - len(r.prompt_ids)) + [1] * (len(r.prompt_ids) + len(r)) + [0] * (after - len(r))
        for r in rollouts
    ]
    whole = torch.tensor(mask, device=device)
    return {"input_ids": torch.tensor(ids, device=device), "mask": whole, "response_mask": whole[:, before:]}


class LocalEngine(TrainingLoop):
    """A training run on one model in this process. A KL penalty in the objective needs another engine."""

    def __init__(
        self,
        model: PreTrainedModel,
        codec: TokenizerCodec,
        method: Method,
        verifier: Verifier,
        objective: Objective,
        step_scorer: StepScorer | None = None,
        teacher: Teacher | None = None,
        *,
        readers: Mapping[str, ReadableModel] | None = None,
        sampling: Sampling | None = None,
        learning_rate: float = 1e-4,
        micro_batch_rows: int | None = None,
        **helpers: Any,
    ) -> None:
        """``helpers`` are those of :class:`TrainingLoop`: judge, step rule, seed."""
        kl, readers, sampling = objective.of(method).kl, readers or {}, sampling or Sampling()
        if kl != 0.0:
            key = "objective.kl" if method.kl is None else "method.kl"
            raise ValueError(f"the local engine has no reference model for {key} = {kl}; set it to 0")
        given = {Need(f"{name} model") for name in readers if name == ReadBy.REFERENCE.value}
        method.refuse_without({*HELPERS, Need.LOGITS, Need.DECODING, *given}, "the local engine")
        policy = LocalModel(model, codec)
        learner = LocalLearner(
            model, method, objective, sampling.temperature, learning_rate, micro_batch_rows=micro_batch_rows
        )
        super().__init__(
            codec,
            method,
            verifier,
            objective,
            policy,
            learner,
            step_scorer,
            teacher,
            sampling=sampling,
            readers={ReadBy.POLICY.value: policy, **readers},
            **helpers,
        )
        self.model = model
