"""Failure-prefix conditioning: on problems that are solved nearly always, the policy starts in a rare failure of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.memory import rollout_from_json, rollout_to_json
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Status

_MEMORY = "failure_prefix"


class FailurePrefix(Method):
    """GRPO that recovers from its own mistakes: saturated problems are sampled from the start of a failure.

    The newest failure of each problem is remembered. As soon as the share of right rollouts of a problem is at least
    ``saturated``, its rollouts begin with the first ``share`` of that failure, which does not train. The share moves towards the one at
    which the ``target`` share of rollouts is right: up by a tenth after a group that did better, down by a tenth after one that did
    worse, and below a tenth the problem is sampled from its beginning again. ``Â = (r − mean)/std``, ratios in [0.8, 1.4], mean over
    tokens. Source: failure-prefix conditioning (2601.20829), and its released code, github.com/minwukim/training-on-saturated-problems
    at 121a277: ``train/GRPO_config.yaml``. There the prefixes are chosen beforehand, by rollouts from several shares of each failure.

    >>> FailurePrefix().next_share(0.5, rate=0.75), FailurePrefix().next_share(0.1, rate=0.0)
    (0.6, 0.0)
    """

    title: ClassVar[str] = "Failure-prefix conditioning"
    source: ClassVar[str] = "arXiv 2601.20829"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "problems that are always solved are sampled from the start of a rare failure"
    formula: ClassVar[str] = (
        "`Â = (r − mean)/std`; `S(Â)` after the failure's start, with ratios in `[0.8, 1.4]`; mean over tokens"
    )
    departures: ClassVar[str] = (
        "shares of a failure are found while training, step by step; one update of a batch, not two"
    )

    name: Literal["failure_prefix"] = "failure_prefix"
    saturated: float = Field(
        0.9, ge=0, le=1, description="share of right rollouts from which on a problem is saturated"
    )
    target: float = Field(0.5, gt=0, lt=1, description="share of right rollouts that a failure's start is to leave")
    first_share: float = Field(0.5, gt=0, le=0.9, description="share of a failure that is tried first")
    capacity: int = Field(4096, ge=1, description="problems whose failures are remembered, the newest ones")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=0.2, high=0.4)
    kl: float | None = Field(0.0, ge=0)

    def next_share(self, share: float, rate: float) -> float:
        """The share of a failure to try next, where this one left ``rate`` of the rollouts right."""
        moved = round(share + (0.1 if rate > self.target else -0.1 if rate < self.target else 0.0), 1)
        return min(0.9, moved) if moved >= 0.1 else 0.0

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        starts = [self._start(group, tools) for group in groups]
        rollouts = tools.extend([start for start in starts for _ in range(num_rollouts)], "sampling")
        attempts = [(groups[i // num_rollouts].problem, rollout) for i, rollout in enumerate(rollouts)]
        judged = tools.verified(attempts)
        return [
            replace(g, members=tuple(_from(start, m) for m in judged[i * num_rollouts : (i + 1) * num_rollouts]))
            for i, (g, start) in enumerate(zip(groups, starts, strict=True))
        ]

    def _start(self, group: Group, tools: Toolbox) -> Rollout:
        """The start of a remembered failure where the problem is saturated; else nothing."""
        kept = tools.memory.get(_MEMORY, {}).get(group.problem.id)
        if kept is None or not kept["share"] or kept["failure"] is None:
            return Rollout(group.prompt_ids, ())
        failure = rollout_from_json(kept["failure"])
        start = failure.cut(min(int(kept["share"] * len(failure)), len(failure) - 1))
        return replace(start, prompt_ids=group.prompt_ids)

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        super().learn(groups, tools)
        memory: dict[str, Any] = tools.memory.setdefault(_MEMORY, {})
        for group in groups:
            known = [m for m in group.members if m.verdict.is_known]
            if not known:
                continue
            kept = memory.pop(group.problem.id, {"failure": None, "share": 0.0})
            rate = sum(m.verdict.is_right for m in known) / len(known)
            if kept["share"]:
                kept["share"] = self.next_share(kept["share"], rate)
            else:
                failed = [m for m in known if m.verdict.outcome is Outcome.WRONG and len(m.rollout) > 1]
                kept["failure"] = rollout_to_json(failed[-1].rollout) if failed else kept["failure"]
                kept["share"] = self.first_share if rate >= self.saturated and kept["failure"] else 0.0
            memory[group.problem.id] = kept
        while len(memory) > self.capacity:
            del memory[next(iter(memory))]


def _from(start: Rollout, member: Member) -> Member:
    """A member that began with this start, which does not train."""
    return replace(member, role=Role.BRANCHED, num_shared_tokens=len(start)) if len(start) else member
