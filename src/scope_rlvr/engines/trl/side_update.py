"""Updates beside the step's: rollouts of their own, another method's loss, and an AdamW that nothing else moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from scope_rlvr.core.groups import Member, Streams
from scope_rlvr.engines.trl.references import trained_parameters
from scope_rlvr.methods.loss import Counts, batch_loss, stream_tensors, tokens_of
from scope_rlvr.methods.method import SideUpdate
from scope_rlvr.store.files import replacing

if TYPE_CHECKING:
    from scope_rlvr.engines.trl.trainer import ScopeTrainer

OPTIMIZERS_FILE = "side_optimizers.safetensors"
"""The state of the side updates' optimisers, in a checkpoint: ``METHOD/PARAMETER/KEY``, as AdamW names the keys."""

_Row = tuple[Member, Streams]


class SideUpdates(TrainerCallback):
    """Makes the side updates of a batch once its last optimiser step is done, and keeps their optimisers in checkpoints."""

    def __init__(self, trainer: ScopeTrainer) -> None:
        self.trainer = trainer
        self.waiting: list[SideUpdate] = []
        self._optimizers: dict[str, AdamW] = {}
        self._unused: dict[str, Tensor] = {}
        """What the checkpoint says of optimisers that were not needed since."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        folder = self.trainer.method_state.begins_from
        file = None if folder is None else folder / OPTIMIZERS_FILE
        self.waiting, self._optimizers = [], {}
        self._unused = load_file(file) if file is not None and file.is_file() else {}

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        options = self.trainer.args
        if self.trainer._step % (options.steps_per_generation * options.num_iterations):
            return
        waiting, self.waiting = self.waiting, []
        for update in waiting:
            self._make(update)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if args.save_only_model:
            return
        tensors = self._unused | {
            f"{name}/{parameter}/{key}": value.contiguous()
            for name, optimizer in self._optimizers.items()
            for parameter, p in trained_parameters(self.trainer).items()
            for key, value in optimizer.state[p].items()
        }
        if tensors and self.trainer.processes.is_main:
            with replacing(Path(args.output_dir) / f"checkpoint-{state.global_step}" / OPTIMIZERS_FILE) as beside:
                save_file(tensors, beside)

    # --- one update ---------------------------------------------------------------------------------------------

    def _make(self, update: SideUpdate) -> None:
        trainer, name = self.trainer, update.method.name
        rows = _rows(update, trainer)
        counts = _counts(rows, trainer)
        if not counts.num_tokens:
            return
        model, parameters = trainer.model_wrapped, trained_parameters(trainer).values()
        model.zero_grad()
        losses = [self._backward(model, part, update, counts) for part in _micro_batches(rows, trainer)]
        norm = clip_grad_norm_(parameters, trainer.args.max_grad_norm or torch.inf)
        if not norm.isfinite():
            trainer.refuse_update(f"a gradient of {name}, beside the step's own update, is not a number")
        self._optimizer(update).step()
        model.zero_grad()
        trainer._tally.ratio(f"side/{name}/loss", sum(losses), 1)
        trainer._tally.ratio(f"side/{name}/grad_norm", norm, 1)
        if trainer.processes.is_main:
            trainer._tally.total(f"side/{name}/rollouts", len(rows))

    def _backward(self, model: Any, rows: Sequence[_Row | None], update: SideUpdate, counts: Counts) -> float:
        trainer = self.trainer
        inputs = _inputs(rows, trainer)
        trainer._last_inputs = inputs
        objective = trainer.objective.of(update.method)
        kept = trainer._policy_reading(model, inputs, update.method, objective)
        found = batch_loss(
            update.method,
            tokens_of(kept, inputs),
            objective,
            counts,
            entropy_BT=kept["entropy"],
            is_response_BT=inputs["completion_mask"].bool(),
            sampler_logp_BT=inputs["behaviour_logps"],
        )
        found.loss.backward()
        return found.loss.item()

    # --- optimisers -----------------------------------------------------------------------------------------------

    def _optimizer(self, update: SideUpdate) -> AdamW:
        """The AdamW of such updates: the run's settings, at a constant rate."""
        name, args = update.method.name, self.trainer.args
        if name not in self._optimizers:
            groups = [
                {"params": group["params"], "weight_decay": group.get("weight_decay", args.weight_decay)}
                for group in self.trainer.optimizer.param_groups
            ]
            betas = (args.adam_beta1, args.adam_beta2)
            optimizer = AdamW(groups, lr=args.learning_rate * update.rate, betas=betas, eps=args.adam_epsilon)
            for parameter, p in trained_parameters(self.trainer).items():
                prefix = f"{name}/{parameter}/"
                for saved in [saved for saved in self._unused if saved.startswith(prefix)]:
                    key, value = saved.removeprefix(prefix), self._unused.pop(saved)
                    # AdamW counts its steps on the CPU.
                    optimizer.state[p][key] = value if key == "step" else value.to(p.device)
            self._optimizers[name] = optimizer
        return self._optimizers[name]


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(update: SideUpdate, trainer: ScopeTrainer) -> list[_Row]:
    """The rollouts of an update with what the method says of their tokens."""
    rewards_PG = [[member.verdict.pay for member in group.members] for group in update.groups]
    normalisation = trainer.objective.of(update.method).normalisation
    streams_PG = update.method.credit(update.groups, rewards_PG, normalisation)
    return [
        row
        for group, streams_G in zip(update.groups, streams_PG, strict=True)
        for row in zip(group.members, streams_G, strict=True)
    ]


