"""Curricula: problem sources that follow what the policy can do."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal, TypeVar

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome
from scope_rlvr.methods.parts.base import ProblemSource, Status
from scope_rlvr.methods.solve_rates import places_by_id, remember_rates, remembered_rates, solve_rate

_Offered = TypeVar("_Offered")


class GreedyFailures(ProblemSource):
    """Only problems whose greedy answer is wrong train.

    The policy answers each offered problem once at temperature 0. What it gets right is exchanged for a fresh problem,
    up to ``max_rounds`` times; where too few failures are found, solved problems fill the batch, since its size is
    fixed. Source: "The Reasoning Boundary Paradox" (SELF), and its released code,
    github.com/mail-research/SELF-llm-interference at d17634b: ``verl/verl/trainer/ppo/ray_trainer.py`` 1160-1180, which
    makes the batch smaller instead.

    >>> GreedyFailures.first_of(["failed 1"], ["solved 1", "solved 2"], 2)
    ['failed 1', 'solved 1']
    """

    title: ClassVar[str] = "SELF filter"
    source: ClassVar[str] = "arXiv 2510.02230"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "only problems that the policy fails greedily"
    formula: ClassVar[str] = "problems with `r(greedy answer) = 0` alone"
    departures: ClassVar[str] = "solved problems are exchanged, not dropped; without the paper's forward KL term"

    kind: Literal["greedy_failures"] = "greedy_failures"
    max_rounds: int = Field(3, ge=0, description="how often solved problems are exchanged for fresh ones")

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        failed, others, offered = list[Group](), list[Group](), list(groups)
        for number in range(self.max_rounds + 1):
            for group, is_wrong in zip(offered, self._are_wrong(offered, number, tools), strict=True):
                (failed if is_wrong else others).append(group)
            missing = len(groups) - len(failed)
            if not missing or number == self.max_rounds:
                break
            offered = tools.fresh_problems(missing, "greedy", number)
        return self.first_of(failed, others, len(groups))

    @staticmethod
    def first_of(failed: Sequence[_Offered], others: Sequence[_Offered], count: int) -> list[_Offered]:
        """So many problems, failed ones first."""
        return [*failed, *others][:count]

    def _are_wrong(self, groups: Sequence[Group], number: int, tools: Toolbox) -> list[bool]:
        greedy = replace(tools, sampling=replace(tools.sampling, temperature=0.0))
        sampled = greedy.sample(groups, 1, "greedy", number)
        return [group.members[0].verdict.outcome is Outcome.WRONG for group in sampled]


class HardFocus(ProblemSource):
    """First all problems alike, then only the hardest of those that were seen.

    The first ``uniform_share`` of the steps train on what is offered. The rest is cut into ``num_phases`` equal phases;
    in phase k, from 1, problems are drawn from the ``kept_share ** k`` of those seen that were solved least often when
    they were last sampled. Source: DRIVE (2511.06307), two-stage reinforcement learning: 8 rollouts of each problem in
    the first stage, 64 in the second; the share that is kept and the number of phases are chosen here.

    >>> focus = HardFocus(uniform_share=0.5, num_phases=2, kept_share=0.5)
    >>> [focus.phase(step, num_steps=8) for step in (1, 4, 5, 6, 7, 8)]
    [0, 0, 1, 1, 2, 2]
    >>> focus.hardest({"a": 0.5, "b": 0.0, "c": 1.0, "d": 0.25}, phase=1)
    ['b', 'd']
    """

    title: ClassVar[str] = "DRIVE curriculum"
    source: ClassVar[str] = "arXiv 2511.06307"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "all problems first, then only the hardest"
    formula: ClassVar[str] = "step ≤ ½: uniform; then the `½ᵏ` with the lowest solve rate in phase k"
    departures: ClassVar[str] = "as many rollouts in both stages; the phases and the share that is kept are chosen here"

    kind: Literal["hard_focus"] = "hard_focus"
    uniform_share: float = Field(0.5, ge=0, le=1, description="share of the steps that train on all problems alike")
    kept_share: float = Field(0.5, gt=0, le=1, description="share of the problems that each phase keeps")
    num_phases: int = Field(2, ge=1, description="equal phases of the steps after that")

    def phase(self, step: int, num_steps: int) -> int:
        """The phase that a step (from 1) belongs to; 0 while all problems train alike."""
        first, rest = self.uniform_share * num_steps, (1 - self.uniform_share) * num_steps
        return 0 if step <= first else min(self.num_phases, math.ceil((step - first) * self.num_phases / rest - 1e-9))

    def hardest(self, rates: dict[str, float], phase: int) -> list[str]:
        """The problems that train in a phase, hardest first."""
        order = sorted(rates, key=lambda problem: (rates[problem], problem))
        return order[: math.ceil(len(order) * self.kept_share**phase - 1e-9)]

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        places, phase = places_by_id(tools), self.phase(tools.step, tools.num_steps)
        rates = {name: rate for name, rate in remembered_rates(tools, self.kind).items() if name in places}
        if not phase or not rates:
            return list(groups)
        hardest = self.hardest(rates, phase)
        rng = random.Random(derive_seed(tools.seed, self.kind))
        drawn = rng.sample(hardest, len(groups)) if len(groups) <= len(hardest) else rng.choices(hardest, k=len(groups))
        assert tools.pool is not None
        return tools.pool.groups([places[name] for name in drawn])

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        remember_rates(groups, tools, self.kind)


class HardEasyPairs(ProblemSource):
    """Each step pairs problems that are hard but solvable with problems that are easy but not safe.

    A problem is hard where its last solve rate q is in ``(0, highest_hard]``, easy where it is in ``[lowest_easy, 1)``.
    Every second place of a batch goes to a hard problem and every other one to an easy one, drawn from those seen; a
    place for which there is none keeps the offered problem. Source: "Beyond Variance" (2602.03452), positive-negative
    pairing; the bounds are chosen here.

    >>> HardEasyPairs().classes({"a": 0.0, "b": 0.25, "c": 0.5, "d": 0.875, "e": 1.0})
    (['b'], ['d'])
    """

    title: ClassVar[str] = "Positive-negative pairing"
    source: ClassVar[str] = "arXiv 2602.03452"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "hard but solvable problems beside easy but unsafe ones"
    formula: ClassVar[str] = "half of the problems with `0 < q ≤ ¼`, half with `¾ ≤ q < 1`"
    departures: ClassVar[str] = "solve rates are those of training; the bounds are chosen here"

    kind: Literal["hard_easy_pairs"] = "hard_easy_pairs"
    highest_hard: float = Field(0.25, gt=0, lt=1, description="highest solve rate of a hard problem")
    lowest_easy: float = Field(0.75, gt=0, lt=1, description="lowest solve rate of an easy problem")

    def classes(self, rates: dict[str, float]) -> tuple[list[str], list[str]]:
        """The hard problems and the easy ones."""
        hard = [name for name, rate in rates.items() if 0 < rate <= self.highest_hard]
        return hard, [name for name, rate in rates.items() if self.lowest_easy <= rate < 1]

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        places, pool = places_by_id(tools), tools.pool
        assert pool is not None
        rng = random.Random(derive_seed(tools.seed, self.kind))
        queues = []
        for names in self.classes(remembered_rates(tools, self.kind)):
            known = sorted(name for name in names if name in places)
            queues.append(rng.sample(known, len(known)))
        chosen = list(groups)
        for i in range(len(chosen)):
            if queues[i % 2]:
                chosen[i] = pool.groups([places[queues[i % 2].pop()]])[0]
        return chosen

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        remember_rates(groups, tools, self.kind)


class Ladder(ProblemSource):
    """A problem comes in easier forms first, and moves up for good when the policy solves its form.

    Forms of one problem share the part of their ids before ``separator``; what comes after it orders them, as text,
    easiest first. A problem without the separator has one form. Where a problem is offered, in whatever form, it is
    posed in the form that it has reached; it moves up where more than ``threshold`` of a step's rollouts are right.
    Source: Cog-DRIFT (2604.04767), and its released code, github.com/dinobby/Cog-DRIFT at 39d7a84:
    ``verl/experimental/dataset/adaptive_sampler.py``; 4 choices, 10 choices, blanks, open there.

    >>> ladder = Ladder()
    >>> [ladder.split("p7#2-blanks"), ladder.split("p7")]
    [('p7', '2-blanks'), ('p7', '')]
    """

    title: ClassVar[str] = "Cog-DRIFT ladder"
    source: ClassVar[str] = "arXiv 2604.04767"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "easier forms of a problem come first"
    formula: ClassVar[str] = "form `k` → `k + 1` where `mean(r) > ½`"
    departures: ClassVar[str] = (
        "the forms are the training file's, nobody rewrites problems; no format bonus in the score"
    )

    kind: Literal["ladder"] = "ladder"
    separator: str = Field("#", min_length=1, description="text between a problem's name and its form in an id")
    threshold: float = Field(0.5, ge=0, lt=1, description="share of right rollouts above which a problem moves up")

    def split(self, problem_id: str) -> tuple[str, str]:
        """The name of the problem and of its form."""
        name, _, form = problem_id.partition(self.separator)
        return name, form

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        places, pool = places_by_id(tools), tools.pool
        assert pool is not None
        forms: dict[str, list[str]] = {}
        for problem_id in sorted(places):
            forms.setdefault(self.split(problem_id)[0], []).append(problem_id)
        reached = tools.memory.get(self.kind, {})
        chosen = []
        for group in groups:
            name, _ = self.split(group.problem.id)
            own = forms.get(name, [group.problem.id])
            wanted = own[min(reached.get(name, 0), len(own) - 1)]
            chosen.append(group if wanted == group.problem.id else pool.groups([places[wanted]])[0])
        return chosen

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        reached = tools.memory.setdefault(self.kind, {})
        solved = [g.problem.id for g in groups if (solve_rate(g) or 0.0) > self.threshold]
        for name in sorted({self.split(problem_id)[0] for problem_id in solved if self.separator in problem_id}):
            reached[name] = reached.get(name, 0) + 1
