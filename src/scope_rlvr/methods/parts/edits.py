"""Group edits: what a group is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, GroupClass, Member, Role
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Verdict
from scope_rlvr.methods.memory import off_policy, rollout_from_json, rollout_to_json
from scope_rlvr.methods.parts.base import GroupEdit, Need, Sampler, Status


class RedrawFlatGroups(GroupEdit):
    """Dynamic sampling: a group whose known verdicts are all right or all wrong is exchanged for one of a fresh problem.

    At most ``max_rounds`` times in a step. What is still flat then stays in its place and counts nowhere, unless
    ``train_flat_groups``. Source: Yu et al. 2025 (DAPO), section 3.2, whose sampling has no bound.

    >>> from scope_rlvr.core.types import *
    >>> from scope_rlvr.core.groups import *
    >>> def member(outcome):
    ...     return Member(Rollout((1,), (Segment((7,), Origin.POLICY),)), Verdict(outcome))
    >>> flat = Group(Problem("p", "?", "1"), (member(Outcome.RIGHT), member(Outcome.RIGHT)))
    >>> RedrawFlatGroups().counts(flat)
    False
    """

    title: ClassVar[str] = "Dynamic sampling"
    source: ClassVar[str] = "arXiv 2503.14476"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "flat groups drawn anew"
    formula: ClassVar[str] = "groups with `0 < right < known` alone"
    departures: ClassVar[str] = "redraws are bounded"

    kind: Literal["redraw_flat_groups"] = "redraw_flat_groups"
    max_rounds: int = Field(3, ge=0, description="redraws of flat groups in one step")
    train_flat_groups: bool = Field(False, description="let what is still flat count in baselines and in the loss")

    @property
    def draws_problems(self) -> bool:
        return True

    def resample(self, groups: Sequence[Group], sample: Sampler, tools: Toolbox) -> list[Group]:
        sampled = list(groups)
        for number in range(self.max_rounds):
            flat = [i for i, group in enumerate(sampled) if _is_flat(group)]
            if not flat:
                break
            fresh = sample(tools.fresh_problems(len(flat), number), "redraw", number)
            for i, group in zip(flat, fresh, strict=True):
                sampled[i] = sampled[i] if _is_flat(group) else group
        return sampled

    def counts(self, group: Group) -> bool:
        return self.train_flat_groups or not _is_flat(group)


def _is_flat(group: Group) -> bool:
    """Whether the known verdicts do not tell members apart, whoever wrote them. Where nothing was sampled, as in imitation,
    there is nothing to tell apart."""
    told = {member.verdict.is_right for member in group.members if member.verdict.is_known}
    return bool(group.sampled) and len(told) < 2


class ConsistencyFilter(GroupEdit):
    """Only rollouts whose steps and outcome agree train.

    Of the n scored rollouts of a group, ``m = ⌈kept_share · n⌉`` train: the right ones with the highest and the wrong ones
    with the lowest mean step score, as many of either as makes the two classes most nearly equal. The others stay in the
    group's record. A rollout that could not be scored is not filtered. Source: Ye et al. 2025 (PROF),
    and its released code (amazon-science/PROF-GRPO), which drops responses of fewer than 2 or more than 30 steps first.

    >>> [ConsistencyFilter.num_right_kept(num_right, 8 - num_right, 4) for num_right in range(9)]
    [0, 1, 2, 2, 2, 2, 2, 3, 4]
    """

    title: ClassVar[str] = "PROF filter"
    source: ClassVar[str] = "arXiv 2509.03403"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "only rollouts whose steps and outcome agree"
    formula: ClassVar[str] = "right rollouts of highest, wrong ones of lowest mean step score"
    departures: ClassVar[str] = "no deduction from responses of fewer than 2 or more than 30 steps"

    kind: Literal["consistency_filter"] = "consistency_filter"
    kept_share: float = Field(0.5, gt=0, le=1, description="share of the scored rollouts that train")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.STEP_SCORER})

    def edit(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        scored = tools.score_members(groups, lambda member: member.verdict.is_known)
        return [self._filtered(group) for group in scored]

    @staticmethod
    def num_right_kept(num_right: int, num_wrong: int, num_kept: int) -> int:
        """How many right rollouts are among those kept: half of them, rounded up, or as near to it as there are."""
        return min(num_right, max(math.ceil(num_kept / 2), num_kept - num_wrong))

    def _filtered(self, group: Group) -> Group:
        scored = [member for member in group.members if member.step_scores and member.step_scores.scores_S]
        right = sorted((m for m in scored if m.verdict.is_right), key=_mean_score, reverse=True)
        wrong = sorted((m for m in scored if not m.verdict.is_right), key=_mean_score)
        num_kept = math.ceil(self.kept_share * len(scored))
        num_right = self.num_right_kept(len(right), len(wrong), num_kept)
        dropped = {id(member) for member in (*right[num_right:], *wrong[num_kept - num_right :])}
        return replace(
            group,
            members=tuple(member for member in group.members if id(member) not in dropped),
            replaced=(*group.replaced, *(member for member in group.members if id(member) in dropped)),
        )


def _mean_score(member: Member) -> float:
    return fmean(member.step_scores.scores_S) if member.step_scores else math.nan


class Replay(GroupEdit):
    """Where all rollouts fail, a right one of the same problem comes back from memory.

    The newest right rollout of each problem is kept for ``max_age`` steps, ``capacity`` problems at most. In a group without a
    right rollout it joins in a reserved row, with the reward that the verifier gave it. Its tokens count as a teacher's, with
    the log-probabilities that they were sampled with: a method with a ``teacher_term`` trains them by it, any other method as
    if the policy had just sampled them. Source: RePO, replay by problem.

    >>> Replay(max_age=2).num_reserved_rows
    1
    """

    title: ClassVar[str] = "RePO replay"
    source: ClassVar[str] = "arXiv 2506.09340"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "where all fail, an earlier success on the same problem joins the group"
    formula: ClassVar[str] = "group ∪ {right rollout of earlier steps}"
    departures: ClassVar[str] = "one rollout, and only where all fail; the paper compares several rules of retrieval"

    kind: Literal["replay"] = "replay"
    capacity: int = Field(512, ge=1, description="problems that are remembered, the newest ones")
    max_age: int = Field(200, ge=1, description="steps after which a rollout is forgotten")

    @property
    def num_reserved_rows(self) -> int:
        return 1

    def edit(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        memory: dict[str, Any] = tools.memory.setdefault("replay", {})
        joined = [self._joined(group, memory.get(group.problem.id), tools.step) for group in groups]
        # Here verdicts are the verifier's own; later, rewards may have changed what they pay.
        for group in groups:
            self._remember(memory, group, tools.step)
        return joined

    def _joined(self, group: Group, kept: dict[str, Any] | None, step: int) -> Group:
        if kept is None or group.group_class is not GroupClass.ALL_WRONG or step - kept["step"] > self.max_age:
            return group
        rollout = off_policy(rollout_from_json(kept["rollout"]), group.prompt_ids)
        verdict = Verdict(Outcome.RIGHT, kept["answer"], reward=kept["reward"])
        return replace(group, members=(*group.members, Member(rollout, verdict, Role.GUIDED)))

    def _remember(self, memory: dict[str, Any], group: Group, step: int) -> None:
        right = [m for m in group.members if m.role is Role.SAMPLED and m.verdict.is_right]
        if not right:
            return
        rollout, verdict = rollout_to_json(right[-1].rollout), right[-1].verdict
        # The problem that was solved longest ago comes first, and goes first.
        memory.pop(group.problem.id, None)
        memory[group.problem.id] = {
            "step": step,
            "rollout": rollout,
            "answer": verdict.answer,
            "reward": verdict.reward,
        }
        while len(memory) > self.capacity:
            del memory[next(iter(memory))]
