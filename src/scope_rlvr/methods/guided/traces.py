"""A teacher's words as tokens of the policy: what every method with a teacher shares."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from scope_rlvr.core.groups import Group, GroupClass, Member, Role
from scope_rlvr.core.prompts import fill
from scope_rlvr.core.teacher_text import read_reply, request_after
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Rollout


def teacher_traces(groups: Sequence[Group], tools: Toolbox, *names: int | str) -> list[Member | None]:
    """A whole solution of each group's problem by the teacher; ``None`` where it has none that the verifier calls right."""
    starts = [Rollout(group.prompt_ids, ()) for group in groups]
    requests = [request_after(start, g.problem, tools) for start, g in zip(starts, groups, strict=True)]
    written = []
    for start, reply in zip(starts, tools.ask(requests, "trace", *names), strict=True):
        writing = read_reply(reply, tools)
        fits = reply.error is None and writing.finished and len(writing.segment) <= tools.max_response_tokens
        written.append(start.then(writing.segment) if fits else None)
    attempts = [(g.problem, rollout) for g, rollout in zip(groups, written, strict=True) if rollout is not None]
    members = iter(tools.verified(attempts))
    judged = [None if rollout is None else next(members) for rollout in written]
    return [replace(m, role=Role.GUIDED) if m is not None and m.verdict.is_right else None for m in judged]


def distinct_traces(groups: Sequence[Group], num_traces: int, tools: Toolbox) -> list[tuple[Member, ...]]:
    """Up to ``num_traces`` verified solutions of each group's problem, no two of the same tokens.

    A greedy teacher says the same each time and gives one.
    """
    found: list[dict[tuple[int, ...], Member]] = [{} for _ in groups]
    for number in range(num_traces):
        for traces, trace in zip(found, teacher_traces(groups, tools, number), strict=True):
            if trace is not None:
                traces.setdefault(trace.rollout.token_ids, trace)
    return [tuple(traces.values()) for traces in found]


def rescue_unsolved(groups: Sequence[Group], rescue: Callable[[list[Group]], Sequence[Group]]) -> list[Group]:
    """The groups, those in which every known verdict is wrong as ``rescue`` gives them back, all in one call."""
    unsolved = [group for group in groups if group.group_class is GroupClass.ALL_WRONG]
    rescued = iter(rescue(unsolved) if unsolved else ())
    return [next(rescued) if group.group_class is GroupClass.ALL_WRONG else group for group in groups]


def put_in_place(group: Group, newcomers: Mapping[int, Member]) -> Group:
    """The group with ``newcomers`` in the places of members, who are kept in ``replaced``."""
    return replace(
        group,
        members=tuple(newcomers.get(i, member) for i, member in enumerate(group.members)),
        replaced=(*group.replaced, *(group.members[i] for i in sorted(newcomers))),
    )


def replace_failures(group: Group, newcomers: Sequence[Member], rng: random.Random) -> Group:
    """The group with ``newcomers`` in the places of wrong members drawn at random, as many as there are."""
    wrong = [i for i, member in enumerate(group.members) if member.verdict.outcome is Outcome.WRONG]
    places = rng.sample(wrong, min(len(wrong), len(newcomers)))
    return put_in_place(group, dict(zip(places, newcomers, strict=False)))


def first_part(trace: Rollout, share: float) -> Rollout:
    """A share of a trace's tokens, rounded down, but at least one, and never the last."""
    return trace.cut(min(max(1, int(share * len(trace))), len(trace) - 1))


# --- hints in the prompt ------------------------------------------------------------------------------------------

PROMPT_THEN_HINT = "{prompt}{hint}"
"""The hint right behind the prompt: as ids, not as text."""


def hinted_prompt(group: Group, hint: Rollout, template: str, tools: Toolbox) -> Rollout:
    """An empty response to a problem's prompt with a hint in it.

    ``PROMPT_THEN_HINT`` keeps the ids of both. Any other template is filled in as text and encoded like a prompt.
    """
    if template == PROMPT_THEN_HINT:
        return Rollout((*group.prompt_ids, *hint.token_ids), ())
    text = fill(template, prompt=group.problem.prompt, hint=tools.text(hint))
    return Rollout(tools.read_prompt(group.problem, text), ())


def sample_with_hints(
    groups: Sequence[Group], shares: Sequence[float], begin: Callable[[Group, Rollout], Rollout], tools: Toolbox
) -> list[tuple[Member, ...] | None]:
    """As many rollouts as each group has, from what ``begin`` makes of the group and a hint: the start of a verified
    teacher trace.

    ``shares`` of the trace are tried in order until one makes a rollout right; ``None`` where none does, or where there
    is no trace.
    """
    traces = teacher_traces(groups, tools)
    found: dict[int, tuple[Member, ...]] = {}
    for share in shares:
        trying = [i for i, t in enumerate(traces) if t is not None and len(t.rollout) > 1 and i not in found]
        starts = {i: begin(groups[i], first_part(t.rollout, share)) for i in trying if (t := traces[i]) is not None}
        places = [i for i in trying for _ in groups[i].members]
        rollouts = tools.extend([starts[i] for i in places], "continuation", "hint", str(share))
        judged = tools.verified([(groups[i].problem, rollout) for i, rollout in zip(places, rollouts, strict=True)])
        for i in trying:
            members = tuple(replace(m, role=Role.GUIDED) for j, m in zip(places, judged, strict=True) if j == i)
            if any(member.verdict.is_right for member in members):
                found[i] = members
    return [found.get(i) for i in range(len(groups))]
