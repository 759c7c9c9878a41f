"""The policy as vLLM samples it, by way of TRL: TRL starts vLLM or speaks to its server, and sends it the weights.

TRL's own way through a generation batch asks once for whole responses. Methods ask several times, and go on from inside
a response: that is all that stands here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from scope_rlvr.core.ports import Continuation, Sampling
from scope_rlvr.core.processes import ONE_PROCESS, Processes
from scope_rlvr.models.local import LocalModel


@dataclass
class _Row:
    """A continuation in work. A log-probability that vLLM could not tell is not a number."""

    prefix: Sequence[int]
    budget: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    is_finished: bool = False
    is_stuck: bool = False

    @property
    def start(self) -> list[int]:
        return [*self.prefix, *self.ids]

    @property
    def room(self) -> int:
        """How many tokens it may still come to."""
        return 0 if self.is_finished or self.is_stuck else self.budget - len(self.ids)

    def take(self, ids: Sequence[int], logprobs: Sequence[float], end_ids: Collection[int]) -> None:
        """Append tokens up to the first that ends a response, as far as there is room."""
        ids = ids[: self.room]
        end = next((i + 1 for i, token in enumerate(ids) if token in end_ids), len(ids))
        self.is_finished = end > 0 and ids[end - 1] in end_ids
        self.is_stuck = end == 0
        self.ids += ids[:end]
        self.logprobs += logprobs[:end]


@dataclass(frozen=True)
class VllmPolicy:
    """Samples from vLLM's copy of the policy; what needs whole distributions is read from the policy itself.

    ``engine`` is TRL's ``VLLMGeneration``. No prompt and response together are longer than ``num_positions``. Of several
    ``processes`` each asks for a part of the rows, and all are given all.
    """

    engine: Any
    policy: LocalModel
    num_positions: int
    processes: Processes = ONE_PROCESS

    def extend(
        self, prefixes: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: Sequence[int], seed: int
    ) -> list[Continuation]:
        """Continue each prefix by at most ``max_tokens[i]`` tokens.

        vLLM draws by seeds of its own: equal ``seed`` does not give equal tokens. Log-probabilities are those of the
        distribution that was drawn from, after any cut-off.
        """
        if sampling.stop_texts:
            raise ValueError("vLLM is not asked to stop at a text here; sample from the model itself for that")
        self.engine.temperature, self.engine.top_p = sampling.temperature, sampling.top_p
        self.engine.top_k, self.engine.min_p = sampling.top_k, sampling.min_p
        rows = [_Row(prefix, budget) for prefix, budget in zip(prefixes, max_tokens, strict=True)]
        while running := [row for row in rows if row.room > 0]:
            self._go_on(running)
        return [Continuation(tuple(row.ids), tuple(row.logprobs), finished=row.is_finished) for row in rows]

    def entropies(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
    ) -> list[tuple[float, ...]]:
        """Exact entropy in nats before each token of each response, by the policy itself."""
        return self.policy.entropies(prompts, responses, temperature)

    def _go_on(self, rows: Sequence[_Row]) -> None:
        """One call of vLLM. All of its rows have one budget, and there must be room for it behind the longest."""
        starts = [row.start for row in rows]
        room = self.num_positions - max(map(len, starts))
        self.engine.max_completion_length = max(1, min(room, max(row.room for row in rows)))
        for row, (ids, logprobs) in zip(rows, self._generated(starts), strict=True):
            sampled = [float("nan") if first is None else first for first, *_ in logprobs]
            row.take(ids, sampled, self.policy.codec.end_ids)

    def _generated(self, starts: list[list[int]]) -> list[tuple[list[int], list[list[float | None]]]]:
        """Ids and log-probabilities behind each start."""
        size = -(-len(starts) // self.processes.count)
        own = starts[self.processes.index * size :][:size]
        # TRL speaks to the other processes in this call, and takes for granted that all ask for as many rows.
        filled = [*own, *[starts[0]] * (size - len(own))]
        _, ids, logprobs, _ = self.engine.generate(prompts=filled, images=None, num_generations=1)
        written = [(list(row_ids), list(row_logprobs)) for row_ids, row_logprobs in zip(ids, logprobs, strict=True)]
        parts = self.processes.together("sampling by vLLM", lambda: written[: len(own)])
        return [row for part in parts for row in part]
