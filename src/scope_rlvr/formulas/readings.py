"""Reducers: what is kept of a model's next-token distributions.

A reducer sees the logits of a few tokens at a time, so that no tensor of tokens times vocabulary is ever whole. Without
gradients it serves the reading pass between edit and credit, with gradients the extra terms of a loss.

Shapes: ``N`` tokens at a time, ``V`` vocabulary, ``D`` hidden width, ``T`` tokens of a response. Logits come divided by
the temperature, in float32; all logarithms are natural.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, SerializeAsAny

from scope_rlvr.core.lazy import torch
from scope_rlvr.core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class LogitReducer(Settings):
    """Turns the logits before each of ``N`` tokens into one number a token, ``(N,)``, or a few, ``(N, K)``."""

    title: ClassVar[str]

    @property
    def name(self) -> str:
        """Under which members and tokens carry the result."""
        return self.title

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        raise NotImplementedError


class EmbeddingReducer(LogitReducer):
    """A reducer that also sees the model's output embeddings ``(V, D)``, in the model's own number format.

    What it keeps of the tokens of a response may be reduced once more, by ``of_response``, before it leaves the model's device.
    """

    def __call__(self, logits_NV: Tensor, ids_N: Tensor, embedding_VD: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def of_response(self, kept_T: Tensor) -> Tensor:
        """What is kept of a whole response, out of what was kept of each of its tokens; by default, all."""
        return kept_T


class LogProb(LogitReducer):
    """The log-probability of the token that was written, ``z_y − log Σ_v exp z_v``.

    >>> LogProb()(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))  # log ½
    tensor([-0.6931])
    """

    title = "logprob"

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        chosen_N = logits_NV.gather(-1, ids_N[:, None])[:, 0]
        return chosen_N - logits_NV.logsumexp(-1)


class Entropy(LogitReducer):
    """The entropy in nats of the distribution, ``−Σ_v p_v log p_v``.

    >>> Entropy()(torch.zeros(1, 4), torch.tensor([0]))  # log 4
    tensor([1.3863])
    """

    title = "entropy"

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        logp_NV = logits_NV.log_softmax(-1)
        return -(logp_NV.exp() * logp_NV).sum(-1)


class SelfCertainty(LogitReducer):
    """How far the distribution is from uniform: ``KL(U‖p) = −log V − (1/V) Σ_v log p_v``.

    >>> SelfCertainty()(torch.zeros(1, 4), torch.tensor([0]))
    tensor([0.])
    """

    title = "self_certainty"

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        vocabulary = torch.tensor(float(logits_NV.size(-1)))
        return -vocabulary.log() - logits_NV.log_softmax(-1).mean(-1)


class ChosenLogit(LogitReducer):
    """The logit of the token that was written, as the model gives it.

    >>> ChosenLogit()(torch.tensor([[0.5, 2.0]]), torch.tensor([1]))
    tensor([2.])
    """

    title = "chosen_logit"

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        return logits_NV.gather(-1, ids_N[:, None])[:, 0]


class TemperedLogProb(LogitReducer):
    """The log-probability of the token that was written if the temperature were ``temperature`` times what it is.

    >>> TemperedLogProb(temperature=2)(torch.tensor([[0.0, 2.0]]), torch.tensor([1])).round(decimals=4)  # of logits 0 and 1
    tensor([-0.3133])
    """

    title = "tempered"
    temperature: float = Field(1.0, gt=0)

    @property
    def name(self) -> str:
        return f"tempered_{self.temperature:g}"

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        return LogProb()(logits_NV / self.temperature, ids_N)


class MinPLogProb(LogitReducer):
    """The log-probability of the token that was written among the tokens of at least ``min_p`` times the largest probability.

    ``FILTERED`` for a token that is not among them. Source: Nguyen et al. 2024 (min-p sampling).

    >>> logits = torch.log(torch.tensor([[0.6, 0.3, 0.1]]))
    >>> [MinPLogProb(min_p=0.2)(logits, torch.tensor([token])).exp().item() for token in (0, 2)]  # 0.6 of 0.6 + 0.3
    [0.6666666269302368, 0.0]
    """

    title = "min_p_logprob"
    FILTERED: ClassVar[float] = -1e4
    min_p: float = Field(0.02, ge=0, le=1)

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        logp_NV = logits_NV.log_softmax(-1)
        floor_N1 = logp_NV.max(-1, keepdim=True).values + math.log(max(self.min_p, 1e-30))
        kept_NV = logp_NV.masked_fill(logp_NV < floor_N1, -torch.inf)
        return LogProb()(kept_NV, ids_N).clamp(min=self.FILTERED)


class NucleusEntropy(LogitReducer):
    """The entropy in nats of the likeliest tokens that reach ``top_p`` together, as if there were no others.

    The token that reaches it counts. Source: Jiang et al. 2025 (SIREN), section 4.

    >>> NucleusEntropy(top_p=0.7)(torch.log(torch.tensor([[0.4, 0.4, 0.2]])), torch.tensor([0])).round(decimals=4)  # log 2
    tensor([0.6931])
    """

    title = "nucleus_entropy"
    top_p: float = Field(0.8, gt=0, le=1)

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        logp_NV = logits_NV.log_softmax(-1).sort(-1, descending=True).values
        prob_NV = logp_NV.exp()
        before_NV = prob_NV.detach().cumsum(-1) - prob_NV.detach()
        kept_NV = before_NV < self.top_p
        mass_N1 = (prob_NV * kept_NV).sum(-1, keepdim=True)
        # H of p/m is log m − (1/m) Σ p log p over what is kept.
        return (mass_N1.log() - (prob_NV * logp_NV * kept_NV).sum(-1, keepdim=True) / mass_N1)[:, 0]


class TopK(LogitReducer):
    """The ``k`` likeliest tokens: ``(N, 2, k)``, their log-probabilities and their ids, likeliest first.

    >>> TopK(k=1)(torch.tensor([[0.0, 1.0]]), torch.tensor([0])).round(decimals=4)
    tensor([[[-0.3133],
             [ 1.0000]]])
    """

    title = "top_k"
    k: int = Field(20, ge=1)

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        top_NK, ids_NK = logits_NV.log_softmax(-1).topk(self.k, dim=-1)
        return torch.stack([top_NK, ids_NK.to(top_NK.dtype)], dim=1)


class Detached(LogitReducer):
    """What another reducer keeps, without a gradient.

    >>> Detached(of=Entropy()).name
    'entropy'
    """

    title = "detached"
    of: SerializeAsAny[LogitReducer]

    @property
    def name(self) -> str:
        return self.of.name

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        with torch.no_grad():
            return self.of(logits_NV, ids_N)


class HiddenReducer(Settings):
    """Turns the last hidden states at a response's tokens, ``(T, D)`` in float32, into what is kept of them.

    With ``is_before`` they are those one position earlier, which the tokens were drawn from.
    """

    title: ClassVar[str]
    is_before: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return self.title

    def __call__(self, states_TD: Tensor) -> Tensor:
        raise NotImplementedError


class MeanHidden(HiddenReducer):
    """The mean of the last hidden states: one vector ``(D,)`` for a response.

    >>> MeanHidden()(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))
    tensor([2., 1.])
    """

    title = "mean_hidden"

    def __call__(self, states_TD: Tensor) -> Tensor:
        return states_TD.mean(0)


class HiddenStates(HiddenReducer):
    """The last hidden states themselves, ``(T, D)``: for trained heads and features of every token."""

    title = "hidden"

    def __call__(self, states_TD: Tensor) -> Tensor:
        return states_TD


class StatesBefore(HiddenReducer):
    """The hidden states that the tokens were drawn from, ``(T, D)``: what is known before each token is chosen."""

    title = "states_before"
    is_before: ClassVar[bool] = True

    def __call__(self, states_TD: Tensor) -> Tensor:
        return states_TD
