"""What a model says of finished responses in one forward pass: exact token entropies, and a vector for each response."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.diversity import embedding_diversity
from scope_rlvr.engines.local import LocalModel
from scope_rlvr.evaluation.measures import Sample, Values

_BATCH_ROWS = 128
_BATCH_NUMBERS = 1 << 25
"""Numbers that a model may give out in one forward pass (a row's share: tokens x the larger of vocabulary and width)."""

_ENTROPY_NUMBERS = 1 << 22
"""Logits that are turned into probabilities at once."""

Vector = list[float]


def token_entropies(logits_NV: Tensor, temperature: float) -> Tensor:
    """Entropy in nats of each next-token distribution, ``−Σ_v p_v log p_v`` with ``p = softmax(logits / temperature)``.

    ``(N, V)`` to ``(N,)``, in float32. For greedy sampling (temperature 0) the entropy is that at temperature 1.

    >>> token_entropies(torch.zeros(1, 4), temperature=0.5)  # log 4
    tensor([1.3863])
    """
    rows = max(1, _ENTROPY_NUMBERS // logits_NV.size(1))
    logp = (part.float().div(temperature or 1.0).log_softmax(-1) for part in logits_NV.split(rows))
    return torch.cat([-(part.exp() * part).sum(-1) for part in logp])


def mean_pooled(states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the marked positions of each row, ``(B, D)`` in float32; zeros where nothing is marked.

    >>> mean_pooled(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    mask_BT1 = mask_BT[..., None].to(torch.float32)
    return (states_BTD.float() * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)


def _batches(lengths: Sequence[int], numbers_per_token: int) -> Iterator[list[int]]:
    """Indices in batches of like length, so that little is computed on padding, and none outgrows memory."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        rows = len(batch) + 1
        if batch and (rows > _BATCH_ROWS or rows * lengths[index] * numbers_per_token > _BATCH_NUMBERS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _right_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, ``(B, longest row)``. What stands in the padding is never looked at."""
    width = max(map(len, rows))
    ids = [[*row, *[0] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


@dataclass(frozen=True)
class PolicyReader:
    """Policy entropy and embedding diversity by the policy itself, from one pass over the sampled tokens.

    ``policy_entropy``: mean over all tokens of a problem's responses of the entropy of the distribution that the token
    was drawn from, at the sampling ``temperature``. ``embedding``: each response's vector is the mean of the last
    hidden states at its own tokens (prompt before them), compared by ``embedding_diversity``.
    """

    local: LocalModel
    temperature: float
    measures: Collection[str]

    def __call__(self, samples: Sequence[Sample]) -> list[Values]:
        rollouts = [member.rollout for sample in samples for member in sample.group.members]
        entropies, vectors = self._read([r.prompt_ids for r in rollouts], [r.token_ids for r in rollouts])
        values, start = list[Values](), 0
        for sample in samples:
            end = start + len(sample.texts)
            found: Values = {}
            if "policy_entropy" in self.measures:
                found["policy_entropy"] = fmean(entropy for row in entropies[start:end] for entropy in row)
            if "embedding" in self.measures:
                found["embedding"] = embedding_diversity(vectors[start:end])
            values.append(found)
            start = end
        return values

    @torch.inference_mode()
    def _read(
        self, prompts: Sequence[tuple[int, ...]], responses: Sequence[tuple[int, ...]]
    ) -> tuple[list[Vector], list[Vector]]:
        """Entropy before each token, and the vector, of each response."""
        lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
        config = self.local.model.config.get_text_config()
        entropies: dict[int, Vector] = {}
        vectors: dict[int, Vector] = {}
        for batch in _batches(lengths, max(config.vocab_size, config.hidden_size)):
            rows = [prompts[i] + responses[i] for i in batch]
            logits_BTV, states_BTD = _forward(self.local.model, *_right_padded(rows, self.local.model.device))
            for row, i in enumerate(batch):
                first, last = len(prompts[i]), lengths[i]
                # A token was drawn from what the model said one position earlier.
                if "policy_entropy" in self.measures:
                    logits_TV = logits_BTV[row, first - 1 : last - 1]
                    entropies[i] = token_entropies(logits_TV, self.temperature).tolist()
                vectors[i] = states_BTD[row, first:last].float().mean(0).tolist()
        order = range(len(lengths))
        return [entropies.get(i, []) for i in order], [vectors[i] for i in order]


def _forward(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and last hidden states of every position."""
    seen: list[Tensor] = []

    # Asking for hidden states in the ordinary way would keep those of every layer.
    def look(module: torch.nn.Module, arguments: Any, output: Any) -> None:
        seen.append(output[0])

    hook = model.base_model.register_forward_hook(look)
    try:
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    finally:
        hook.remove()
    return logits, seen[0]


class TextReader:
    """Embedding diversity by another model: it reads each response's text alone, with its own tokenizer.

    A vector is the mean of the last hidden states over the text's tokens, special ones included; a text that is too
    long for the model is cut off at its end.
    """

    @classmethod
    def load(cls, source: str) -> TextReader:
        """A model folder or Hub name. Raises ``ValueError`` for a model that gives no hidden states of a text."""
        model, info = AutoModel.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        # What classifies on top of the hidden states is not used, and may be missing.
        missing = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
        if missing:
            raise ValueError(f"its weights lack {min(missing)!r}; name a folder that holds such a model")
        if model.config.is_encoder_decoder:
            raise ValueError("an encoder-decoder model has no last hidden states of a text alone")
        return cls(model, AutoTokenizer.from_pretrained(source, trust_remote_code=False))

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._max_tokens = min(tokenizer.model_max_length, room or tokenizer.model_max_length)

    def __call__(self, samples: Sequence[Sample]) -> list[Values]:
        vectors, start = self.vectors([text for sample in samples for text in sample.texts]), 0
        values = list[Values]()
        for sample in samples:
            end = start + len(sample.texts)
            values.append({"embedding": embedding_diversity(vectors[start:end])})
            start = end
        return values

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> list[Vector]:
        """One vector a text; zeros for a text without tokens."""
        ids = [row[: self._max_tokens] for row in self.tokenizer(list(texts))["input_ids"]]
        width = self.model.config.get_text_config().hidden_size
        vectors: dict[int, Vector] = {i: [0.0] * width for i, row in enumerate(ids) if not row}
        filled = [i for i, row in enumerate(ids) if row]
        for batch in _batches([len(ids[i]) for i in filled], width):
            input_ids, mask = _right_padded([ids[filled[i]] for i in batch], self.model.device)
            states = self.model(input_ids=input_ids, attention_mask=mask)[0]
            vectors |= {filled[i]: v for i, v in zip(batch, mean_pooled(states, mask).tolist(), strict=True)}
        return [vectors[i] for i in range(len(ids))]
