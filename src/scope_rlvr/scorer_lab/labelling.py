"""Labels for steps without anybody who labels: a step is right if the answer can still be reached after it.

Math-Shepherd (Wang et al. 2023, arXiv 2312.08935, section 3.3): a policy continues from the end of each step some times, a
verifier grades the continuations, and the share that is right is the step's soft label. The hard label says whether any
continuation was right. Such labels say "the answer is still within this policy's reach", which is not quite "this step is
right": a step that a weak policy cannot build on gets 0, and a wrong step that it often repairs gets 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scope_rlvr.core.ports import Policy, Sampling, TextCodec, Verifier
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.steps import Step
from scope_rlvr.core.types import Problem


@dataclass(frozen=True, slots=True)
class Attempt:
    """A response whose steps are to be labelled, in the token ids of the policy that continues it.

    ``is_whole`` says that the response came to its end: then its own answer labels the last step.
    """

    problem: Problem
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    steps: tuple[Step, ...]
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class MonteCarloEstimate:
    """How many continuations of a step were right, of those whose verdict is known.

    >>> MonteCarloEstimate(1, 4).share, MonteCarloEstimate(0, 0).share
    (0.25, None)
    """

    num_right: int
    num_known: int

    @property
    def share(self) -> float | None:
        return self.num_right / self.num_known if self.num_known else None


@dataclass(frozen=True)
class Labeller:
    """Continues, grades and counts. ``right_above`` is the share that a right step must exceed; 0 means any at all.

    A continuation has at most ``max_tokens`` tokens, and no more than ``context`` leaves room for.
    """

    policy: Policy
    codec: TextCodec
    verifier: Verifier
    sampling: Sampling
    num_samples: int
    max_tokens: int
    context: int | None = None
    right_above: float = 0.0

    def is_right(self, estimate: MonteCarloEstimate) -> bool | None:
        """The hard label; ``None`` where no verdict is known."""
        return None if estimate.share is None else estimate.share > self.right_above

    def label_steps(self, attempts: Sequence[Attempt], seed: int) -> list[list[MonteCarloEstimate]]:
        """An estimate for every step of every attempt."""
        probes = [(i, k) for i, attempt in enumerate(attempts) for k in range(len(attempt.steps))]
        found = iter(self._estimates(attempts, probes, seed))
        return [[next(found) for _ in attempt.steps] for attempt in attempts]

    def first_wrong_steps(self, attempts: Sequence[Attempt], seed: int) -> list[dict[int, MonteCarloEstimate]]:
        """By binary search the estimates of the few steps that decide where each attempt first goes wrong, by step.

        Takes for granted that what cannot be reached after a step cannot be reached after a later one (OmegaPRM, Luo et
        al. 2024, arXiv 2406.06592). :meth:`first_wrong` reads the answer off. A right response is not probed further.
        """
        probed: list[dict[int, MonteCarloEstimate]] = [{} for _ in attempts]
        ends = [(i, len(attempt.steps) - 1) for i, attempt in enumerate(attempts)]
        for (i, k), estimate in zip(ends, self._estimates(attempts, ends, seed), strict=True):
            probed[i][k] = estimate
        for turn in range(max((len(attempt.steps) for attempt in attempts), default=0)):
            probes = [(i, (low + high) // 2) for i, found in enumerate(probed) for low, high in self._open(found)]
            if not probes:
                break
            estimates = self._estimates(attempts, probes, derive_seed(seed, "turn", turn))
            for (i, k), estimate in zip(probes, estimates, strict=True):
                probed[i][k] = estimate
        return probed

    def first_wrong(self, probed: dict[int, MonteCarloEstimate]) -> int | None:
        """The first wrong step that a finished search has found, ``None`` for none."""
        return min((k for k, estimate in probed.items() if self.is_right(estimate) is False), default=None)

    def _open(self, probed: dict[int, MonteCarloEstimate]) -> list[tuple[int, int]]:
        """The steps among which the first wrong one still lies, if there is more than one; nothing after an unknown."""
        if any(estimate.share is None for estimate in probed.values()):
            return []
        high = self.first_wrong(probed)
        low = max((k + 1 for k, estimate in probed.items() if self.is_right(estimate)), default=0)
        return [(low, high)] if high is not None and low < high else []

    def _estimates(
        self, attempts: Sequence[Attempt], probes: Sequence[tuple[int, int]], seed: int
    ) -> list[MonteCarloEstimate]:
        """For each attempt and step, the share of right continuations after it."""
        is_end = [attempts[i].is_whole and k == len(attempts[i].steps) - 1 for i, k in probes]
        kept = [attempts[i].token_ids[: attempts[i].steps[k].end] for i, k in probes]
        # The end of a whole response needs no continuation.
        copies = [1 if end else self.num_samples for end in is_end]
        rows = [probe for probe, num in enumerate(copies) for _ in range(num)]
        prefixes = [(*attempts[probes[row][0]].prompt_ids, *kept[row]) for row in rows]
        budgets = [0 if is_end[row] else self._budget(len(prefix)) for row, prefix in zip(rows, prefixes, strict=True)]
        written = self.policy.extend(prefixes, self.sampling, max_tokens=budgets, seed=seed)
        texts = ["".join(self.codec.pieces((*kept[row], *w.token_ids))) for row, w in zip(rows, written, strict=True)]
        verdicts = self.verifier.verify(
            [(attempts[probes[row][0]].problem, text) for row, text in zip(rows, texts, strict=True)]
        )
        num_right, num_known = [0] * len(probes), [0] * len(probes)
        for row, verdict in zip(rows, verdicts, strict=True):
            num_right[row] += verdict.is_right
            num_known[row] += verdict.is_known
        return [MonteCarloEstimate(right, known) for right, known in zip(num_right, num_known, strict=True)]

    def _budget(self, num_prefix_tokens: int) -> int:
        return (
            self.max_tokens if self.context is None else max(0, min(self.max_tokens, self.context - num_prefix_tokens))
        )
