"""Causal language models that answer with a token for right or for wrong: Math-Shepherd and RLHFlow.

Sources: Wang et al. 2024, arXiv 2312.08935, and the model card of math-shepherd-mistral-7b-prm; RLHFlow's RLHF-Reward-Modeling
(Xiong et al. 2024, "An implementation of generative PRM").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.core.types import Problem
from scope_rlvr.scorers.batching import Inputs
from scope_rlvr.scorers.checkpoint import load_causal_scorer
from scope_rlvr.scorers.families import MathShepherd, ReadOut, RlhFlow
from scope_rlvr.scorers.local import LocalScorer, hidden_at
from scope_rlvr.scorers.writing import Escape, ScorerInput, chat_text, ids_and_places, plain_ids

_LABEL = re.compile(r"Step\s+\d+\s*:")
_LOGITS = 1 << 24
"""Logits that are turned into probabilities at once."""


class MathShepherdWriter:
    """The problem, a space, and one line a step: ``Step i: ... ки``. Scores are read at ``ки`` itself."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, family: MathShepherd) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self.marker_id = plain_ids(tokenizer, family.marker)[-1]
        self._escape = Escape(tokenizer)

    def write(self, problem: Problem, steps: Sequence[str]) -> list[ScorerInput]:
        text, ends = f"{self._escape(problem.prompt.strip())} ", []
        for number, step in enumerate(steps, start=1):
            said = self._escape(step.strip())
            label = "" if _LABEL.match(said) else f"Step {number}: "
            text += f"{label}{said} {self.family.marker}"
            ends.append(len(text) - 1)
            text += "\n"
        written = ids_and_places(self.tokenizer, text, ends, add_special_tokens=True)
        if any(written.token_ids[place] != self.marker_id for place in written.positions):
            raise ValueError(f"its tokenizer does not keep {self.family.marker!r} after a space as one token")
        return [written]


class RlhFlowWriter:
    """A conversation: the user says a step, the assistant "+", also after a wrong one; read where the "+" is predicted."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, family: RlhFlow) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self._escape = Escape(tokenizer)
        self._first, self._next = _frames(tokenizer, family.good)

    def write(self, problem: Problem, steps: Sequence[str]) -> list[ScorerInput]:
        said = [self._escape(step.strip()) for step in steps]
        said[0] = f"{self._escape(problem.prompt.strip())} {said[0]}".strip()
        text, ends, messages = "", [], []
        for number, content in enumerate(said):
            before, between, after = self._next if number else self._first
            text += f"{before}{content}{between}{self.family.good}"
            ends.append(len(text) - 1)
            text += after
            messages += _turn(content, self.family.good)
        if text != chat_text(self.tokenizer, messages):
            raise ValueError("its chat template writes a turn differently depending on what stands in it")
        # A chat template writes the token that begins a text itself.
        written = ids_and_places(self.tokenizer, text, ends, add_special_tokens=False)
        return [ScorerInput(written.token_ids, [place - 1 for place in written.positions])]


def _turn(said: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]


def _frames(tokenizer: PreTrainedTokenizerBase, answer: str) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    """What a chat template writes before, between and after the two sides of the first turn, and of any later one."""
    here = "§here§"
    once = chat_text(tokenizer, _turn(here, answer))
    twice = chat_text(tokenizer, [*_turn(here, answer), *_turn(here, answer)])
    frames = []
    for text in (once, twice.removeprefix(once)):
        before, _, rest = text.partition(here)
        between, found, after = rest.rpartition(answer)
        if not found or not twice.startswith(once):
            raise ValueError("its chat template does not write a conversation turn by turn")
        frames.append((before, between, after))
    return frames[0], frames[1]


class CandidateTokens:
    """How much likelier the token for right is than the one for wrong, or than all tokens."""

    def __init__(self, model: PreTrainedModel, good_id: int, bad_id: int, read_out: ReadOut) -> None:
        self.model = model
        self.good_id = good_id
        self.bad_id = bad_id
        self.read_out = read_out

    def read(self, inputs: Inputs, rows: Sequence[ScorerInput]) -> list[Tensor]:
        states = hidden_at(self.model.base_model, inputs, rows)
        return [self._scores(states_SH) for states_SH in states]

    def _scores(self, states_SH: Tensor) -> Tensor:
        head = self.model.get_output_embeddings()
        if self.read_out is ReadOut.TWO_TOKENS:
            chosen = [self.good_id, self.bad_id]
            bias = None if head.bias is None else head.bias[chosen]
            return torch.nn.functional.linear(states_SH, head.weight[chosen], bias).float().softmax(-1)[:, 0]
        rows = max(1, _LOGITS // head.weight.shape[0])
        return torch.cat([self._of_all(head(part)) for part in states_SH.split(rows)])

    def _of_all(self, logits_SV: Tensor) -> Tensor:
        if self.read_out is ReadOut.GREEDY:
            return (logits_SV.argmax(-1) == self.good_id).float()
        return logits_SV.float().softmax(-1)[:, self.good_id]


def load_math_shepherd(folder: Path, family: MathShepherd, rule: DecisionRule) -> LocalScorer:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    candidates = plain_ids(tokenizer, f"{family.good} {family.bad}")
    if len(candidates) != 2:
        raise ValueError(f"its tokenizer writes '{family.good} {family.bad}' in {len(candidates)} tokens, not in 2")
    good_id, bad_id = candidates
    reader = CandidateTokens(load_causal_scorer(folder), good_id, bad_id, ReadOut.TWO_TOKENS)
    return LocalScorer(MathShepherdWriter(tokenizer, family), reader, tokenizer, rule, family)


def load_rlhflow(folder: Path, family: RlhFlow, rule: DecisionRule) -> LocalScorer:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    good_id, bad_id = (plain_ids(tokenizer, answer)[-1] for answer in (family.good, family.bad))
    reader = CandidateTokens(load_causal_scorer(folder), good_id, bad_id, family.read_out)
    return LocalScorer(RlhFlowWriter(tokenizer, family), reader, tokenizer, rule, family)