def _counts(rows: Sequence[_Row], trainer: ScopeTrainer) -> Counts:
    """The normalisers of the update, each / the number of processes, over which gradients are averaged."""
    device, num_processes = trainer.accelerator.device, trainer.processes.count
    num_rows = sum(any(streams.weight_T) for _, streams in rows)
    num_tokens = sum(sum(streams.weight_T) for _, streams in rows)
    return Counts(*(torch.tensor(count / num_processes, device=device) for count in (num_rows, num_tokens)))


def _micro_batches(rows: Sequence[_Row], trainer: ScopeTrainer) -> Iterator[Sequence[_Row | None]]:
    """This process's rows, as many at a time as in the step; the same number of micro-batches in all processes."""
    share = -(-len(rows) // trainer.processes.count)
    first = share * trainer.processes.index
    own: list[_Row | None] = [rows[i] if i < len(rows) else None for i in range(first, first + share)]
    size = trainer.args.per_device_train_batch_size
    return (own[start : start + size] for start in range(0, share, size))


def _inputs(rows: Sequence[_Row | None], trainer: ScopeTrainer) -> dict[str, Tensor]:
    """Rows as the loss reads them; an empty slot is one token that nobody asks about."""
    end_id, device = trainer.codec.end_id, trainer.accelerator.device
    prompts = [(end_id,) if row is None else row[0].rollout.prompt_ids for row in rows]
    completions = [(end_id,) if row is None else row[0].rollout.token_ids for row in rows]
    streams = [None if row is None else row[1] for row in rows]
    names = dict.fromkeys(name for of_row in streams if of_row is not None for name in of_row.extras)
    completion_ids, completion_mask = _padded(completions, end_id, "right")
    prompt_ids, prompt_mask = _padded(prompts, end_id, "left")
    ids = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
    }
    tensors = ids | stream_tensors(streams, completion_ids.size(1), tuple(names))
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _padded(ids: Sequence[Sequence[int]], padding: int, side: str) -> tuple[Tensor, Tensor]:
    """Token ids of one length, and a mask of those that are none of the padding."""
    rows = [torch.tensor(row, dtype=torch.long) for row in ids]
    masks = [torch.ones(len(row), dtype=torch.long) for row in ids]
    return (
        pad_sequence(rows, batch_first=True, padding_value=padding, padding_side=side),
        pad_sequence(masks, batch_first=True, padding_side=side),
    )
