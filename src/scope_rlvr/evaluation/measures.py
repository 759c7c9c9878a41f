"""What is measured on the unaided rollouts of a problem, by name, and how it becomes figures of many problems."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.groups import Group, GroupClass
from scope_rlvr.core.types import Outcome, Verdict
from scope_rlvr.formulas.diversity import GROUP_MEASURES
from scope_rlvr.formulas.estimators import bootstrap_intervals, maj_at_k, pass_at_k, powers_of_two
from scope_rlvr.grading.plain import value_key
from scope_rlvr.problems import families


@dataclass(frozen=True, slots=True)
class Sample:
    """The unaided rollouts of one problem, and the text of each."""

    group: Group
    texts: tuple[str, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(member.verdict for member in self.group.members)

    @property
    def answers(self) -> tuple[str | None, ...]:
        """The final answers, each in one writing: all right ones are one answer, and wrong ones go by their value."""
        return tuple(
            "right" if verdict.is_right else None if verdict.answer is None else f"not: {value_key(verdict.answer)}"
            for verdict in self.verdicts
        )

    @property
    def num_right(self) -> int:
        return sum(verdict.is_right for verdict in self.verdicts)

    @property
    def num_unknown(self) -> int:
        return sum(not verdict.is_known for verdict in self.verdicts)

    @property
    def num_truncated(self) -> int:
        return sum(member.rollout.is_truncated for member in self.group.members)


Values = dict[str, float | None]
"""Measures of one problem by name; ``None`` where one is not defined for it."""

SampleReader = Callable[[Sequence[Sample]], list[Values]]
"""Measures that need a model's forward pass, taken for many problems at once."""


def _average(sample: Sample, k: int) -> float:
    return sample.num_right / k


def _pass_at(sample: Sample, k: int) -> float:
    return pass_at_k(len(sample.texts), sample.num_right, k)


def _maj_at(sample: Sample, k: int) -> float | None:
    """All right answers are one answer, however they are written; unknown verdicts are left out."""
    known = [verdict for verdict in sample.verdicts if verdict.is_known]
    if len(known) < k:
        return None
    wrong = [None if verdict.answer is None else value_key(verdict.answer) for verdict in known if not verdict.is_right]
    votes = Counter(answer for answer in wrong if answer is not None)
    return maj_at_k(sample.num_right, list(votes.values()), wrong.count(None), k)


def _is_effective(sample: Sample) -> float | None:
    group_class = sample.group.group_class
    return None if group_class is GroupClass.UNUSABLE else float(group_class is GroupClass.MIXED)


def _mean_tokens(sample: Sample) -> float:
    return fmean(len(member.rollout) for member in sample.group.members)


def _right_prefix(sample: Sample) -> float | None:
    """Of the wrong samples, the share whose first part is right, where the problem's family can tell."""
    problem = sample.group.problem
    if problem.source not in families.names():
        return None
    family = families.get(problem.source)
    wrong = [text for text, v in zip(sample.texts, sample.verdicts, strict=True) if v.outcome is Outcome.WRONG]
    if not wrong:
        return None
    return fmean(family.num_right_steps(problem, text.split(family.separator)) > 0 for text in wrong)


AT_K: dict[str, Callable[[Sample, int], float | None]] = {"avg": _average, "pass": _pass_at, "maj": _maj_at}
"""Measures that are named with a number of samples, ``pass@8``."""

PLAIN: dict[str, Callable[[Sample], float | None]] = {
    "truncated": lambda sample: sample.num_truncated / len(sample.texts),
    "response_tokens": _mean_tokens,
    "effective_groups": _is_effective,
    "right_prefix": _right_prefix,
}
READ = ("embedding", "policy_entropy")
"""Measures that a :data:`SampleReader` takes."""

METRICS = (*AT_K, *PLAIN, *GROUP_MEASURES, *READ)
"""Every name that can be asked for."""

COMPARE_SAMPLES = frozenset({"effective_groups", "text_bleu", "equations", "steps", "embedding"})
"""Measures that say nothing about a single sample."""


