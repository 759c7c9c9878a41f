"""Losses: what takes the place of the clipped surrogate on the policy's own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from scope_rlvr.core.lazy import torch
from scope_rlvr.formulas.losses import Clip, Tokens, clipped_policy_loss
from scope_rlvr.methods.parts.base import Loss, Status

if TYPE_CHECKING:
    from torch import Tensor


class SequenceRatio(Loss):
    """The clipped surrogate with the ratio of sequences: ``s_i = exp(mean_t log(π/π_old)) = (π(y)/π_old(y))^(1/|y|)``.

    It is computed in the GSPO-token form: each token has the ratio ``sg[s_i] · π_t / sg[π_t]``, whose value is ``s_i`` and
    whose gradient goes to its own token. Only tokens with weight count in ``s_i``. Source: Zheng et al. 2025, section 4.3.

    >>> logp = torch.log(torch.tensor([[0.5, 0.4, 0.9]]))
    >>> old = torch.log(torch.tensor([[0.5, 0.1, 0.1]]))
    >>> sequence_log_ratio(logp, old, torch.tensor([[1.0, 1.0, 0.0]])).exp()  # (0.2 / 0.05) ** 0.5
    tensor([[2., 2., 2.]])
    """

    title: ClassVar[str] = "GSPO ratio"
    source: ClassVar[str] = "arXiv 2507.18071"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "one ratio and one clip for a whole response"
    formula: ClassVar[str] = "`S(Â)` with `ρ = (π(y)/π_old(y))^(1/|y|)`"

    kind: Literal["sequence_ratio"] = "sequence_ratio"

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
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
