"""SPEAR: the policy imitates its own best rollouts of the last few steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median, pstdev
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import STD_FLOOR, Normalisation
from scope_rlvr.methods.memory import problem_from_json, problem_to_json
from scope_rlvr.methods.parts.base import Status, TokenAdvantages
from scope_rlvr.methods.replay.replayed import ReplayingMethod, member_to_json, replayed


class Spear(ReplayingMethod):
    """Self-imitation with a growing weight.

    Rollouts that the policy sampled and whose reward is more than ``threshold`` deviations above its group's mean are
    kept for ``max_age`` steps, ``capacity`` at most. Each step draws one of them for each group of its own; each is a
    group by itself, with the advantage ``w · (r − median)`` where that is positive: the median of the mean rewards of
    the last ``num_baselines`` groups, and ``w`` growing linearly to 1 over ``warmup`` steps. Their ratio is to the
    policy that wrote them. Source: SPEAR (2509.22601), and its released code, github.com/TencentYoutuResearch/SPEAR at
    7e84315: ``verl/recipe/spear/run_qwen2-32b_spear.sh``: 2048 rollouts, at most 5 steps old, threshold 1, 300 steps.

    >>> spear = Spear()
    >>> [spear.replay_weight(step) for step in (0, 150, 300, 600)]
    [0.0, 0.5, 1.0, 1.0]
    """

    title: ClassVar[str] = "SPEAR"
    source: ClassVar[str] = "arXiv 2509.22601"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "imitates its own best rollouts of the last steps"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`; stored rollouts `w·S(max(0, r − median))` with `ρ = π/π_then`"
    departures: ClassVar[str] = (
        "no tools and no bonus for calling them; stored rollouts have no Clip-Cov; groups are not filtered by their deviation"
    )

    name: Literal["spear"] = "spear"
    normalisation: Normalisation | None = Normalisation.NONE
    threshold: float = Field(1.0, ge=0, description="deviations above the group's mean from which on a rollout is kept")
    max_age: int = Field(5, ge=1, description="steps after which a rollout is forgotten")
    capacity: int = Field(2048, ge=1, description="rollouts that are kept, the newest ones")
    num_baselines: int = Field(
        10_240, ge=1, description="groups whose mean rewards the median is taken over, the newest"
    )
    warmup: int = Field(300, ge=0, description="steps over which stored rollouts get their full weight")

    @property
    def num_reserved_rows(self) -> int:
        return super().num_reserved_rows + 1

    @property
    def has_variable_rows(self) -> bool:
        return True

    def replay_weight(self, step: int) -> float:
        """What the advantage of a stored rollout is multiplied by at a step."""
        return min(1.0, step / self.warmup) if self.warmup else 1.0

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        memory = self._memory(tools)
        young = [entry for entry in memory["kept"] if tools.step - entry["step"] <= self.max_age]
        rng = random.Random(derive_seed(tools.seed, self.name))
        drawn = rng.sample(young, min(len(young), len(groups)))
        usual, weight = median(memory["baselines"] or [0.0]), self.replay_weight(tools.step)
        return [*groups, *(self._alone(entry, usual, weight) for entry in drawn)]

    @staticmethod
    def _alone(entry: dict[str, Any], usual: float, weight: float) -> Group:
        """A stored rollout as a group of its own, with its advantage."""
        bare = Group(problem_from_json(entry["problem"]), (), prompt_ids=tuple(entry["rollout"]["prompt_ids"]))
        member = replayed(entry, bare)
        gain = max(0.0, (member.verdict.pay or 0.0) - usual)
        return replace(bare, members=(member.having(replay_advantage=weight * gain),))

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        advantage_PGT = super().advantages(groups, rewards_PG, normalisation)
        return [
            [
                [member.extras["replay_advantage"]] * len(member.rollout)
                if "replay_advantage" in member.extras
                else a_T
                for member, a_T in zip(group.members, a_GT, strict=True)
            ]
            for group, a_GT in zip(groups, advantage_PGT, strict=True)
        ]

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        super().learn(groups, tools)
        memory = self._memory(tools)
        for group in groups:
            known = [m for m in group.sampled if m.verdict.pay is not None]
            pays = [m.verdict.pay or 0.0 for m in known]
            if not pays:
                continue
            memory["baselines"] = [*memory["baselines"], fmean(pays)][-self.num_baselines :]
            bar = fmean(pays) + self.threshold * (pstdev(pays) + STD_FLOOR)
            memory["kept"] += [
                member_to_json(m) | {"step": tools.step, "problem": problem_to_json(group.problem)}
                for m, pay in zip(known, pays, strict=True)
                if pay > bar
            ]
        memory["kept"] = [e for e in memory["kept"] if tools.step - e["step"] < self.max_age][-self.capacity :]

    def _memory(self, tools: Toolbox) -> dict[str, Any]:
        memory: dict[str, Any] = tools.memory.setdefault(self.name, {"kept": [], "baselines": []})
        return memory
