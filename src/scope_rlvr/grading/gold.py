"""References graded against themselves: what no response could ever be right about is found before anybody samples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from scope_rlvr.core.findings import Finding, error, ok, warning
from scope_rlvr.core.ports import Verifier
from scope_rlvr.core.types import Outcome, Problem, Verdict
from scope_rlvr.grading.normal import normal

_Item = TypeVar("_Item")


SAMPLED_GOLDS = 2000
"""References of each set that are graded against themselves."""

SHOWN_GOLDS = 10
"""Bad references that a finding names."""

_UNREADABLE = "gold_unparsable"

_MANY_BAD_GOLDS = 0.1
"""Above this share the verifier is the wrong one for the data."""


def reference_findings(
    name: str, problems: Sequence[Problem], verifier: Verifier, pattern: str | None, *, in_boxes: bool
) -> Iterator[Finding]:
    """What a sample of the references of some problems, called ``name``, comes to when they are graded themselves.

    ``pattern`` is what answers are read with, ``None`` for the last box; ``in_boxes`` says that nothing else is read.
    """
    tried = spread(problems, SAMPLED_GOLDS)
    worded = [problem for problem in tried if holds_words(problem.reference)]
    if in_boxes and len(worded) > _MANY_BAD_GOLDS * len(tried):
        yield warning(
            "answers",
            f"{name}: {len(worded)} of {len(tried)} references hold words beside the answer, such as "
            f"{worded[0].reference[:60]!r} of {worded[0].id}; a response is right only where its box holds them, too",
            "name the column of the bare answer in problems.columns, or problems.answer_form",
        )
    bad = unverifiable(verifier, tried, pattern)
    if bad is None:
        yield warning(
            "answers",
            f"{name}: no reference can be stated so that this verifier reads it; tried in a box, and as its pattern wants",
            "look at verifier.answer_pattern: is it meant for these answers?",
        )
        return
    if not bad:
        said = "references are right as their own answers, and another answer is wrong"
        yield ok("answers", f"{name}: {len(tried)} of {len(problems)} {said}")
        return
    said = f"{name}: {len(bad)} of {len(tried)} references cannot be graded; {_shown(bad)}"
    if len(bad) > _MANY_BAD_GOLDS * len(tried):
        yield error(
            "answers", said, "choose a verifier that reads these answers, or mend problems.columns / answer_form"
        )
    else:
        yield warning("answers", said, "remove or mend these rows: no response to them can be called right")


def _shown(bad: Mapping[str, str]) -> str:
    """The first few bad references with their reasons, and how many cannot be read at all."""
    shown = [f"{name}: {reason}" for name, reason in islice(bad.items(), SHOWN_GOLDS)]
    if len(bad) > len(shown):
        shown.append(f"and {len(bad) - len(shown)} more")
    num_unreadable = sum(_UNREADABLE in reason for reason in bad.values())
    if num_unreadable:
        shown.append(f"{num_unreadable} cannot be read, so that any answer but the same text is unknown")
    return "; ".join(shown)


def spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most ``count`` items, evenly spread, the first one among them.

    >>> spread(range(10), 4)
    [0, 2, 5, 7]
    """
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def responses_stating(answer: str, pattern: str | None) -> list[str]:
    r"""Responses that say nothing but their final answer: in a box, and as a pattern of plain text with one group wants it.

    >>> responses_stating("7", r"answer (\d+)")
    ['\\boxed{7}', 'answer 7']
    """
    boxed = rf"\boxed{{{answer}}}"
    if pattern is None:
        return [boxed]
    before, _, rest = pattern.partition("(")
    return [boxed, before + answer + rest.rpartition(")")[2]]


FOREIGN = "987654321"
"""An answer that belongs to no problem: where it is not called wrong, the reference cannot be compared with anything."""


def unverifiable(verifier: Verifier, problems: Sequence[Problem], pattern: str | None) -> dict[str, str] | None:
    """Ids of the problems whose reference tells nothing right from wrong, each with the verifier's reason.

    The reference itself must be right as an answer, and a foreign one wrong: equal text alone would make a reference right
    that no verifier can read. ``None`` where a pattern reads an answer in no response that is known to state one.
    """
    for form in range(len(responses_stating("", pattern))):
        own = verifier.verify([(p, responses_stating(p.reference, pattern)[form]) for p in problems])
        # How a pattern wants an answer stated is a guess; a box is a box.
        if pattern is not None and all(verdict.answer is None for verdict in own):
            continue
        foreign = verifier.verify([(p, responses_stating(FOREIGN, pattern)[form]) for p in problems])
        reasons = {p.id: _reason(p, *verdicts) for p, *verdicts in zip(problems, own, foreign, strict=True)}
        return {name: reason for name, reason in reasons.items() if reason}
    return None


_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")


def holds_words(reference: str) -> bool:
    r"""Whether a reference holds plain words beside a formula or a number: a sentence, which nobody puts into a box.

    >>> [holds_words(text) for text in ("The answer is 5", "answer: 5", "5", r"\frac{\pi}{2}\text{ units}", "18 eggs", "Paris")]
    [True, True, False, False, False, False]
    """
    found = normal(reference)
    return found.words is None and bool(_WORD.search(re.sub(r"\\(?:text|begin|end)\{[^{}]*\}", "", found.latex)))


def _reason(problem: Problem, own: Verdict, foreign: Verdict) -> str:
    """What is wrong with a reference, empty for nothing."""
    shown = repr(problem.reference[:60])
    if own.outcome is not Outcome.RIGHT:
        return f"{shown} as its own answer is {own.outcome.value} ({own.reason})"
    # A reference may happen to be that very number.
    if foreign.outcome is Outcome.WRONG or problem.reference.strip() == FOREIGN:
        return ""
    return f"{shown} against {FOREIGN} is {foreign.outcome.value} ({foreign.reason})"
