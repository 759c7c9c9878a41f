"""What every scorer is asked before any work is done with it.

A process reward model that is fed or read wrongly seldom fails: it returns numbers that mean nothing. So each one is shown
solutions whose steps cannot all deserve the same score, and where its authors have published scores, theirs are asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath

import transformers
from transformers import PreTrainedTokenizerBase

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import StepScorer
from scope_rlvr.core.types import Problem
from scope_rlvr.models.loading import can_read
from scope_rlvr.scorers.families import ReadOut, RlhFlow, ScorerFamily, Universal

TOLERANCE = 0.1
"""How far a score may be from a published one: bfloat16 and other kernels move it by some hundredths."""

_Solutions = list[tuple[Problem, list[str]]]


@dataclass(frozen=True)
class KnownAnswer:
    """Scores of a solution that the authors of a model have published."""

    models: tuple[str, ...]
    problem: Problem
    steps: list[str]
    scores: tuple[float, ...]
    source: str

    @classmethod
    def of(cls, name: str) -> list[KnownAnswer]:
        """Those of the model that goes by this name: a Hub name or a folder; only its last part counts.

        >>> [known.scores for known in KnownAnswer.of("Qwen/Qwen2.5-Math-PRM-7B")]
        [(1.0, 0.1904, 0.9766, 1.0)]
        """
        rows = json.loads((files("scope_rlvr.scorers") / "known_answers.json").read_text(encoding="utf-8"))
        return [
            cls(
                tuple(row["models"]),
                Problem("known answer", row["problem"], row["reference"] or ""),
                row["steps"],
                tuple(row["scores"]),
                row["source"],
            )
            for row in rows
            if PurePath(name).name.lower() in row["models"]
        ]


def self_test(
    scorer: StepScorer, family: ScorerFamily, name: str, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Score solutions that everybody can judge; :class:`UserError` says what is wrong and what to check.

    Without a ``tokenizer`` the scorer reads plain text. A vocabulary that cannot write any of the solutions is not judged.
    """
    solutions = next((s for s in _SOLUTIONS if tokenizer is None or _all_readable(tokenizer, s)), None)
    if solutions is not None:
        scores = scorer.score(solutions)
        for (_, steps), found in zip(solutions, scores, strict=True):
            _check(found, steps, family, name)
        every = [score for found in scores if found is not None for score in found]
        if max(every) - min(every) < _least_spread(family):
            raise UserError(
                f"{_failed(name)} right and wrong steps all score alike: {_shown(every)}. With such scores every rollout "
                f"would be cut at the same step, or none. {_remedy()}"
            )
    # Published with the reference answer shown: without it the model is asked another question.
    if not isinstance(family, Universal) or family.show_reference:
        for known in KnownAnswer.of(name):
            _check_known(scorer, known, family, name)


def _check(found: tuple[float, ...] | None, steps: Sequence[str], family: ScorerFamily, name: str) -> None:
    if found is None:
        raise UserError(f"{_failed(name)} it cannot score a solution of {len(steps)} short steps. {_remedy()}")
    if len(found) != len(steps):
        raise UserError(f"{_failed(name)} it gives {len(found)} scores to {len(steps)} steps. {_remedy()}")
    if not all(map(math.isfinite, found)):
        raise UserError(f"{_failed(name)} its scores are not numbers: {_shown(found)}. {_remedy()}")
    if min(found) < family.lowest or max(found) > family.highest:
        raise UserError(
            f"{_failed(name)} its scores {_shown(found)} do not lie between {family.lowest} and {family.highest}. {_remedy()}"
        )


def _check_known(scorer: StepScorer, known: KnownAnswer, family: ScorerFamily, name: str) -> None:
    (found,) = scorer.score([(known.problem, known.steps)])
    _check(found, known.steps, family, name)
    assert found is not None, "checked just before"
    if any(abs(score - published) > TOLERANCE for score, published in zip(found, known.scores, strict=True)):
        raise UserError(
            f"{_failed(name)} it scores {_shown(found)} where its authors published {_shown(known.scores)} "
            f"({known.source}). {_remedy()}"
        )


def _least_spread(family: ScorerFamily) -> float:
    # A scorer that says only yes or no may well say yes to a short wrong step.
    return 0.0 if isinstance(family, RlhFlow) and family.read_out is ReadOut.GREEDY else family.flat_below


def _all_readable(tokenizer: PreTrainedTokenizerBase, solutions: _Solutions) -> bool:
    return all(can_read(tokenizer, text) for problem, steps in solutions for text in (problem.prompt, *steps))


def _failed(name: str) -> str:
    return f"the step scorer {name} fails its self-test:"


def _remedy() -> str:
    return (
        "Check that scorer.family is this model's family, that tokenizer and weights belong together and are whole, and "
        f"try another version of transformers ({transformers.__version__} is installed)"
    )


def _shown(scores: Sequence[float]) -> str:
    return f"[{', '.join(f'{score:.4g}' for score in scores)}]"


def _two_solutions(prompt: str, right: list[str], wrong: list[str]) -> _Solutions:
    problem = Problem("self-test", prompt, "7")
    return [(problem, right), (problem, wrong)]


IN_WORDS = _two_solutions(
    "Anna has 3 boxes with 4 pencils in each of them. She gives away 5 pencils. How many pencils has she left?",
    [
        "Three boxes with 4 pencils each hold 3 * 4 = 12 pencils.",
        "She gives away 5 of them, so 12 - 5 = 7 are left.",
        "The answer is \\boxed{7}.",
    ],
    [
        "Three boxes with 4 pencils each hold 3 * 4 = 12 pencils.",
        "She gives away 5 of them, so 12 + 5 = 99 are left, because pencils are fish.",
        "The answer is \\boxed{99}.",
    ],
)
"""A problem in words with a right and a wrong solution."""

_SOLUTIONS = [
    IN_WORDS,
    _two_solutions(
        "reduce 0 3 4\n\n",
        ["3 + 4 = 7 : 0 7", "0 + 7 = 7 : 7", "answer 7"],
        ["3 + 4 = 0 : 0 0", "0 + 0 = 5 : 5", "answer 12"],
    ),
]
"""What is asked, in the order of preference; the second is of the embedded family."""
