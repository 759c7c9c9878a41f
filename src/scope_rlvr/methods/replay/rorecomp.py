"""RoRecomp: short successes and long failures train at once, the rest later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Baseline, Normalisation, centred_rewards, normalise
from scope_rlvr.methods.memory import problem_from_json, problem_to_json
from scope_rlvr.methods.method import Method, SideUpdate
from scope_rlvr.methods.parts.base import Part, Status, TokenAdvantages
from scope_rlvr.methods.parts.brevity import BrevityPriority
from scope_rlvr.methods.replay.replayed import ReplayingMethod, member_to_json, replayed


class Compensation(ReplayingMethod):
    """Rollouts that waited, with the advantages that they had in their groups and the ratio to the policy that wrote
    them."""

    name: str = "rorecomp_compensation"

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        return [[[m.extras["waited_advantage"]] * len(m.rollout) for m in group.members] for group in groups]


class RoRecomp(Method):
    """Rollout response recomposition.

    Of a batch, the ``share`` of right rollouts that are shortest and the ``share`` of wrong ones that are longest train
    at once, the priority batch; advantages are those of the whole groups. The others wait. As soon as as many wait as a
    batch has rollouts, the oldest of them are an update beside the step's, the compensation batch, so that the policy
    does not collapse into brevity. Source: RoRecomp (2509.25958); its share has no value in the text that we had.

    >>> RoRecomp(share=0.25).own_parts[0].share
    0.25
    """

    title: ClassVar[str] = "RoRecomp"
    source: ClassVar[str] = "arXiv 2509.25958"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "short successes and long failures train at once, the rest later"
    formula: ClassVar[str] = (
        "`Â = (r − mean) / std`; `S(Â)` on the shortest right and longest wrong half; the rest beside it, later"
    )
    departures: ClassVar[str] = "the share is chosen here; compensation has an optimiser of its own"

    name: Literal["rorecomp"] = "rorecomp"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    share: float = Field(0.5, gt=0, le=1, description="share of the right and of the wrong rollouts that train at once")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (BrevityPriority.of(self),)

    def side_updates(self, groups: Sequence[Group], tools: Toolbox) -> list[SideUpdate]:
        now = BrevityPriority.of(self).priority(groups)
        waiting: list[dict[str, Any]] = tools.memory.setdefault(self.name, [])
        for group in groups:
            for member, advantage in zip(group.members, self._outcome_advantages(group), strict=True):
                if id(member) not in now and member.verdict.is_known and advantage:
                    waiting.append(self._entry(member, group, advantage))
        batch = sum(len(group.members) for group in groups)
        if not batch or len(waiting) < batch:
            return []
        oldest, tools.memory[self.name] = waiting[:batch], waiting[batch:]
        method = Compensation(aggregation=self.aggregation, clip=self.clip)
        return [SideUpdate(method, tuple(map(_waited, oldest)))]

    def _outcome_advantages(self, group: Group) -> tuple[float, ...]:
        rewards_G = [member.verdict.pay for member in group.members]
        centred_G = centred_rewards(rewards_G, Baseline.GROUP_MEAN)
        return normalise([centred_G], [rewards_G], self.normalisation or Normalisation.NONE)[0]

    @staticmethod
    def _entry(member: Member, group: Group, advantage: float) -> dict[str, Any]:
        return member_to_json(member) | {"advantage": advantage, "problem": problem_to_json(group.problem)}


def _waited(entry: dict[str, Any]) -> Group:
    bare = Group(problem_from_json(entry["problem"]), (), prompt_ids=tuple(entry["rollout"]["prompt_ids"]))
    return replace(bare, members=(replayed(entry, bare).having(waited_advantage=entry["advantage"]),))
