"""TRD: the teacher rewrites what the policy wrote, and the policy is distilled on the rewrite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.ports import TeacherRequest
from scope_rlvr.core.prompts import fill
from scope_rlvr.core.teacher_text import read_reply, request_after
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Rollout
from scope_rlvr.methods.guided.guided import NewcomersAlone
from scope_rlvr.methods.guided.traces import put_in_place
from scope_rlvr.methods.parts.base import Status

REWRITING = "Mend this attempt, and keep what is right of it:\n\n{attempt}\n\n{prompt}"


class Trd(NewcomersAlone):
    """Distillation on refined trajectories: each rollout is shown to the teacher, and its rewrite trains in the rollout's place.

    The teacher sees the attempt with the problem and writes a whole solution, near to the attempt where it can be. A rewrite that
    the verifier calls right takes the rollout's place and is imitated, ``−log π`` on every token; every other rollout trains
    nothing. A token that follows a mistake is never taught as if nothing had happened before it. Source: TRD (2606.08432).

    >>> Trd().rewritten
    'wrong'
    """

    title: ClassVar[str] = "TRD"
    source: ClassVar[str] = "arXiv 2606.08432"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "the teacher rewrites rollouts, and the policy imitates what is right of them"
    formula: ClassVar[str] = "`−log π` on right rewrites of the policy's rollouts"
    departures: ClassVar[str] = (
        "the sampled tokens, not a divergence of distributions; only verified rewrites train; right rollouts are rewritten by option"
    )

    name: Literal["trd"] = "trd"
    rewritten: Literal["all", "wrong"] = Field("wrong", description="rollouts that the teacher rewrites")
    template: str = Field(
        REWRITING, pattern=r"\{attempt\}", description="what the teacher is shown, of `{prompt}` and `{attempt}`"
    )

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        places = [(g, i) for g, group in enumerate(groups) for i, m in enumerate(group.members) if self._is_wanted(m)]
        requests = [self._request(groups[g], groups[g].members[i], tools) for g, i in places]
        newcomers: list[dict[int, Member]] = [{} for _ in groups]
        rollouts = []
        for (g, _), reply in zip(places, tools.ask(requests, "rewrite"), strict=True):
            writing = read_reply(reply, tools)
            fits = reply.error is None and writing.finished and len(writing.segment) <= tools.max_response_tokens
            rollouts.append(Rollout(groups[g].prompt_ids, (writing.segment,)) if fits else None)
        written = [(place, rollout) for place, rollout in zip(places, rollouts, strict=True) if rollout is not None]
        judged = tools.verified([(groups[g].problem, rollout) for (g, _), rollout in written])
        for ((g, i), _), member in zip(written, judged, strict=True):
            if member.verdict.is_right:
                newcomers[g][i] = replace(member, role=Role.GUIDED)
        return [put_in_place(group, new) for group, new in zip(groups, newcomers, strict=True)]

    def _is_wanted(self, member: Member) -> bool:
        return self.rewritten == "all" or member.verdict.outcome is Outcome.WRONG

    def _request(self, group: Group, member: Member, tools: Toolbox) -> TeacherRequest:
        shown = fill(self.template, prompt=group.problem.prompt, attempt=tools.text(member.rollout))
        problem = replace(group.problem, prompt=shown)
        return request_after(Rollout(tools.read_prompt(group.problem, shown), ()), problem, tools)
