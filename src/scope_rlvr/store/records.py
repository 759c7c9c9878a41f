"""One JSON object a rollout: what a run writes down of it. The format is described in docs/formats.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, InstanceOf, ValidationError

from scope_rlvr.core.groups import Group, Member, SalvageRecord
from scope_rlvr.core.ports import TextCodec
from scope_rlvr.core.steps import Step
from scope_rlvr.core.types import Problem, Rollout, Verdict
from scope_rlvr.store.packing import JoinedText

SCHEMA_VERSION = 1


def group_records(
    step: int, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], codec: TextCodec
) -> Iterator[dict[str, Any]]:
    """The records of all rollouts of a step: those that train, in order, then those that were taken out."""
    for index, (group, rewards_G) in enumerate(zip(groups, rewards_PG, strict=True)):
        shared = {
            "schema": SCHEMA_VERSION,
            "step": step,
            "group": index,
            "group_class": group.group_class.value,
            **_problem_record(group.problem),
        }
        for member, reward in zip(group.members, rewards_G, strict=True):
            answered = {} if member.problem is None else _problem_record(member.problem)
            yield shared | answered | {"role": member.role.value, "reward": reward} | member_record(member, codec)
        for member in group.replaced:
            yield shared | {"role": "replaced", "reward": None} | member_record(member, codec)


def _problem_record(problem: Problem) -> dict[str, Any]:
    return {
        "problem": problem.id,
        "level": problem.level,
        "prompt": problem.prompt,
        "reference": problem.reference,
    }


def member_record(member: Member, codec: TextCodec) -> dict[str, Any]:
    scores = member.step_scores
    return {
        "verdict": _verdict_record(member.verdict),
        "is_truncated": member.rollout.is_truncated,
        "prompt_ids": list(member.rollout.prompt_ids),
        "segments": _segment_records(member.rollout, codec),
        "scoring": None if scores is None else _scored_steps(scores.steps, scores.scores_S, scores.first_wrong),
        "salvage": None if member.salvage is None else _salvage_record(member.salvage, codec),
    }


def _verdict_record(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {"outcome": verdict.outcome.value, "answer": verdict.answer, "reason": verdict.reason}


def _segment_records(rollout: Rollout, codec: TextCodec) -> list[dict[str, Any]]:
    """Segments with the text that each contributes: texts join to the text of the whole response."""
    pieces, records, start = codec.pieces(rollout.token_ids), [], 0
    for segment in rollout.segments:
        end = start + len(segment)
        text = JoinedText.of(pieces[start:end])
        records.append({"origin": segment.origin.value, "text": text, "token_ids": list(segment.token_ids)})
        start = end
    return records


def _scored_steps(steps: Sequence[Step], scores_S: Sequence[float], first_wrong: int | None) -> dict[str, Any]:
    return {
        "steps": [{"text": step.text, "start": step.start, "end": step.end} for step in steps],
        "step_scores": [round(score, 6) for score in scores_S],
        "first_wrong_step": first_wrong,
    }


def _salvage_record(record: SalvageRecord, codec: TextCodec) -> dict[str, Any]:
    return {
        "outcome": record.outcome.value,
        **_scored_steps(record.steps, record.step_scores_S, record.first_wrong_step),
        "cut_step": record.cut_step,
        "num_kept_tokens": record.num_kept_tokens,
        "corrections": [
            {"at_token": c.at_token, "text": c.text, "num_tokens": c.num_tokens, "score": c.score}
            for c in record.corrections
        ],
        "num_continuations": record.num_continuations,
        "num_continuation_tokens": record.num_continuation_tokens,
        "attempt": None if record.attempt is None else _segment_records(record.attempt, codec),
        "verdict": _verdict_record(record.verdict),
    }


# --- whether a record is one ------------------------------------------------------------------------------------------

_Text = InstanceOf[str]
"""Any text: a lone surrogate in it is a model's own business."""


class _Segment(BaseModel):
    origin: _Text
    text: _Text
    token_ids: InstanceOf[list]  # type: ignore[type-arg]


class _PackedSegment(BaseModel, extra="forbid"):
    origin: _Text
    num_tokens: int


class _VerdictRecord(BaseModel):
    outcome: _Text
    answer: _Text | None
    reason: _Text


class _StepRecord(BaseModel):
    text: _Text
    start: int
    end: int


class _PackedSteps(BaseModel):
    of: int
    spans: InstanceOf[list]  # type: ignore[type-arg]


class _Correction(BaseModel):
    at_token: int
    text: _Text
    num_tokens: int
    score: float | None


class _Salvage(BaseModel):
    outcome: _Text
    steps: list[_StepRecord] | _PackedSteps
    step_scores: list[float]
    first_wrong_step: int | None
    num_kept_tokens: int
    corrections: list[_Correction]
    num_continuations: int
    attempt: list[_Segment | _PackedSegment] | None
    verdict: _VerdictRecord | None


class _RolloutRecord(BaseModel):
    step: int
    group: int
    group_class: _Text
    problem: _Text
    level: int | None
    prompt: _Text
    reference: _Text
    role: _Text
    verdict: _VerdictRecord | None
    segments: list[_Segment | _PackedSegment]
    salvage: _Salvage | None


def record_fault(record: Mapping[str, Any]) -> str:
    """What keeps a record, whole or without its tokens, from being read; empty if nothing. Other schemas are not judged.

    >>> record_fault({"schema": 1, "step": 1, "group": "one"})
    'group: input should be a valid integer, and 9 more'
    """
    if record.get("schema") != SCHEMA_VERSION:
        return ""
    try:
        _RolloutRecord.model_validate(record, strict=True)
    except ValidationError as error:
        first, *more = error.errors(include_url=False)
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}" + (f", and {len(more)} more" if more else "")
    return ""
