"""What became of each failure, and a fair choice of attempts to look at, from a stream of rollout records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

from scope_rlvr.core.groups import Role, SalvageOutcome
from scope_rlvr.core.types import Origin
from scope_rlvr.report.reading import ReportError
from scope_rlvr.store.records import SCHEMA_VERSION
from scope_rlvr.store.rollouts import Rollouts

_MAX_CHARS = 1000
_MAX_ROWS = 16


class TextPart(StrEnum):
    """Who wrote a piece of a salvage, and what became of it.

    The failure was cut at the step that is ``REJECTED`` (the scorer calls it the first wrong one) or ``CUT`` (no scorer
    chose it).
    """

    KEPT = "kept"
    GIVEN_UP = "given up"
    REJECTED = "rejected"
    CUT = "cut"
    DROPPED = "dropped"
    TEACHER = "teacher"
    CONTINUATION = "continuation"
    OMITTED = "not shown"


@dataclass(frozen=True, slots=True)
class ShownStep:
    """One step as it is shown: its part, its 1-based number in the response, its text, its score if it has one."""

    part: TextPart
    number: int | None
    text: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One attempt at a salvage, ready to be shown.

    ``kept`` is what the failure and the attempt share; ``failed`` is how the policy went on by itself, from the
    rejected step; ``attempted`` what was written instead.
    """

    step: int
    group: int
    problem: str
    level: int | None
    prompt: str
    reference: str
    outcome: str
    failed_answer: str | None
    failed_reason: str
    attempt_verdict: str | None
    attempt_answer: str | None
    kept: tuple[ShownStep, ...]
    failed: tuple[ShownStep, ...]
    attempted: tuple[ShownStep, ...]
    num_tokens: int
    num_kept_tokens: int
    num_teacher_tokens: int
    num_continuation_tokens: int

    @property
    def is_admitted(self) -> bool:
        return self.outcome == SalvageOutcome.ADMITTED


@dataclass(frozen=True, slots=True)
class FailureEntry:
    """Which rollout of the run failed, by its number, and the little that a choice among failures needs."""

    number: int
    step: int
    group: int
    outcome: str
    was_attempted: bool

    @property
    def is_admitted(self) -> bool:
        return self.outcome == SalvageOutcome.ADMITTED


@dataclass(frozen=True)
class FailureIndex:
    """One pass over a run's rollouts: counts of everything, and where the failures are."""

    num_rollouts: int
    entries: tuple[FailureEntry, ...]
    class_of_group: dict[tuple[int, int], str]
    num_foreign: int

    @property
    def outcomes(self) -> list[tuple[str, int]]:
        """How many failures ended in each outcome, in the order in which a failure meets them."""
        return count_outcomes(self.entries)


def count_outcomes(entries: Sequence[FailureEntry]) -> list[tuple[str, int]]:
    """How many failures ended in each outcome; outcomes of other versions come last."""
    counts = Counter(entry.outcome for entry in entries)
    known = [outcome.value for outcome in SalvageOutcome]
    return [(name, counts[name]) for name in [*known, *sorted(counts.keys() - set(known))] if counts[name]]


def index_failures(heads: Iterable[tuple[int, dict[str, Any]]]) -> FailureIndex:
    """Read numbered records once, keeping only their index in memory. Records of another schema are counted, not read."""
    num_rollouts = num_foreign = 0
    entries, class_of_group = [], {}
    for number, record in heads:
        num_rollouts += 1
        if record.get("schema") != SCHEMA_VERSION:
            num_foreign += 1
            continue
        step, group, story = record["step"], record["group"], record["salvage"]
        class_of_group[step, group] = record["group_class"]
        if story is None or record["role"] == Role.SALVAGED:
            continue
        entries.append(FailureEntry(number, step, group, story["outcome"], _was_attempted(story)))
    return FailureIndex(num_rollouts, tuple(entries), class_of_group, num_foreign)


