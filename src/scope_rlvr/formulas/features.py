"""Features of responses in hidden and embedding space: how many directions they use, and where their gradients point.

Shapes: ``N`` tokens at a time, ``V`` vocabulary, ``D`` hidden width, ``T`` tokens of a response, ``K`` likeliest
tokens.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from pydantic import Field

from scope_rlvr.core.lazy import torch
from scope_rlvr.formulas.readings import EmbeddingReducer, HiddenReducer

if TYPE_CHECKING:
    from torch import Tensor


def effective_rank(states_TD: Tensor) -> float:
    """How many directions the centred vectors use: ``exp(−Σ q log q)``, ``q`` their singular values as shares; 0 for
    fewer than 2.

    Source: Roy and Vetterli 2007, "The effective rank".

    >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 3)
    2.0
    >>> effective_rank(torch.tensor([[1.0, 0.0], [3.0, 0.0]])), effective_rank(torch.ones(5, 2))
    (1.0, 0.0)
    """
    if len(states_TD) < 2:
        return 0.0
    centred_TD = states_TD.double() - states_TD.double().mean(0)
    sizes = torch.linalg.svdvals(centred_TD)
    sizes = sizes[sizes > 1e-9 * max(1.0, states_TD.abs().max().item())]
    shares = sizes / sizes.sum()
    return float(torch.exp(-(shares * shares.log()).sum())) if len(sizes) else 0.0


def rank_dynamics(states_TD: Tensor, stride: int) -> tuple[float, float, float]:
    """The effective rank of a response, how it grows, and how its growth changes.

    With ``m_j`` the effective rank of the first ``j·stride + 1`` vectors and ``d_j = m_j − mean(m_1 … m_{j−1})``: the
    rank of all, ``mean_j d_j``, ``mean_j (d_j − d_{j−1})``; 0 for a response that is too short. Source: VERL, and its
    released code, github.com/hf618/VERL at 3de68f1: ``verl/trainer/metrics_utils.py`` 193-245.

    >>> rank_dynamics(torch.eye(3)[:, :2], stride=1)[0] == effective_rank(torch.eye(3)[:, :2])
    True
    >>> rank_dynamics(torch.zeros(9, 2), stride=2)
    (0.0, 0.0, 0.0)
    """
    ranks = [effective_rank(states_TD[: t + 1]) for t in range(stride, len(states_TD), stride)]
    growth = [rank - fmean(ranks[:j]) for j, rank in enumerate(ranks) if j]
    change = [after - before for before, after in pairwise(growth)]
    return effective_rank(states_TD), fmean(growth or [0.0]), fmean(change or [0.0])


class RankDynamics(HiddenReducer):
    """``(3,)``: :func:`rank_dynamics` of the last hidden states of a response."""

    title = "rank_dynamics"
    stride: int = Field(40, ge=1)

    def __call__(self, states_TD: Tensor) -> Tensor:
        return torch.tensor(rank_dynamics(states_TD, self.stride))


class OutputGradient(EmbeddingReducer):
    """Where the gradient of a response's likelihood points, seen from the last hidden state: the mean over its tokens
    of ``W_y − Σ_v p_v W_v``, one vector ``(D,)``.

    >>> W = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> OutputGradient()(torch.zeros(1, 2), torch.tensor([0]), W)  # W₀ − (W₀ + W₁)/2
    tensor([[ 0.5000, -0.5000]])
    """

    title = "output_gradient"

    def __call__(self, logits_NV: Tensor, ids_N: Tensor, embedding_VD: Tensor | None = None) -> Tensor:
        assert embedding_VD is not None, "a reading gives the embeddings"
        expected_ND = logits_NV.softmax(-1).to(embedding_VD.dtype) @ embedding_VD
        return (embedding_VD[ids_N] - expected_ND).float()

    def of_response(self, kept_T: Tensor) -> Tensor:
        return kept_T.mean(0)


class SemanticEntropy(EmbeddingReducer):
    """How far apart in meaning the likely next tokens are: ``H · (−Σ_{i≠j} p_i p_j cos(e_i, e_j))`` over the ``k``
    likeliest.

    ``H`` is the entropy of the whole distribution. Source: ROSE (2601.05053).

    >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> SemanticEntropy(k=2)(torch.zeros(1, 2), torch.tensor([0]), W).round(decimals=4)  # log 2 · (2 · ¼)
    tensor([0.3466])
    """

    title = "semantic_entropy"
    k: int = Field(20, ge=2)

    def __call__(self, logits_NV: Tensor, ids_N: Tensor, embedding_VD: Tensor | None = None) -> Tensor:
        assert embedding_VD is not None, "a reading gives the embeddings"
        logp_NV = logits_NV.log_softmax(-1)
        entropy_N = -(logp_NV.exp() * logp_NV).sum(-1)
        top_NK, ids_NK = logp_NV.topk(min(self.k, logp_NV.size(-1)), dim=-1)
        unit_NKD = torch.nn.functional.normalize(embedding_VD[ids_NK].float(), dim=-1)
        p_NK = top_NK.exp()
        mean_ND = (p_NK[..., None] * unit_NKD).sum(1)
        # |Σ p e|² is the sum over all pairs, the equal ones included, whose cosine is 1.
        return entropy_N * (p_NK.square().sum(-1) - mean_ND.square().sum(-1))
