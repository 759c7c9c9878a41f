"""A scalar head with a sigmoid: Skywork-o1-Open-PRM at the end of every step, Universal-PRM once for every prefix.

Sources: SkyworkAI's skywork-o1-prm-inference; Tan et al. 2025, arXiv 2502.11520, and the model card of Universal-PRM-7B.
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
from scope_rlvr.scorers.families import Skywork, Universal
from scope_rlvr.scorers.local import LocalScorer, hidden_at
from scope_rlvr.scorers.writing import Escape, ScorerInput, chat_text, plain_ids

REFERENCE_HEAD = "\n\n###\n\nThe reference answer is: "
NO_REFERENCE = "There is no reference answer for this question."


class SkyworkWriter:
    """The token that begins a text, the problem and a newline, then every step and its end, each tokenised by itself.

    Only the last token of a step is scored, so a newline inside a step makes no step of its own; the published helper
    splits a response at newlines.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, family: Skywork) -> None:
        self.tokenizer = tokenizer
        self.end_id = plain_ids(tokenizer, family.step_end)[-1]
        self._escape = Escape(tokenizer)

    def write(self, problem: Problem, steps: Sequence[str]) -> list[ScorerInput]:
        begin = self.tokenizer.bos_token_id
        ids = [] if begin is None else [begin]
        ids += plain_ids(self.tokenizer, f"{self._escape(problem.prompt.strip())}\n")
        places = []
        for step in steps:
            ids += [*plain_ids(self.tokenizer, self._escape(step.strip())), self.end_id]
            places.append(len(ids) - 1)
        return [ScorerInput(ids, places)]


class UniversalWriter:
    """One sequence for every prefix of a solution, closed by the end-of-sequence token, at which it is scored.

    It stops at the first prefix of more than ``limit`` tokens: longer ones cannot be read either.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, family: Universal, limit: int) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError("its tokenizer names no end-of-sequence token")
        self.tokenizer = tokenizer
        self.family = family
        self.limit = limit
        self._escape = Escape(tokenizer)

    def write(self, problem: Problem, steps: Sequence[str]) -> list[ScorerInput]:
        reference = self._escape(problem.reference) if self.family.show_reference else NO_REFERENCE
        messages = [
            {"role": "system", "content": self.family.system},
            {"role": "user", "content": self._escape(problem.prompt.strip()) + REFERENCE_HEAD + reference},
        ]
        question = plain_ids(self.tokenizer, chat_text(self.tokenizer, messages, asks=True))
        written, answer = [], ""
        for step in steps:
            answer += f"{self._escape(step.strip())}\n\n"
            written.append(self._prefix(question, answer))
            if len(written[-1].token_ids) > self.limit:
                break
        return written

    def _prefix(self, question: list[int], answer: str) -> ScorerInput:
        ids = [*question, *self.tokenizer(answer)["input_ids"], self.tokenizer.eos_token_id]
        return ScorerInput(ids, [len(ids) - 1])


class ValueHead:
    """The sigmoid of one number a position."""

    def __init__(self, model: PreTrainedModel, head: nn.Module) -> None:
        self.model = model
        self.head = head

    def read(self, inputs: Inputs, rows: Sequence[ScorerInput]) -> list[Tensor]:
        states = hidden_at(self.model, inputs, rows)
        return [self.head(states_SH.float()).squeeze(-1).sigmoid() for states_SH in states]


def load_skywork(folder: Path, family: Skywork, rule: DecisionRule) -> LocalScorer:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    reader = ValueHead(load_backbone(folder), load_head(folder, "v_head.summary.", num_outputs=1))
    return LocalScorer(SkyworkWriter(tokenizer, family), reader, tokenizer, rule, family)


def load_universal(folder: Path, family: Universal, rule: DecisionRule) -> LocalScorer:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    reader = ValueHead(load_backbone(folder), load_head(folder, "score.", num_outputs=1))
    limit = family.max_tokens or reader.model.config.max_position_embeddings
    return LocalScorer(UniversalWriter(tokenizer, family, limit), reader, tokenizer, rule, family)