def _was_attempted(story: dict[str, Any]) -> bool:
    """Whether the teacher was asked, or the policy without one, as in :class:`SalvageRecord`."""
    was_continued = story["num_continuations"] > 0 or story["verdict"] is not None
    return bool(story["corrections"]) or was_continued or story["outcome"] == SalvageOutcome.TEACHER_FAILED


def spread(entries: Sequence[FailureEntry], limit: int) -> list[FailureEntry]:
    """At most ``limit`` entries, evenly over the steps that they span, so that early and late ones are among them.

    Which one of a stretch of steps is taken does not depend on how it looks.
    """
    if limit <= 0 or len(entries) <= limit:
        return list(entries) if limit > 0 else []
    ordered = sorted(entries, key=lambda entry: (entry.step, entry.number))
    first, last = ordered[0].step, ordered[-1].step
    stretches: dict[int, list[FailureEntry]] = {}
    for entry in ordered:
        stretch = (entry.step - first) * limit // (last - first + 1)
        stretches.setdefault(stretch, []).append(entry)
    taken = [stretch[len(stretch) // 2] for stretch in stretches.values()]
    rest = [entry for entry in ordered if entry not in set(taken)]
    room = limit - len(taken)
    taken += [rest[i * len(rest) // room] for i in range(room)]
    return sorted(taken, key=lambda entry: (entry.step, entry.number))


def spread_over_outcomes(entries: Sequence[FailureEntry], limit: int) -> list[FailureEntry]:
    """At most ``limit`` entries, every outcome given the same room, each spread over the run."""
    by_outcome: dict[str, list[FailureEntry]] = {name: [] for name, _ in count_outcomes(entries)}
    for entry in entries:
        by_outcome[entry.outcome].append(entry)
    taken, room, waiting = [], limit, sorted(by_outcome.values(), key=len)
    for position, same_outcome in enumerate(waiting):
        share = spread(same_outcome, room // (len(waiting) - position))
        taken += share
        room -= len(share)
    order = list(by_outcome)
    return sorted(taken, key=lambda entry: (order.index(entry.outcome), entry.step, entry.number))


def cases_of(rollouts: Rollouts, entries: Sequence[FailureEntry]) -> list[Case]:
    """The stories of some failures; raises ``ReportError`` where the rollouts have changed since they were indexed."""
    try:
        return [case_of(rollouts.record(entry.number)) for entry in entries]
    except (LookupError, TypeError, ValueError, OSError) as error:
        raise ReportError(
            f"the rollouts of the run were rewritten while they were read ({error}); try again"
        ) from error


def case_of(record: dict[str, Any]) -> Case:
    """The story of a failure's record (role ``sampled`` or ``replaced``, with ``salvage``)."""
    story = record["salvage"]
    teacher_rows, num_teacher, num_continuation = _attempted_rows(story)
    kept, failed = _failed_rows(story)
    verdict = story["verdict"] or {}
    return Case(
        step=record["step"],
        group=record["group"],
        problem=record["problem"],
        level=record["level"],
        prompt=_clipped(record["prompt"].strip()),
        reference=_clipped(record["reference"]),
        outcome=story["outcome"],
        failed_answer=_answer(record["verdict"]),
        failed_reason=_clipped(record["verdict"]["reason"]),
        attempt_verdict=verdict.get("outcome"),
        attempt_answer=_answer(verdict),
        kept=_shortened(kept, keep_end=True),
        failed=_shortened(failed, keep_end=False),
        attempted=_shortened(teacher_rows, keep_end=True),
        num_tokens=sum(len(segment["token_ids"]) for segment in record["segments"]),
        num_kept_tokens=story["num_kept_tokens"],
        num_teacher_tokens=num_teacher,
        num_continuation_tokens=num_continuation,
    )


def _answer(verdict: dict[str, Any]) -> str | None:
    answer = verdict.get("answer")
    return None if answer is None else _clipped(answer)


def _failed_rows(story: dict[str, Any]) -> tuple[list[ShownStep], list[ShownStep]]:
    """The failure's own steps: those that were kept, and those from where the correction took over."""
    kept, failed = [], []
    num_kept = story["num_kept_tokens"]
    kept_text = _kept_text(story)
    char_ends = accumulate(len(step["text"]) for step in story["steps"])
    for index, (step, char_end) in enumerate(zip(story["steps"], char_ends, strict=True)):
        score = story["step_scores"][index] if index < len(story["step_scores"]) else None
        if step["end"] <= num_kept:
            kept.append(ShownStep(TextPart.KEPT, index + 1, _clipped(step["text"]), score))
            continue
        num_kept_chars = len(kept_text) - (char_end - len(step["text"])) if step["start"] < num_kept else 0
        if num_kept_chars > 0:
            kept.append(ShownStep(TextPart.KEPT, index + 1, _clipped(step["text"][:num_kept_chars])))
        part = _part_of_failure(index, story)
        failed.append(ShownStep(part, index + 1, _clipped(step["text"][max(0, num_kept_chars) :]), score))
    return kept, failed


def _part_of_failure(index: int, story: dict[str, Any]) -> TextPart:
    """The part of a step that was not kept."""
    first_wrong = story["first_wrong_step"]
    # Journals of older versions give the place of every cut as the first wrong step.
    cut = story.get("cut_step", first_wrong)
    if cut is None or index < cut:
        return TextPart.GIVEN_UP
    if index > cut:
        return TextPart.DROPPED
    return TextPart.REJECTED if index == first_wrong else TextPart.CUT


def _kept_text(story: dict[str, Any]) -> str:
    first = (story["attempt"] or [{}])[0]
    return first.get("text", "") if first.get("origin") == Origin.POLICY else ""


def _attempted_rows(story: dict[str, Any]) -> tuple[list[ShownStep], int, int]:
    """What follows the kept prefix in the attempt, with the numbers of tokens that the teacher and the policy wrote."""
    rows: list[ShownStep] = []
    tokens = {TextPart.TEACHER: 0, TextPart.CONTINUATION: 0}
    correction_at = {correction["at_token"]: correction for correction in story["corrections"]}
    at_token = 0
    for segment in story["attempt"] or ():
        start, at_token = at_token, at_token + len(segment["token_ids"])
        by_teacher = segment["origin"] == Origin.TEACHER
        if not by_teacher and not rows:
            continue
        part = TextPart.TEACHER if by_teacher else TextPart.CONTINUATION
        tokens[part] += len(segment["token_ids"])
        score = correction_at.get(start, {}).get("score") if by_teacher else None
        rows += [ShownStep(part, None, _clipped(text), score) for text in _paragraphs(segment["text"])]
    return rows, tokens[TextPart.TEACHER], tokens[TextPart.CONTINUATION]


def _paragraphs(text: str) -> list[str]:
    """Text at its blank lines; only for display, so that what is no token-exact step is called none."""
    return [paragraph for paragraph in text.split("\n\n") if paragraph.strip()] or [text]


def _clipped(text: str) -> str:
    text = text.strip("\n").rstrip()
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} … ({len(text) - _MAX_CHARS:,} more characters)"


def _shortened(rows: list[ShownStep], *, keep_end: bool) -> tuple[ShownStep, ...]:
    """At most ``_MAX_ROWS`` rows: the first ones, and the last ones where these matter most."""
    if len(rows) <= _MAX_ROWS:
        return tuple(rows)
    num_last = _MAX_ROWS - 4 if keep_end else 1
    num_first = _MAX_ROWS - 1 - num_last
    hidden = len(rows) - num_first - num_last
    gap = ShownStep(TextPart.OMITTED, None, f"{hidden} steps more; see: scope show RUN --jsonl")
    return (*rows[:num_first], gap, *rows[-num_last:])
