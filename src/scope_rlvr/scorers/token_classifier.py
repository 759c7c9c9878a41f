"""Process reward models with a classification head on every token: the score of a step is read at its end.

The input is the prompt, then each step followed by the separator, all tokenised piece by piece so that a separator is
always a token (or tokens) of its own; the probability of the class "right" at the last separator token is the score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.locate import Threshold
from scope_rlvr.types import Problem

RIGHT_LABEL = 1


class TokenClassifierScorer:
    """A token-classification model with two labels, label 1 meaning "this step is right"."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rule: Threshold,
        separator: str = "\n\n",
        batch_size: int = 128,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.rule = rule
        self.batch_size = batch_size
        self._separator = separator
        self._separator_ids = self._encode(separator)

    @classmethod
    def load(cls, folder: Path, threshold: float | None = None) -> TokenClassifierScorer:
        """Load a scorer from a model folder whose ``scorer.json`` names its rule and threshold."""
        described = folder / "scorer.json"
        if threshold is None:
            if not described.is_file():
                raise ValueError(
                    f"{folder} has no scorer.json that names a threshold; give one in the configuration "
                    "([scorer] threshold = ...)"
                )
            threshold = float(json.loads(described.read_text())["threshold"])
        model, info = AutoModelForTokenClassification.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        # transformers would fill what is missing with random numbers and go on.
        if info["missing_keys"]:
            raise ValueError(f"its weights lack {min(info['missing_keys'])!r}; a step scorer is a token classifier")
        if model.config.num_labels != 2:
            raise ValueError(f"{folder} classifies tokens into {model.config.num_labels} labels; a step scorer has 2")
        return cls(model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False), Threshold(threshold))

    @torch.inference_mode()
    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        """Probability that each step is right. A solution without steps, or too long for the model, gets ``None``."""
        encoded = [self._input(problem, steps) for problem, steps in solutions]
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

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _input(self, problem: Problem, steps: Sequence[str]) -> tuple[list[int], list[int]]:
        """Token ids of prompt and steps, and the position at which each step's score is read."""
        ids, ends = self._encode(problem.prompt), []
        for step in steps:
            # A separator inside a step would be read as the end of another step.
            ids += self._encode(step.strip().replace(self._separator, " ")) + self._separator_ids
            ends.append(len(ids) - 1)
        return ids, ends

    def _right_probability(self, rows: list[list[int]]) -> Tensor:
        width = max(map(len, rows))
        ids = torch.tensor([row + [self.tokenizer.pad_token_id or 0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        device = self.model.device
        logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        return logits.float().softmax(-1)[..., RIGHT_LABEL]
