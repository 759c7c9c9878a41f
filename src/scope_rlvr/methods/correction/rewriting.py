"""The policy as its own corrector: shown more than the problem, it goes on from a place in a response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.prompts import fill
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.methods.memory import off_policy_after


@dataclass(frozen=True)
class Rewriting:
    """What the policy is shown about a group's problem, and the start of a response from which it goes on."""

    group: Group
    shown: dict[str, str]
    start: Rollout


def rewrite(
    places: Sequence[Rewriting], template: str, tools: Toolbox, *names: int | str, stop_texts: tuple[str, ...] = ()
) -> list[Rollout]:
    """What the policy writes after each start, when it is shown ``template`` in the place of the problem.

    The results are responses to the problem's own prompt. The start keeps its tokens and their origin; what follows was sampled
    under another prompt and counts as a teacher's, with the log-probabilities that it was sampled with.
    """
    shown = [fill(template, prompt=p.group.problem.prompt, **p.shown) for p in places]
    starts = [
        replace(p.start, prompt_ids=tools.read_prompt(p.group.problem, text))
        for p, text in zip(places, shown, strict=True)
    ]
    written = tools.extend(starts, "continuation", *names, stop_texts=stop_texts)
    return [
        off_policy_after(rollout, p.group.prompt_ids, len(p.start)) for p, rollout in zip(places, written, strict=True)
    ]


def verified_rewrites(places: Sequence[Rewriting], rollouts: Sequence[Rollout], tools: Toolbox) -> list[Member]:
    """Verified members of what was rewritten; their starts do not train."""
    judged = tools.verified([(p.group.problem, rollout) for p, rollout in zip(places, rollouts, strict=True)])
    return [replace(m, role=Role.GUIDED, num_shared_tokens=len(p.start)) for p, m in zip(places, judged, strict=True)]
