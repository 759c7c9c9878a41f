"""TRL's tensors to our loss, and the figures that only the loss knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scope_rlvr.formulas.losses import Tokens
from scope_rlvr.methods.loss import BatchLoss, Counts, Objective
from scope_rlvr.methods.metrics import Tally

if TYPE_CHECKING:
    from scope_rlvr.engines.trl.trainer import ScopeTrainer


def counts_of(trainer: ScopeTrainer, inputs: Mapping[str, Tensor]) -> Counts:
    """The normalisers of one optimiser step.

    Those in ``inputs`` count the whole generation batch; an optimiser step sees ``gradient_accumulation_steps`` of its
    ``steps_per_generation`` micro-batches, and has that share of the normaliser, whatever its rows: tokens weigh alike in all
    mini-batches of a batch.
    """
    share = 1.0
    if trainer.model.training:
        share = trainer.current_gradient_accumulation_steps / trainer.args.steps_per_generation
    return Counts(inputs["num_weighted_rows"] * share, inputs["num_weighted_tokens"] * share)


_PROMPT = ("prompt_ids", "prompt_mask")


def rows_to_read(inputs: dict[str, Tensor], needs_advantage: bool) -> dict[str, Tensor]:
    """The rows of a micro-batch that have a part in the loss, and of their columns those that hold a token.

    That is a row with a token that has weight and, where the loss ``needs_advantage``, an advantage. One row stays in any case:
    its gradient, which is zero, still moves the optimiser's averages.
    """
    counts_BT = inputs["token_weights"] > 0
    if needs_advantage:
        counts_BT = counts_BT & (inputs["advantages"] != 0)
    rows = counts_BT.any(1).nonzero()[:, 0]
    if not len(rows):
        rows = rows.new_zeros(1)
    num_rows = len(counts_BT)
    found = {n: t[rows] if t.dim() == 2 and len(t) == num_rows else t for n, t in inputs.items()}
    prompt, response = (int(found[mask].sum(1).max()) for mask in ("prompt_mask", "completion_mask"))
    return {
        name: tensor if tensor.dim() != 2 else tensor[:, -prompt:] if name in _PROMPT else tensor[:, :response]
        for name, tensor in found.items()
    }


def tally_loss(
    tally: Tally,
    tokens: Tokens,
    found: BatchLoss,
    entropy_BT: Tensor,
    objective: Objective,
    inputs: Mapping[str, Tensor],
    weight: Tensor,
) -> None:
    """Figures of a micro-batch: who pulls, how far from the sampler, what was clipped. ``inputs`` are the rows that were read,
    ``weight`` is the weight of all rows."""
    if not found.policy_BT.requires_grad:
        return
    weight_BT, behaviour_BT = inputs["token_weights"], inputs["behaviour_logps"]
    is_teacher_BT = tokens.is_teacher_BT
    (pull_BT,) = torch.autograd.grad(found.policy_BT.sum(), tokens.logp_BT, retain_graph=True)
    pull_BT = pull_BT.abs() * weight_BT
    with torch.no_grad():
        tally.ratio("gradient/token_share", (pull_BT > 0).sum(), weight)
        tally.ratio("gradient/teacher_share", (pull_BT * is_teacher_BT).sum(), pull_BT.sum())
        tally.ratio("gradient/teacher_token_share", (weight_BT * is_teacher_BT).sum(), weight)
        tally.ratio("teacher/prob", (tokens.logp_BT.exp() * is_teacher_BT).sum(), is_teacher_BT.sum())
        tally.ratio("entropy", (entropy_BT * weight_BT).sum(), weight_BT.sum())
        _tally_affinity(tally, tokens, behaviour_BT, inputs["completion_mask"].bool(), objective)
        ratio_BT, clip = torch.exp(tokens.logp_BT - tokens.old_logp_BT), objective.clip
        low = (ratio_BT < 1 - clip.low) & (tokens.advantage_BT < 0)
        high = (ratio_BT > 1 + clip.high) & (tokens.advantage_BT > 0)
        dual = torch.zeros_like(low) if clip.dual is None else (ratio_BT > clip.dual) & (tokens.advantage_BT < 0)
        is_clipped_BT = (low | high | dual) & ~is_teacher_BT
        tally.ratio("clip_ratio/region_mean", (is_clipped_BT * weight_BT).sum(), weight)
        gap_BT = (tokens.old_logp_BT - behaviour_BT).abs().nan_to_num(0.0) * weight_BT * ~is_teacher_BT
        tally.largest("sampler/logp_gap", gap_BT.max())
        if found.kl_BT is not None:
            tally.ratio("kl", (found.kl_BT * weight_BT).sum(), weight_BT.sum())


def _tally_affinity(
    tally: Tally, tokens: Tokens, behaviour_BT: Tensor, is_response_BT: Tensor, objective: Objective
) -> None:
    """How near to the policy salvaged rollouts are: HINT's affinity, 1 for a rollout of the policy's own.

    (Share of the tokens' ratios π_old/behaviour inside the clip band) · exp(−their variance there), for each
    response with teacher tokens; tokens of unknown behaviour are left out.
    """
    ratio_BT, clip = torch.exp(tokens.old_logp_BT - behaviour_BT), objective.clip
    for row in tokens.is_teacher_BT.any(1).nonzero()[:, 0].tolist():
        known = ratio_BT[row][behaviour_BT[row].isfinite() & is_response_BT[row]]
        inside = known[(known >= 1 - clip.low) & (known <= 1 + clip.high)]
        if len(known):
            variance = inside.var(unbiased=False).exp().reciprocal() if len(inside) else 0.0
            tally.ratio("salvage/affinity", len(inside) / len(known) * float(variance), 1)
