"""Qwen2.5-Math-PRM: a marker token after every step, and a two-class head read at the markers.

Source: the model card of Qwen2.5-Math-PRM-7B, and Zhang et al. 2025, arXiv 2501.07301.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.core.types import Problem
from scope_rlvr.scorers.batching import Inputs
from scope_rlvr.scorers.checkpoint import load_backbone, load_head
from scope_rlvr.scorers.families import Qwen
from scope_rlvr.scorers.local import LocalScorer, hidden_at
from scope_rlvr.scorers.writing import Escape, ScorerInput, chat_text, ids_and_places

RIGHT = 1


class QwenWriter:
    """A conversation: the system prompt, the problem, and the steps, each with the marker right behind it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, family: Qwen) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self.marker_id = tokenizer.convert_tokens_to_ids(family.marker)
        if self.marker_id is None or self.marker_id == tokenizer.unk_token_id:
            raise ValueError(f"its tokenizer has no token {family.marker!r}")
        self._escape = Escape(tokenizer, [family.marker])

    def write(self, problem: Problem, steps: Sequence[str]) -> list[ScorerInput]:
        marked = [self._escape(step.strip()) + self.family.marker for step in steps]
        answer = "".join(marked)
        messages = [
            {"role": "system", "content": self.family.system},
            {"role": "user", "content": self._escape(problem.prompt.strip())},
            {"role": "assistant", "content": answer},
        ]
        text = chat_text(self.tokenizer, messages)
        end = text.rfind(answer)
        if end < 0:
            raise ValueError("its chat template changes what the assistant says")
        ends = []
        for part in marked:
            end += len(part)
            ends.append(end - 1)
        written = ids_and_places(self.tokenizer, text, ends, add_special_tokens=False)
        if any(written.token_ids[place] != self.marker_id for place in written.positions):
            raise ValueError(f"its tokenizer does not keep {self.family.marker!r} as one token")
        return [written]


class TwoClassHead:
    """The probability of the class "right" of a head on the backbone's hidden states."""

    def __init__(self, model: PreTrainedModel, head: nn.Module) -> None:
        self.model = model
        self.head = head

    def read(self, inputs: Inputs, rows: Sequence[ScorerInput]) -> list[Tensor]:
        states = hidden_at(self.model, inputs, rows)
        return [self.head(states_SH.float()).softmax(-1)[:, RIGHT] for states_SH in states]


def load_qwen(folder: Path, family: Qwen, rule: DecisionRule) -> LocalScorer:
    """A scorer from a checkpoint folder; the code that lies in the folder is not run."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    writer = QwenWriter(tokenizer, family)
    reader = TwoClassHead(load_backbone(folder), load_head(folder, "score.", num_outputs=2))
    return LocalScorer(writer, reader, tokenizer, rule, family)
