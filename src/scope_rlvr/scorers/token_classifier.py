"""Process reward models with a classification head on every token: the score of a step is read at its end.

The input is the prompt, then each step followed by the separator, all tokenised piece by piece so that a separator is
always a token (or tokens) of its own; what the classes "right" and "wrong" get at the last separator token is the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.core.types import Problem
from scope_rlvr.models.loading import device, require_all_weights
from scope_rlvr.scorers.batching import Inputs
from scope_rlvr.scorers.families import PurePrm, TokenClassifier
from scope_rlvr.scorers.local import LocalScorer
from scope_rlvr.scorers.step_ends import encode_steps
from scope_rlvr.scorers.writing import ScorerInput

WRONG_LABEL, RIGHT_LABEL = 0, 1


class TokenClassifierWriter:
    """The prompt and the steps, each with the separator behind it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, family: TokenClassifier) -> None:
        self.tokenizer = tokenizer
        self.family = family

    def write(self, problem: Problem, steps: Sequence[str]) -> list[ScorerInput]:
        prompt = problem.prompt + self.family.separator * self.family.after_prompt
        ids, ends = encode_steps(self.tokenizer, prompt, steps, self.family.separator)
        begin = self.tokenizer.bos_token_id if self.family.bos else None
        return [ScorerInput(ids, ends) if begin is None else ScorerInput([begin, *ids], [end + 1 for end in ends])]


class TokenLabels:
    """The probability of the label for right, or how far it is above that of the label for wrong."""

    def __init__(self, model: PreTrainedModel, is_difference: bool) -> None:
        self.model = model
        self.is_difference = is_difference

    def read(self, inputs: Inputs, rows: Sequence[ScorerInput]) -> list[Tensor]:
        probs_BTC = self.model(**inputs).logits.float().softmax(-1)
        probs = [probs_BTC[i, written.positions] for i, written in enumerate(rows)]
        return [p[:, RIGHT_LABEL] - p[:, WRONG_LABEL] if self.is_difference else p[:, RIGHT_LABEL] for p in probs]


class TokenClassifierScorer(LocalScorer):
    """A token-classification model with two labels, label 1 meaning "this step is right"."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        rule: DecisionRule,
        family: TokenClassifier | None = None,
        tokens_a_pass: int | None = None,
    ) -> None:
        family = family or TokenClassifier()
        reader = TokenLabels(model.eval(), is_difference=isinstance(family, PurePrm))
        super().__init__(
            TokenClassifierWriter(tokenizer, family), reader, tokenizer, rule, family, tokens_a_pass=tokens_a_pass
        )


def load_token_classifier(folder: Path, family: TokenClassifier, rule: DecisionRule) -> TokenClassifierScorer:
    """A scorer from a model folder; :func:`scope_rlvr.scorers.loading.load_scorer` finds family and rule."""
    model, info = AutoModelForTokenClassification.from_pretrained(
        folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True
    )
    require_all_weights(model, info)
    if model.config.num_labels != 2:
        raise ValueError(f"{folder} classifies tokens into {model.config.num_labels} labels; a step scorer has 2")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return TokenClassifierScorer(model.to(device()), tokenizer, rule, family)
