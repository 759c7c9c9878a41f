"""What a model says of finished responses in one forward pass: exact token entropies, and a vector for each response."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.evaluation.measures import Sample, Values
from scope_rlvr.formulas.diversity import embedding_diversity
from scope_rlvr.formulas.readings import Entropy, MeanHidden
from scope_rlvr.models.local import LocalModel, batches_of_like_length

Vector = list[float]


def mean_pooled(states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the marked positions of each row, ``(B, D)`` in float32; zeros where nothing is marked.

    >>> mean_pooled(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    mask_BT1 = mask_BT[..., None].to(torch.float32)
    return (states_BTD.float() * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)


def _right_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, ``(B, longest row)``. The content of the padding is never read."""
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

    def _read(
        self, prompts: Sequence[tuple[int, ...]], responses: Sequence[tuple[int, ...]]
    ) -> tuple[list[Vector], list[Vector]]:
        """Entropy before each token, and the vector, of each response."""

        entropy = [Entropy()] if "policy_entropy" in self.measures else []
        read = self.local.read(prompts, responses, [*entropy, MeanHidden()], self.temperature)
        return (
            [kept["entropy"].tolist() if entropy else [] for kept in read],
            [kept["mean_hidden"].tolist() for kept in read],
        )


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
        for batch in batches_of_like_length([len(ids[i]) for i in filled], width):
            input_ids, mask = _right_padded([ids[filled[i]] for i in batch], self.model.device)
            states = self.model(input_ids=input_ids, attention_mask=mask)[0]
            vectors |= {filled[i]: v for i, v in zip(batch, mean_pooled(states, mask).tolist(), strict=True)}
        return [vectors[i] for i in range(len(ids))]
