"""GSPO: one importance ratio for a whole response."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip, Tokens, clipped_policy_loss
from scope_rlvr.methods.method import Method


class Gspo(Method):
    """The clipped surrogate with the ratio of sequences: ``s_i = exp(mean_t log(π/π_old)) = (π(y)/π_old(y))^(1/|y|)``.

    ``−min(s_i·Â_i, clip(s_i, 1 − 3e-4, 1 + 4e-4)·Â_i)``, mean over rollouts, ``Â_i = (r_i − mean) / std``. It is
    computed in the GSPO-token form: each token has the ratio ``sg[s_i] · π_t / sg[π_t]``, whose value is ``s_i`` and
    whose gradient goes to its own token; for one advantage a rollout, the mean over its tokens has value and gradient
    of the above. Only tokens with weight count in ``s_i``.

    On the first pass over fresh rollouts ``s_i`` is 1 and this is GRPO with a mean over sequences;
    ``objective.updates_per_batch`` above 1 makes the difference. Source: Zheng et al. 2025, sections 4.1 and 4.3; clip
    from section 5.1.

    >>> logp = torch.log(torch.tensor([[0.5, 0.4, 0.9]]))
    >>> old = torch.log(torch.tensor([[0.5, 0.1, 0.1]]))
    >>> sequence_log_ratio(logp, old, torch.tensor([[1.0, 1.0, 0.0]])).exp()  # (0.2 / 0.05) ** 0.5
    tensor([[2., 2., 2.]])
    """

    title: ClassVar[str] = "GSPO"
    source: ClassVar[str] = "arXiv 2507.18071"
    changes: ClassVar[str] = "one ratio and one clip for a whole response"
    formula: ClassVar[str] = "`Â = (r − mean(r)) / std(r)`; `S(Â)` with `ρ = (π(y)/π_old(y))^(1/|y|)`"

    name: Literal["gspo"] = "gspo"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.SEQUENCE_MEAN
    clip: Clip | None = Clip(low=3e-4, high=4e-4)

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        log_ratio_BT = sequence_log_ratio(tokens.logp_BT, tokens.old_logp_BT, tokens.weight_BT)
        return clipped_policy_loss(log_ratio_BT, torch.zeros_like(log_ratio_BT), tokens.advantage_BT, clip)


def sequence_log_ratio(logp_BT: Tensor, old_logp_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """``log s`` of each token's sequence, with the gradient of the token's own log-probability.

    The mean over the weighted tokens; 0 in a row without weight.
    """
    own_BT = torch.where(weight_BT > 0, logp_BT - old_logp_BT, 0.0)
    num_B1 = weight_BT.sum(-1, keepdim=True)
    mean_B1 = (own_BT * weight_BT).sum(-1, keepdim=True) / torch.where(num_B1 > 0, num_B1, 1.0)
    return mean_B1.detach() + own_BT - own_BT.detach()