def names_in_a_run(num_samples: int) -> tuple[str, ...]:
    """What a training run measures before and after: whatever costs little beside the sampling.

    >>> names_in_a_run(4)[:5]
    ('avg@4', 'pass@1', 'pass@2', 'pass@4', 'maj@4')
    """
    passes = (f"pass@{k}" for k in powers_of_two(num_samples))
    plain = [name for name in (*PLAIN, *sorted(GROUP_MEASURES)) if name not in {"truncated", "steps"}]
    return (f"avg@{num_samples}", *passes, f"maj@{num_samples}", *plain)


def choose(asked: Sequence[str], num_samples: int) -> tuple[str, ...]:
    """The measures that are asked for, each with its number of samples; without any, all that make sense.

    ``pass`` and ``maj`` mean every power of two up to the number of samples, and that number.
    Raises :class:`UserError` for a name that is none, or a measure that needs more samples.

    >>> choose(["pass", "maj@2", "text_bleu"], 4)
    ('pass@1', 'pass@2', 'pass@4', 'maj@2', 'text_bleu')
    """
    every = [name for name in METRICS if num_samples > 1 or name not in COMPARE_SAMPLES]
    found = [name for word in asked or every for name in _expand(word, num_samples)]
    return tuple(dict.fromkeys(found))


def _expand(word: str, num_samples: int) -> list[str]:
    name, at, number = word.partition("@")
    if name not in METRICS or (at and (name not in AT_K or not number.isdecimal())):
        close = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"did you mean {close[0]!r}? " if close and close[0] != name else ""
        raise UserError(
            f"there is no metric {word!r}; {hint}known: {', '.join(METRICS)}, and pass@k and maj@k for a number k"
        )
    if num_samples == 1 and name in COMPARE_SAMPLES:
        raise UserError(f"the metric {name!r} compares samples of a problem and there is one; raise --samples")
    if name not in AT_K:
        return [name]
    if not at:
        return [f"{name}@{k}" for k in ((num_samples,) if name == "avg" else powers_of_two(num_samples))]
    k = int(number)
    if name == "avg" and k != num_samples:
        raise UserError(
            f"{word} is the mean over all samples and there are {num_samples}; ask for avg, or change --samples"
        )
    if not 1 <= k <= num_samples:
        raise UserError(
            f"{word} needs at least {max(k, 1)} samples a problem, got {num_samples}; raise --samples or lower k"
            if k
            else f"{word}: k is at least 1"
        )
    return [f"{name}@{k}"]


def measure(samples: Sequence[Sample], names: Sequence[str], readers: Sequence[SampleReader] = ()) -> list[Values]:
    """The named measures of each problem, in the order of the names."""
    read_P: list[Values] = [{} for _ in samples]
    for reader in readers:
        for values, more in zip(read_P, reader(samples), strict=True):
            values |= more
    return [
        {name: read[name] if name in READ else _one(sample, name) for name in names}
        for sample, read in zip(samples, read_P, strict=True)
    ]


def _one(sample: Sample, name: str) -> float | None:
    if name in PLAIN:
        return PLAIN[name](sample)
    if name in GROUP_MEASURES:
        return GROUP_MEASURES[name](sample.texts, sample.answers, [v.is_right for v in sample.verdicts])
    kind, _, k = name.partition("@")
    return AT_K[kind](sample, int(k))


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure's mean over the problems for which it is defined, and its 95 % bootstrap interval over problems."""

    value: float
    interval: tuple[float, float]
    num_problems: int


def figures(values_P: Sequence[Mapping[str, float | None]]) -> dict[str, Figure]:
    """One figure for each measure that is defined for any problem.

    >>> figures([{"text_bleu": 0.25, "steps": None}, {"text_bleu": 0.25, "steps": None}])
    {'text_bleu': Figure(value=0.25, interval=(0.25, 0.25), num_problems=2)}
    """
    names = [name for name in (values_P[0] if values_P else {}) if any(values[name] is not None for values in values_P)]
    known = {name: [value for values in values_P if (value := values[name]) is not None] for name in names}
    if not names:
        return {}
    # None becomes NaN, which marks what is not defined.
    ends = bootstrap_intervals(np.array([[values[name] for name in names] for values in values_P], dtype=float))
    return {
        name: Figure(fmean(known[name]), (float(low), float(high)), len(known[name]))
        for name, low, high in zip(names, *ends, strict=True)
    }
