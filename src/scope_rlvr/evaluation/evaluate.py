"""Evaluation of a policy on held-out problems, always unaided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scope_rlvr.diversity import group_diversity, mean_diversity
from scope_rlvr.evaluation.estimators import bootstrap_interval, mean_pass_at_k
from scope_rlvr.ports import Policy, Sampling, TextCodec, Verifier
from scope_rlvr.seeds import derive_seed
from scope_rlvr.types import Outcome, Problem, Verdict


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Held-out problems with a name, and what they stand for: ``trained`` or ``out of distribution``."""

    name: str
    role: str
    level: int | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Accuracy over all samples, pass@k, diversity, with counts of what could not be judged."""

    name: str
    role: str
    level: int | None
    num_problems: int
    samples_per_problem: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    pass_at: dict[int, float]
    diversity: dict[str, float]
    num_unknown: int
    num_truncated: int

    def record(self) -> dict[str, Any]:
        """As it stands in ``summary.json``."""
        return {
            "role": self.role,
            "level": self.level,
            "num_problems": self.num_problems,
            "samples_per_problem": self.samples_per_problem,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            **{f"pass_at_{k}": value for k, value in self.pass_at.items()},
            "diversity": self.diversity,
            "num_unknown": self.num_unknown,
            "num_truncated": self.num_truncated,
        }


@dataclass(frozen=True)
class Evaluator:
    """Samples ``samples_per_problem`` rollouts for each problem and judges them."""

    policy: Policy
    codec: TextCodec
    verifier: Verifier
    sampling: Sampling
    samples_per_problem: int
    max_response_tokens: int
    seed: int
    batch_rows: int = 256

    def evaluate(self, evaluation_set: EvaluationSet) -> EvaluationResult:
        """An unknown verdict counts as not right and is reported beside the accuracy."""
        problems, num_samples = evaluation_set.problems, self.samples_per_problem
        rows = [problem for problem in problems for _ in range(num_samples)]
        texts, verdicts, num_truncated = [], [], 0
        for start in range(0, len(rows), self.batch_rows):
            batch_texts, batch_verdicts, truncated = self._batch(rows[start : start + self.batch_rows], start)
            texts += batch_texts
            verdicts += batch_verdicts
            num_truncated += truncated
        right = [verdict.is_right for verdict in verdicts]
        groups = [slice(i * num_samples, (i + 1) * num_samples) for i in range(len(problems))]
        num_right_P = [sum(right[group]) for group in groups]
        rates_P = [count / num_samples for count in num_right_P]
        answers = [verdict.answer for verdict in verdicts]
        return EvaluationResult(
            evaluation_set.name,
            evaluation_set.role,
            evaluation_set.level,
            len(problems),
            num_samples,
            sum(right) / len(rows),
            bootstrap_interval(rates_P),
            {k: mean_pass_at_k(num_right_P, num_samples, k) for k in (1, num_samples) if k <= num_samples},
            mean_diversity([group_diversity(texts[g], answers[g], right[g]) for g in groups]),
            sum(not verdict.is_known for verdict in verdicts),
            num_truncated,
        )

    def _batch(self, rows: Sequence[Problem], start: int) -> tuple[list[str], list[Verdict], int]:
        continuations = self.policy.extend(
            [self.codec.encode_prompt(problem.prompt) for problem in rows],
            self.sampling,
            max_tokens=[self.max_response_tokens] * len(rows),
            seed=derive_seed(self.seed, "evaluation", start),
        )
        texts = ["".join(self.codec.pieces(c.token_ids)) for c in continuations]
        ended = [(problem, text) for problem, text, c in zip(rows, texts, continuations, strict=True) if c.finished]
        judged = iter(self.verifier.verify(ended))
        truncated = Verdict(Outcome.WRONG, reason="truncated")
        verdicts = [next(judged) if c.finished else truncated for c in continuations]
        return texts, verdicts, len(rows) - len(ended)
