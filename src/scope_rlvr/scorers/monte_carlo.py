"""The policy as its own step scorer: a step is wrong if, after it, none of its continuations succeeds any more.

Sources: Wang et al. 2024, arXiv 2312.08935 (hard estimate); Luo et al. 2024, arXiv 2406.06592 (binary search).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scope_rlvr.core.encodable import is_encodable
from scope_rlvr.core.ports import DecisionRule, Policy, Sampling, TextCodec, Verifier
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Problem


@dataclass(frozen=True)
class ContinuationSetup:
    """What continues a solution and judges the result; ``separator`` is the text between steps."""

    policy: Policy
    codec: TextCodec
    verifier: Verifier
    sampling: Sampling
    max_response_tokens: int
    separator: str = "\n\n"


@dataclass(slots=True)
class _Search:
    """From ``reached`` steps on the answer is still reached, from ``lost`` steps on it is not."""

    problem: Problem
    steps: Sequence[str]
    reached: int
    lost: int
    is_solvable: bool = True

    @property
    def is_open(self) -> bool:
        return self.lost - self.reached > 1

    @property
    def middle(self) -> int:
        return (self.reached + self.lost) // 2


class MonteCarloScorer:
    """Finds the first wrong step with ``num_continuations`` for each of about ``log2(S)`` prefixes.

    The search takes for granted that what cannot be reached from a prefix cannot be reached from a longer one. A solution
    that the verifier calls right is right in every step; one that states no answer may be right in every step, too. An
    answer that cannot be judged, text that cannot be written, and a problem that no continuation of any prefix solves,
    not even of the bare prompt, give no scores: there the policy cannot tell. Steps before the one found score 1, the others 0.
    """

    def __init__(self, setup: ContinuationSetup, num_continuations: int, rule: DecisionRule, seed: int) -> None:
        self.setup = setup
        self.num_continuations = num_continuations
        self.rule = rule
        self.seed = seed

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        verdicts = self.setup.verifier.verify(
            [(problem, self._text(steps, is_whole=True)) for problem, steps in solutions]
        )
        searches: dict[int, _Search] = {}
        scores: list[tuple[float, ...] | None] = [None] * len(solutions)
        for i, ((problem, steps), verdict) in enumerate(zip(solutions, verdicts, strict=True)):
            if verdict.is_right and steps:
                scores[i] = (1.0,) * len(steps)
            elif steps and is_encodable(problem.prompt, *steps) and (verdict.is_known or verdict.answer is None):
                # What states no answer yet may still reach one after its last step.
                searches[i] = _Search(problem, steps, 0, len(steps) + (verdict.answer is None))
        number = 0
        while tried := [search for search in searches.values() if search.is_open]:
            succeeds = self._succeeds([(search, search.middle) for search in tried], number)
            for search, is_reached in zip(tried, succeeds, strict=True):
                search.reached, search.lost = (
                    (search.middle, search.lost) if is_reached else (search.reached, search.middle)
                )
            number += 1
        hopeless = [search for search in searches.values() if search.reached == 0]
        for search, can in zip(hopeless, self._succeeds([(s, 0) for s in hopeless], "prompt"), strict=True):
            search.is_solvable = can
        for i, search in searches.items():
            if search.is_solvable:
                scores[i] = (1.0,) * search.reached + (0.0,) * (len(search.steps) - search.reached)
        return scores

    def _succeeds(self, prefixes: Sequence[tuple[_Search, int]], *names: int | str) -> list[bool]:
        """Whether any continuation of each prefix, of so many steps, is right."""
        if not prefixes:
            return []
        setup, codec = self.setup, self.setup.codec
        texts = [self._text(search.steps[:num_steps], is_whole=False) for search, num_steps in prefixes]
        encoded = [codec.encode(text) for text in texts]
        # A prefix that leaves no room for an end cannot be continued, and so does not succeed.
        fits = [i for i, ids in enumerate(encoded) if len(ids) < setup.max_response_tokens]
        rows = [i for i in fits for _ in range(self.num_continuations)]
        written = setup.policy.extend(
            [(*codec.encode_prompt(prefixes[i][0].problem.prompt), *encoded[i]) for i in rows],
            setup.sampling,
            max_tokens=[setup.max_response_tokens - len(encoded[i]) for i in rows],
            seed=derive_seed(self.seed, "monte carlo", *names, *texts),
        )
        attempts = [
            (prefixes[i][0].problem, texts[i] + "".join(codec.pieces(continuation.token_ids)))
            for i, continuation in zip(rows, written, strict=True)
        ]
        right = {i for i, verdict in zip(rows, setup.verifier.verify(attempts), strict=True) if verdict.is_right}
        return [i in right for i in range(len(prefixes))]

    def _text(self, steps: Sequence[str], *, is_whole: bool) -> str:
        """Steps joined as in a response: those without a separator get one, except the last of a whole solution."""
        separator = self.setup.separator
        closed = [step if step.endswith(separator) else f"{step}{separator}" for step in steps]
        return "".join([*closed[:-1], *steps[-1:]] if is_whole else closed)
