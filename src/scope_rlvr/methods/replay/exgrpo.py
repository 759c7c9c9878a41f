"""ExGRPO: problems of middling difficulty come back, each with the surest of its earlier successes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import ShapedRatio, TeacherTerm
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.memory import rollout_from_json
from scope_rlvr.methods.parts.base import Need, Status
from scope_rlvr.methods.replay.replayed import distinct, member_to_json, replayed, right_and_sampled
from scope_rlvr.methods.solve_rates import places_by_id, solve_rate


class Exgrpo(GuidedMethod):
    """Experiential GRPO.

    A problem with some right rollouts, but not only right ones, is kept with these; one that is solved whole is kept no
    longer. Once ``start_accuracy`` of a step's rollouts were right, ``replay_share`` of each batch are kept problems: a
    number k of right rollouts out of N, as it was last, is drawn with weight ``exp(−(k − N/2)²/2)``, then a problem
    that has it. Its group is the stored rollout of lowest mean entropy under the policy, and N − 1 fresh ones. ``Â = r
    − mean(r)``; fresh tokens get ``S(Â)``, stored ones ``−Â·ρ/(ρ + 0.1)`` with ``ρ = π/π_then``. Source: ExGRPO
    (2510.02245), and its released code, github.com/ElliottYan/LUFFY at 01f4ae0:
    ``ExGRPO/exgrpo/verl/verl/mix_src/experience`` and ``exp_scripts/run_exgrpo.sh``: 8 rollouts, 128 problems, entropy
    bonus 0.001.

    >>> Exgrpo().weights({0.5, 0.25, 0.125}, num_rollouts=8)[0.5]
    1.0
    """

    title: ClassVar[str] = "ExGRPO"
    source: ClassVar[str] = "arXiv 2510.02245"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "half of the problems come back, with the surest earlier success of each"
    formula: ClassVar[str] = (
        "`Â = r − mean(r)`; `S(Â)`, stored tokens `−Â·ρ/(ρ+0.1)`, `ρ = π/π_then`; entropy bonus 0.001"
    )
    departures: ClassVar[str] = "the clip stays; the memory is bounded; one update a batch"

    name: Literal["exgrpo"] = "exgrpo"
    normalisation: Normalisation | None = Normalisation.NONE
    entropy: float | None = 0.001
    teacher_term: TeacherTerm = Field(ShapedRatio(gamma=0.1), description="the loss of stored tokens")
    replay_share: float = Field(0.5, ge=0, le=1, description="share of a batch's problems that come back")
    start_accuracy: float = Field(0.35, ge=0, le=1, description="accuracy of a step with which the replay begins")
    capacity: int = Field(512, ge=1, description="problems that are kept, the newest ones")

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.PROBLEM_POOL})

    @property
    def draws_problems(self) -> bool:
        return True

    def weights(self, rates: set[float], num_rollouts: int) -> dict[float, float]:
        """How likely each solve rate is drawn, in relation to ½."""
        return {rate: math.exp(-(((rate - 0.5) * num_rollouts) ** 2) / 2) for rate in rates}

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        kept, places = self._memory(tools)["kept"], places_by_id(tools)
        known = sorted(name for name in kept if name in places)
        count = min(int(self.replay_share * len(groups)), len(known)) if self._memory(tools)["begun"] else 0
        rng, drawn = random.Random(derive_seed(tools.seed, self.name)), list[str]()
        for _ in range(count):
            left = [name for name in known if name not in drawn]
            # Of few rollouts the same share is another number: the largest group that was seen counts.
            weights = self.weights({kept[n]["rate"] for n in left}, max(kept[n]["num_rollouts"] for n in left))
            rate = rng.choices(list(weights), list(weights.values()))[0]
            drawn.append(rng.choice([name for name in left if kept[name]["rate"] == rate]))
        self._memory(tools)["drawn"] = drawn
        fresh = super().choose(groups, tools)[: len(groups) - count]
        assert tools.pool is not None
        return [*fresh, *tools.pool.groups([places[name] for name in drawn])]

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        memory = self._memory(tools)
        first = len(groups) - len(memory["drawn"])
        fresh = tools.sample(groups[:first], num_rollouts)
        if first == len(groups):
            return fresh
        again = tools.sample(groups[first:], num_rollouts - 1, "again")
        stored = [memory["kept"][group.problem.id]["entries"] for group in again]
        entropies = iter(tools.entropies([rollout_from_json(e["rollout"]) for entries in stored for e in entries]))
        surest = [min(entries, key=lambda _: fmean(next(entropies) or (0.0,))) for entries in stored]
        return [
            *fresh,
            *(replace(g, members=(*g.members, replayed(e, g))) for g, e in zip(again, surest, strict=True)),
        ]

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        super().learn(groups, tools)
        memory = self._memory(tools)
        rates = [rate for group in groups if (rate := solve_rate(group)) is not None]
        if rates and fmean(rates) > self.start_accuracy:
            memory["begun"] = True
        for group in groups if memory["begun"] else ():
            self._keep(group, memory["kept"])

    def _keep(self, group: Group, kept: dict[str, Any]) -> None:
        rate, right = solve_rate(group), right_and_sampled(group)
        before = kept.pop(group.problem.id, None)
        if rate == 1.0 or not (right or before):
            return
        entries = distinct([*(before["entries"] if before else ()), *map(member_to_json, right)])
        kept[group.problem.id] = {"rate": rate or 0.0, "num_rollouts": len(group.members), "entries": entries}
        while len(kept) > self.capacity:
            del kept[next(iter(kept))]

    def _memory(self, tools: Toolbox) -> dict[str, Any]:
        memory: dict[str, Any] = tools.memory.setdefault(self.name, {"begun": False, "drawn": [], "kept": {}})
        return memory
