"""The training loop of the embedded models: plain torch, one thread, float32, seeded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import torch
from torch import nn
from torch.optim import AdamW, Optimizer


@dataclass(frozen=True)
class Batch:
    """Token ids (B x T) and, at each position, the label that the model should give there, -100 for none."""

    ids_BT: torch.Tensor
    labels_BT: torch.Tensor


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, where sums have one order and so one result; the former number comes back after."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def train(
    model: nn.Module,
    make_batch: Callable[[float], Batch],
    *,
    num_steps: int,
    muon_lr: float,
    adam_lr: float,
    report: Callable[[str], None],
    label: str,
) -> None:
    """Minimise the cross-entropy of the model's logits on batches; ``make_batch`` gets the share of the steps that are done.

    Matrices inside the blocks are trained with Muon, which needs about half the steps of AdamW here; embeddings, heads
    and norms with AdamW. Both rates warm up over 100 steps and fall linearly to zero.
    """
    optimizers = _optimizers(model, muon_lr, adam_lr)
    peak_rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    model.train()
    started = monotonic()
    for step in range(num_steps):
        for group, peak in zip(groups, peak_rates, strict=True):
            group["lr"] = peak * min(1.0, (step + 1) / 100) * (1 - step / num_steps)
        batch = make_batch(step / num_steps)
        logits_BTC = model(input_ids=batch.ids_BT, use_cache=False).logits
        loss = nn.functional.cross_entropy(logits_BTC.flatten(0, 1), batch.labels_BT.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step % 200 == 199 or step == num_steps - 1:
            report(f"{label}: step {step + 1} of {num_steps}, {monotonic() - started:.0f} s, loss {loss.item():.4f}")
    model.eval()


def _optimizers(model: nn.Module, muon_lr: float, adam_lr: float) -> list[Optimizer]:
    if not hasattr(torch.optim, "Muon"):
        raise ImportError(
            f"making the embedded models needs torch 2.9 or newer, for its Muon; this is {torch.__version__}"
        )
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in name)]
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=0.0, momentum=0.95),
        AdamW(others, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
