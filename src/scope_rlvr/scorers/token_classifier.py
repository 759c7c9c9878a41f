"""Process reward models with a classification head on every token: the score of a step is read at its end.

The input is the prompt, then each step followed by the separator, all tokenised piece by piece so that a separator is
always a token (or tokens) of its own; the probability of the class "right" at the last separator token is the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.ports import DecisionRule
from scope_rlvr.scorers.families import TokenClassifier
from scope_rlvr.scorers.step_ends import encode_steps
from scope_rlvr.types import Problem

RIGHT_LABEL = 1


class TokenClassifierScorer:
    """A token-classification model with two labels, label 1 meaning "this step is right"."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rule: DecisionRule,
        separator: str = "\n\n",
        batch_size: int = 128,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.rule = rule
        self.batch_size = batch_size
        self._separator = separator

    @classmethod
    def load(cls, folder: Path, rule: DecisionRule, family: TokenClassifier | None = None) -> TokenClassifierScorer:
        """Load a scorer from a model folder; :func:`scope_rlvr.scorers.loading.load_scorer` finds rule and family."""
        model, info = AutoModelForTokenClassification.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        # transformers would fill what is missing with random numbers and go on.
        if info["missing_keys"]:
            raise ValueError(f"its weights lack {min(info['missing_keys'])!r}; a step scorer is a token classifier")
        if model.config.num_labels != 2:
            raise ValueError(f"{folder} classifies tokens into {model.config.num_labels} labels; a step scorer has 2")
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return cls(model, tokenizer, rule, (family or TokenClassifier()).separator)

    @torch.inference_mode()
    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        """Probability that each step is right. A solution without steps, or too long for the model, gets ``None``."""
        encoded = [encode_steps(self.tokenizer, p.prompt, steps, self._separator) for p, steps in solutions]
        limit = self.model.config.max_position_embeddings
        scorable = [i for i, (ids, ends) in enumerate(encoded) if ends and len(ids) <= limit]
        # Rows of like length share a batch, so that little is computed on padding.
        scorable.sort(key=lambda i: len(encoded[i][0]))
        scores: list[tuple[float, ...] | None] = [None] * len(solutions)
        for start in range(0, len(scorable), self.batch_size):
            batch = scorable[start : start + self.batch_size]
            right_BT = self._right_probability([encoded[i][0] for i in batch])
            for row, i in enumerate(batch):
                scores[i] = tuple(right_BT[row, encoded[i][1]].tolist())
        return scores

    def _right_probability(self, rows: list[list[int]]) -> Tensor:
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.tokenizer.pad_token_id or 0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        device = self.model.device
        logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        return logits.float().softmax(-1)[..., RIGHT_LABEL]
