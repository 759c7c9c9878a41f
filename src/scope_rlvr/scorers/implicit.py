"""Implicit process rewards: the log-ratio of a model that was trained on outcomes and the model it started from.

Sources: Yuan et al. 2024, arXiv 2412.01981; the model card of EurusPRM-Stage1 and -Stage2 (Cui et al. 2025, arXiv 2502.01456).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.core.types import Problem
from scope_rlvr.models.local import same_vocabulary
from scope_rlvr.scorers.batching import Inputs
from scope_rlvr.scorers.checkpoint import load_causal_scorer
from scope_rlvr.scorers.families import Implicit
from scope_rlvr.scorers.local import LocalScorer
from scope_rlvr.scorers.writing import Escape, ScorerInput, chat_text, ids_and_places

_LOGITS = 1 << 24
"""Logits that are turned into probabilities at once."""


@dataclass(frozen=True, slots=True)
class ImplicitInput(ScorerInput):
    """A sequence whose log-ratios count from the token ``start`` on."""

    start: int


class ImplicitWriter:
    """A conversation of problem and solution, its steps joined by blank lines.

    Places are those of the published code, which looks a little ahead: the reward up to a step counts the token of the
    blank line after it and the token after that, and after the last step the token that ends the turn; it begins with the
    last token before the solution.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, family: Implicit) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self._escape = Escape(tokenizer)

    def write(self, problem: Problem, steps: Sequence[str]) -> list[ScorerInput]:
        said = [self._escape(step.strip()) for step in steps]
        if self.family.is_numbered:
            said = [f"Step {number}: {step}" for number, step in enumerate(said, start=1)]
        question = {"role": "user", "content": self._escape(problem.prompt.strip())}
        answer = "\n\n".join(said)
        text = chat_text(self.tokenizer, [question, {"role": "assistant", "content": answer}])
        begin = text.rfind(answer)
        if begin <= 0:
            raise ValueError("its chat template changes what the assistant says, or writes nothing before it")
        ends, at = [], begin
        for step in said:
            at += len(step)
            ends.append(at)
            at += 2
        # The last character of a step, or of what comes before an empty one, and the one before the solution.
        characters = sorted({begin - 1, *(max(begin, end) - 1 for end in ends)})
        written = ids_and_places(self.tokenizer, text, characters, add_special_tokens=False)
        token_of = dict(zip(characters, written.positions, strict=True))
        places = [token_of[max(begin, end) - 1] for end in ends]
        last = len(written.token_ids) - 1
        ahead = [min(place + 2, last) for place in places[:-1]] + [min(places[-1] + 1, last)]
        # An empty last step ends before what the step before it is read at.
        return [ImplicitInput(written.token_ids, list(accumulate(ahead, max)), token_of[begin - 1])]


class LogRatio:
    """``beta`` times the sum of ``log π − log π_ref`` over the tokens of a solution up to each step, or of each step."""

    def __init__(self, model: PreTrainedModel, reference: PreTrainedModel, family: Implicit) -> None:
        self.model = model
        self.reference = reference
        self.family = family

    def read(self, inputs: Inputs, rows: Sequence[ScorerInput]) -> list[Tensor]:
        ratio_BT = token_logprobs(self.model, inputs) - token_logprobs(self.reference, inputs)
        return [self._rewards(ratio_T, written) for ratio_T, written in zip(ratio_BT, rows, strict=True)]

    def _rewards(self, ratio_T: Tensor, written: ScorerInput) -> Tensor:
        assert isinstance(written, ImplicitInput), "the writer of this family marks where a solution starts"
        counted_T = ratio_T.double()
        counted_T[: written.start] = 0.0
        reward_S = self.family.beta * counted_T.cumsum(0)[written.positions]
        if self.family.is_cumulative:
            return reward_S
        return torch.diff(reward_S, prepend=torch.zeros_like(reward_S[:1]))


def token_logprobs(model: PreTrainedModel, inputs: Inputs) -> Tensor:
    """Natural logarithm of each token's probability after those before it, ``(B, T)``; 0 for the first."""
    ids_BT, hidden_BTH = inputs["input_ids"], model.base_model(**inputs).last_hidden_state
    head = model.get_output_embeddings()
    rows = max(1, _LOGITS // head.weight.shape[0])
    parts = zip(hidden_BTH[:, :-1].flatten(0, 1).split(rows), ids_BT[:, 1:].flatten().split(rows), strict=True)
    logps = [head(h_NH).float().log_softmax(-1).gather(-1, ids_N[:, None])[:, 0] for h_NH, ids_N in parts]
    logp_BT = torch.cat(logps).view(len(ids_BT), -1)
    return torch.nn.functional.pad(logp_BT, (1, 0))


def load_implicit(folder: Path, reference: Path, family: Implicit, rule: DecisionRule) -> LocalScorer:
    """A scorer from the folders of the two models, which must share a vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not same_vocabulary(tokenizer, AutoTokenizer.from_pretrained(reference, trust_remote_code=False)):
        raise ValueError(f"its reference {family.reference!r} has another vocabulary; their log-ratio means nothing")
    reader = LogRatio(load_causal_scorer(folder), load_causal_scorer(reference), family)
    # Two models would need two caches, and a row's first log-ratio needs the state before it.
    return LocalScorer(ImplicitWriter(tokenizer, family), reader, tokenizer, rule, family, can_share_prefixes=False)
