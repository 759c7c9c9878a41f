"""Which verifier judges a run: one small class of settings for each kind, told apart by ``kind``.

``verifier_of`` makes the verifier. Kinds that run in processes of their own start them at once, so that they are warm
when the first responses come.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from scope_rlvr.core.ports import Verifier
from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.grading.function import FUNCTION_PATH, FunctionVerifier
from scope_rlvr.grading.math_answer import MathVerifier
from scope_rlvr.grading.reading import one_group
from scope_rlvr.grading.simple import ChoiceVerifier, ExactVerifier, NumericVerifier


def _checked_pattern(pattern: str | None) -> str | None:
    if pattern is not None:
        one_group(pattern)
    return pattern


_Pattern = Annotated[str | None, AfterValidator(_checked_pattern)]
_WHERE = "regular expression with one group, the answer; its last match counts; the last box by default"


class PatternKind(Settings):
    """The answer in the last line of a response, by a regular expression, compared as an integer or as text."""

    kind: Literal["pattern"] = "pattern"
    answer_pattern: _Pattern = Field(
        None,
        description="regular expression with one group, the answer, that matches the whole last line; the problem family's "
        "own by default",
    )


class _InProcesses(Settings):
    """What all kinds share that run in processes which can be killed."""

    workers: int = Field(2, ge=1, le=256, description="processes that grade at a time")
    deadline: float = Field(5.0, gt=0, le=3600, description="seconds for one answer; then its verdict is unknown")
    memory_mib: int = Field(1024, ge=64, description="most memory of a process; above it the verdict is unknown")


class MathKind(_InProcesses):
    """A mathematical answer in the last box, by math-verify."""

    kind: Literal["math"] = "math"


class ChoiceKind(Settings):
    """The letter of a multiple-choice question."""

    kind: Literal["choice"] = "choice"
    letters: str = Field("ABCDEFGHIJ", pattern=r"^[A-Za-z0-9]{2,36}$", description="the choices there may be")
    answer_pattern: _Pattern = Field(None, description=f"{_WHERE}, or what follows the last 'answer is'")


class ExactKind(Settings):
    """The reference, letter for letter."""

    kind: Literal["exact"] = "exact"
    ignore_case: bool = Field(False, description="capital and small letters are the same")
    answer_pattern: _Pattern = Field(None, description=_WHERE)


class NumericKind(Settings):
    """A number within a tolerance."""

    kind: Literal["numeric"] = "numeric"
    relative_tolerance: float = Field(1e-6, ge=0, lt=1, description="share of the larger of the two numbers")
    absolute_tolerance: float = Field(0.0, ge=0, description="difference that is accepted whatever the numbers")
    answer_pattern: _Pattern = Field(None, description=_WHERE)


class FunctionKind(_InProcesses):
    """A function of your own: ``is_right(problem, response)`` returns true, false, or ``None`` for unknown."""

    kind: Literal["function"] = "function"
    path: str = Field(..., pattern=FUNCTION_PATH, description="where it is, `package.module:name`")
    memory_mib: int = Field(4096, ge=64, description="most memory of a process; above it the verdict is unknown")

    @field_validator("path")
    @classmethod
    def _is_the_users_own(cls, path: str) -> str:
        if path.partition(":")[0].partition(".")[0] in sys.stdlib_module_names:
            raise ValueError(
                f"{path!r} is a function of Python's own, and judges nothing; name one of yours, as package.module:name"
            )
        return path


AnyVerifier = Annotated[
    PatternKind | MathKind | ChoiceKind | ExactKind | NumericKind | FunctionKind, BARE_NAME, BY_KIND
]
PLAIN_KINDS: dict[str, type[PatternKind | MathKind | ChoiceKind | ExactKind | NumericKind]] = {
    "pattern": PatternKind,
    "math": MathKind,
    "choice": ChoiceKind,
    "exact": ExactKind,
    "numeric": NumericKind,
}
"""The kinds that need no option."""
KINDS: dict[str, type[Settings]] = {**PLAIN_KINDS, "function": FunctionKind}


def verifier_of(settings: AnyVerifier, family_pattern: str) -> Verifier:
    """The verifier that some settings describe; ``family_pattern`` is the problem family's way to state an answer.

    Raises :class:`~scope_rlvr.grading.pool.WorkerStartError` where the user's function cannot be imported.
    """
    match settings:
        case PatternKind():
            return FinalAnswerVerifier(settings.answer_pattern or family_pattern)
        case MathKind():
            return MathVerifier(**_options(settings))
        case ChoiceKind():
            return ChoiceVerifier(**_options(settings))
        case ExactKind():
            return ExactVerifier(**_options(settings))
        case NumericKind():
            return NumericVerifier(**_options(settings))
        case FunctionKind():
            return FunctionVerifier(**_options(settings))


def pattern_of(settings: AnyVerifier, family_pattern: str) -> str | None:
    """The regular expression that answers are read with; ``None`` where they are read from the last box."""
    if isinstance(settings, PatternKind):
        return settings.answer_pattern or family_pattern
    return getattr(settings, "answer_pattern", None)


def reads_boxes(settings: AnyVerifier) -> bool:
    """Whether an answer counts only in a box.

    >>> reads_boxes(MathKind()), reads_boxes(ExactKind(answer_pattern="answer (.*)")), reads_boxes(ChoiceKind())
    (True, False, False)
    """
    return isinstance(settings, MathKind | ExactKind | NumericKind) and pattern_of(settings, "") is None


NO_BOX = r"nothing in the prompt asks for \boxed{}, and the verifier reads no answer anywhere else"
BOX_REMEDY = (
    r'set prompt.template = "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}.", or '
    "verifier.answer_pattern; leave it where the model writes boxes unasked"
)


def asks_for_no_box(settings: AnyVerifier, prompt: str) -> bool:
    r"""Whether an answer counts only in a box and the prompt does not speak of one.

    >>> asks_for_no_box(MathKind(), "1 + 1?"), asks_for_no_box(MathKind(), r"1 + 1? Write \boxed{}")
    (True, False)
    """
    return reads_boxes(settings) and "boxed" not in prompt


def _options(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(exclude={"kind"})
