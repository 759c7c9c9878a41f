"""Rollouts in a method's memory: as JSON, so that a checkpoint holds them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scope_rlvr.core.types import Origin, Problem, Rollout, Segment


def rollout_to_json(rollout: Rollout) -> dict[str, Any]:
    """A rollout as plain lists."""
    return {
        "prompt_ids": list(rollout.prompt_ids),
        "is_truncated": rollout.is_truncated,
        "segments": [
            {
                "token_ids": list(segment.token_ids),
                "origin": segment.origin.value,
                "logprobs": None if segment.logprobs is None else list(segment.logprobs),
            }
            for segment in rollout.segments
        ],
    }


def rollout_from_json(value: dict[str, Any]) -> Rollout:
    """The rollout that was written down.

    >>> rollout = Rollout((1, 2), (Segment((5, 6), Origin.POLICY, (-0.5, -1.0)), Segment((7,), Origin.TEACHER)))
    >>> rollout_from_json(rollout_to_json(rollout)) == rollout
    True
    """
    segments = tuple(
        Segment(
            tuple(segment["token_ids"]),
            Origin(segment["origin"]),
            None if segment["logprobs"] is None else tuple(segment["logprobs"]),
        )
        for segment in value["segments"]
    )
    return Rollout(tuple(value["prompt_ids"]), segments, value["is_truncated"])


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """A problem as a plain table, its solution and its conversation included."""
    fields = ("id", "prompt", "reference", "source", "level", "solution")
    return {name: getattr(problem, name) for name in fields} | {"context": [list(turn) for turn in problem.context]}


def problem_from_json(value: dict[str, Any]) -> Problem:
    """The problem that was written down.

    >>> problem = Problem("p", "1 + 1?", "2", level=1, solution="1 + 1 = 2", context=(("user", ""),))
    >>> problem_from_json(problem_to_json(problem)) == problem
    True
    """
    context = tuple((role, text) for role, text in value.get("context", ()))
    return Problem(**{**value, "context": context})


def off_policy(rollout: Rollout, prompt_ids: tuple[int, ...]) -> Rollout:
    """A response that the policy wrote to another prompt, under this one.

    Its ids and the log-probabilities that they were sampled with stay. Given this prompt they are nothing that the policy
    would have drawn so, which is what a teacher's tokens are, too.
    """
    segments = tuple(replace(segment, origin=Origin.TEACHER) for segment in rollout.segments)
    return Rollout(prompt_ids, segments, rollout.is_truncated)


def off_policy_after(rollout: Rollout, prompt_ids: tuple[int, ...], num_own: int) -> Rollout:
    """A response under another prompt, of which the first ``num_own`` tokens were sampled under this one.

    >>> rollout = Rollout((9, 9), (Segment((5, 6, 7), Origin.POLICY, (-1.0, -2.0, -3.0)),))
    >>> [(s.token_ids, s.origin.value, s.logprobs) for s in off_policy_after(rollout, (1,), 1).segments]
    [((5,), 'policy', (-1.0,)), ((6, 7), 'teacher', (-2.0, -3.0))]
    """
    own, segments, passed = rollout.cut(num_own).segments, list[Segment](), 0
    for segment in off_policy(rollout, prompt_ids).segments:
        skipped = min(max(0, num_own - passed), len(segment))
        passed += len(segment)
        if skipped < len(segment):
            logprobs = None if segment.logprobs is None else segment.logprobs[skipped:]
            segments.append(replace(segment, token_ids=segment.token_ids[skipped:], logprobs=logprobs))
    return Rollout(prompt_ids, (*own, *segments), rollout.is_truncated)
