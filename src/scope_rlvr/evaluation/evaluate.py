"""Evaluation of a policy on held-out problems, always unaided."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.ports import Policy, Sampling, TextCodec, Verifier
from scope_rlvr.core.processes import ONE_PROCESS, Processes
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment, Verdict
from scope_rlvr.evaluation.measures import Figure, Sample, SampleReader, Values, figures, measure, names_in_a_run
from scope_rlvr.formulas.diversity import GROUP_MEASURES


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Held-out problems with a name and a role: ``trained`` or ``out of distribution``.

    ``samples_per_problem`` takes the place of the evaluator's own number. ``num_available`` is how many problems their
    source has, where it does not make as many as are wanted; ``left_out`` are the complaints about rows that were none.
    """

    name: str
    role: str
    level: int | None
    problems: tuple[Problem, ...]
    samples_per_problem: int | None = None
    num_available: int | None = None
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> str:
        """How many problems there are, and of how many, where those are more: ``200 of 500``."""
        count = len(self.problems)
        return f"{count}" if self.num_available in (None, count) else f"{count} of {self.num_available}"


@dataclass(frozen=True, slots=True)
class MeasuredProblem:
    """One problem's samples, counted and measured."""

    problem: Problem
    num_right: int
    num_unknown: int
    num_truncated: int
    values: Values


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What was measured on a set, problem by problem, and its figures."""

    evaluation_set: EvaluationSet
    samples_per_problem: int
    measured: tuple[MeasuredProblem, ...]
    figures: dict[str, Figure]

    @property
    def name(self) -> str:
        return self.evaluation_set.name

    @property
    def accuracy(self) -> float:
        """Right samples / all samples; an unknown verdict counts as not right."""
        return self.figures[f"avg@{self.samples_per_problem}"].value

    @property
    def pass_at(self) -> dict[int, float]:
        return {int(n.removeprefix("pass@")): f.value for n, f in self.figures.items() if n.startswith("pass@")}

    @property
    def diversity(self) -> dict[str, float]:
        """The measures of diversity that look at texts, where one is defined."""
        return {name: figure.value for name, figure in self.figures.items() if name in GROUP_MEASURES}

    @property
    def num_unknown(self) -> int:
        return sum(measured.num_unknown for measured in self.measured)

    @property
    def num_truncated(self) -> int:
        return sum(measured.num_truncated for measured in self.measured)

    def by_level(self) -> dict[int, list[MeasuredProblem]]:
        """The problems of each difficulty level, in ascending order; those without a level are left out."""
        levels = sorted({m.problem.level for m in self.measured if m.problem.level is not None})
        return {level: [m for m in self.measured if m.problem.level == level] for level in levels}

    def record(self) -> dict[str, Any]:
        """The result as ``summary.json`` holds it."""
        num_samples, found = self.samples_per_problem, self.figures
        more = (f"maj@{num_samples}", "response_tokens", "effective_groups", "right_prefix")
        return {
            "role": self.evaluation_set.role,
            "level": self.evaluation_set.level,
            "num_problems": len(self.measured),
            "samples_per_problem": num_samples,
            "accuracy": self.accuracy,
            "accuracy_interval": list(found[f"avg@{num_samples}"].interval),
            **{f"pass_at_{k}": value for k, value in self.pass_at.items()},
            **{name.replace("@", "_at_"): found[name].value for name in more if name in found},
            "diversity": self.diversity,
            "num_unknown": self.num_unknown,
            "num_truncated": self.num_truncated,
            "num_right": [measured.num_right for measured in self.measured],
        }


@dataclass(frozen=True)
class Evaluator:
    """Samples ``samples_per_problem`` rollouts for each problem, judges and measures them.

    ``batch_rows`` rollouts are sampled at a time. Each batch has a seed of its own, so another size gives other
    rollouts, and several ``processes`` take turns without giving others.
    """

    policy: Policy
    codec: TextCodec
    verifier: Verifier
    sampling: Sampling
    samples_per_problem: int
    max_response_tokens: int
    seed: int
    batch_rows: int = 256
    processes: Processes = ONE_PROCESS

    def evaluate(
        self,
        evaluation_set: EvaluationSet,
        names: Sequence[str] | None = None,
        readers: Sequence[SampleReader] = (),
        on_progress: Callable[[int], None] = lambda num_samples: None,
        on_sample: Callable[[Sample], None] = lambda sample: None,
    ) -> EvaluationResult:
        """Measure what ``names`` says (what a run measures, by default); ``on_progress`` is called after every batch,
        ``on_sample`` for every problem.

        Only numbers are kept of a problem once all its samples are there, so memory does not grow with their number.
        """
        if evaluation_set.samples_per_problem not in (None, self.samples_per_problem):
            own = replace(self, samples_per_problem=evaluation_set.samples_per_problem)
            return own.evaluate(evaluation_set, names, readers, on_progress, on_sample)
        names = names_in_a_run(self.samples_per_problem) if names is None else names
        done: list[MeasuredProblem] = []
        for samples in self._sampled(evaluation_set.problems, on_progress):
            for sample, values in zip(samples, measure(samples, names, readers), strict=True):
                on_sample(sample)
                counts = (sample.num_right, sample.num_unknown, sample.num_truncated)
                done.append(MeasuredProblem(sample.group.problem, *counts, values))
        found = figures([measured.values for measured in done])
        return EvaluationResult(evaluation_set, self.samples_per_problem, tuple(done), found)

    def _sampled(self, problems: Sequence[Problem], on_progress: Callable[[int], None]) -> Iterator[list[Sample]]:
        """The problems that each batch completes; nothing is held but that batch and the problem it stops in."""
        size, num_rows = self.samples_per_problem, len(problems) * self.samples_per_problem
        members: list[Member] = []
        texts: list[str] = []
        waiting = iter(problems)
        for new_members, new_texts in self._batches(problems, range(0, num_rows, self.batch_rows)):
            members, texts = members + new_members, texts + new_texts
            on_progress(len(new_members))
            ends = range(size, len(members) + 1, size)
            if len(members) < size:
                continue
            groups = [Group(next(waiting), tuple(members[end - size : end])) for end in ends]
            yield [Sample(group, tuple(texts[end - size : end])) for group, end in zip(groups, ends, strict=True)]
            kept = len(groups) * size
            members, texts = members[kept:], texts[kept:]

    def _batches(self, problems: Sequence[Problem], starts: Sequence[int]) -> Iterator[tuple[list[Member], list[str]]]:
        """The batches that begin at these rows, one for each process at a time."""
        size = self.samples_per_problem

        def sampled(part: Sequence[int]) -> list[tuple[list[Member], list[str]]]:
            ends = [min(start + self.batch_rows, len(problems) * size) for start in part]
            return [
                self._batch([problems[row // size] for row in range(start, end)], start)
                for start, end in zip(part, ends, strict=True)
            ]

        for first in range(0, len(starts), self.processes.count):
            yield from self.processes.spread("measuring", starts[first : first + self.processes.count], sampled)

    def _batch(self, rows: Sequence[Problem], start: int) -> tuple[list[Member], list[str]]:
        prompts = [self.codec.encode_prompt(problem.prompt) for problem in rows]
        continuations = self.policy.extend(
            prompts,
            self.sampling,
            max_tokens=[self.max_response_tokens] * len(rows),
            seed=derive_seed(self.seed, "evaluation", start),
        )
        texts = ["".join(self.codec.pieces(c.token_ids)) for c in continuations]
        ended = [(problem, text) for problem, text, c in zip(rows, texts, continuations, strict=True) if c.finished]
        judged = iter(self.verifier.verify(ended))
        truncated = Verdict(Outcome.WRONG, reason="truncated")
        members = []
        for prompt, c in zip(prompts, continuations, strict=True):
            segment = Segment(c.token_ids, Origin.POLICY)
            rollout = Rollout(tuple(prompt), (segment,), is_truncated=not c.finished)
            members.append(Member(rollout, next(judged) if c.finished else truncated))
        return members, texts
