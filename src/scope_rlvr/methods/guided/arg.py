"""ARG: where all rollouts fail, the policy continues the reference from a place that a learned selector chooses."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import NegativeLogLikelihood, TeacherTerm
from scope_rlvr.formulas.readings import LogProb
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.traces import replace_failures, rescue_unsolved, teacher_traces
from scope_rlvr.methods.parts.base import Status

_SELECTOR = "arg"


@dataclass(frozen=True)
class ReferencePrefix:
    """A prefix of a reference, and ``S_t/S_0``: the share of the reference's surprisal that is still to come after it."""

    prefix: Rollout
    share_left: float


class Arg(GuidedMethod):
    """Reference prefixes that leave as much as possible to the policy, and still lead to an answer of its own.

    In a group without a right rollout, up to ``max_insertions`` times: a selector draws a level ℓ of remaining surprisal, the
    reference is cut at the step end whose ``S_t = −Σ_{j>t} log π(ref_j)`` is nearest to ``ℓ·S_0``, and the policy goes on from
    there. A continuation that the verifier calls right, and that is not the reference's own, takes the place of a failure.
    The selector is a softmax over the levels, learned by REINFORCE on ``1[success]·S_t/S_0`` with its own running mean as
    baseline: it looks for the prefix that maximises ``Pr(success)·S_t``. ``Â = r − mean(r)``; the policy's tokens get the clipped
    surrogate, the prefix ``−Â·log π``.

    The reference is the teacher's verified trace, which ``teacher.model = "solutions"`` takes from the problems. Source: ARG
    (2026), its code; the selector's learning rate and levels are chosen here, and it sees nothing of the problem.

    >>> Arg().nearest([1.0, 0.6, 0.2], level=0.5)
    1
    >>> [round(p, 3) for p in Arg().probabilities([0.0, 0.0, math.log(2), 0.0])]
    [0.2, 0.2, 0.4, 0.2]
    """

    title: ClassVar[str] = "ARG"
    source: ClassVar[str] = "ARG (2026), which compares with SCOPE"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "where all fail, the policy continues a reference from where a learned selector cuts it"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, the reference's prefix `−Â·log π`"
    departures: ClassVar[str] = "the selector sees surprisal levels alone; its learning rate and levels are chosen here"

    name: Literal["arg"] = "arg"
    normalisation: Normalisation | None = Normalisation.NONE
    teacher_term: TeacherTerm = NegativeLogLikelihood()
    max_insertions: int = Field(4, ge=0, description="continuations of the reference tried in a group; 0 is GRPO")
    levels: tuple[float, ...] = Field(
        (0.9, 0.7, 0.5, 0.3),
        min_length=1,
        description="shares of the reference's surprisal that may be left to the policy",
    )
    selector_rate: float = Field(0.5, ge=0, description="learning rate of the selector")

    def probabilities(self, logits: Sequence[float]) -> list[float]:
        """How likely the selector draws each level."""
        highest = max(logits)
        weights = [math.exp(logit - highest) for logit in logits]
        return [weight / sum(weights) for weight in weights]

    @staticmethod
    def nearest(shares_left: Sequence[float], level: float) -> int:
        """The place of the anchor whose share of surprisal left is nearest to a level; of equal ones the shortest prefix."""
        return min(range(len(shares_left)), key=lambda i: abs(shares_left[i] - level))

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        if not self.max_insertions:
            return list(groups)
        return rescue_unsolved(groups, lambda unsolved: self._guided(unsolved, tools))

    def _guided(self, unsolved: Sequence[Group], tools: Toolbox) -> list[Group]:
        rng = random.Random(derive_seed(tools.seed, "arg"))
        traces = teacher_traces(unsolved, tools)
        anchors_P = self._anchors(traces, tools)
        logits = self._selector(tools)["logits"]
        drawn = [
            (p, rng.choices(range(len(self.levels)), self.probabilities(logits))[0])
            for p, anchors in enumerate(anchors_P)
            for _ in range(self.max_insertions if anchors else 0)
        ]
        chosen = [
            anchors_P[p][self.nearest([a.share_left for a in anchors_P[p]], self.levels[level])] for p, level in drawn
        ]
        rollouts = tools.extend([anchor.prefix for anchor in chosen], "continuation", "arg")
        judged = tools.verified([(unsolved[p].problem, r) for (p, _), r in zip(drawn, rollouts, strict=True)])
        admitted: list[list[Member]] = [[] for _ in unsolved]
        for (p, level), anchor, member in zip(drawn, chosen, judged, strict=True):
            trace = traces[p]
            is_new = trace is not None and member.rollout.token_ids != trace.rollout.token_ids
            succeeds = member.verdict.is_right and is_new
            self._teach_selector(level, anchor.share_left * succeeds, tools)
            if succeeds:
                admitted[p].append(replace(member, role=Role.GUIDED))
        return [replace_failures(group, newcomers, rng) for group, newcomers in zip(unsolved, admitted, strict=True)]

    def _anchors(self, traces: Sequence[Member | None], tools: Toolbox) -> list[list[ReferencePrefix]]:
        """The prefixes of each trace that end with a step, the last excepted, shortest first."""
        found = [trace.rollout for trace in traces if trace is not None]
        read = iter(tools.read("policy", [(r.prompt_ids, r.token_ids) for r in found], [LogProb()]))
        anchors_P: list[list[ReferencePrefix]] = []
        for trace in traces:
            if trace is None:
                anchors_P.append([])
                continue
            surprisal_T = [-float(logprob) for logprob in next(read)[LogProb().name]]
            ends = [step.end for step in tools.split(trace.rollout)[:-1]]
            total = max(math.fsum(surprisal_T), 1e-9)
            anchors_P.append(
                [ReferencePrefix(trace.rollout.cut(end), math.fsum(surprisal_T[end:]) / total) for end in ends]
            )
        return anchors_P

    def _selector(self, tools: Toolbox) -> dict[str, Any]:
        """The selector's logits, one a level, and its running mean reward."""
        found: dict[str, Any] = tools.memory.setdefault(_SELECTOR, {"logits": [0.0] * len(self.levels), "mean": 0.0})
        return found

    def _teach_selector(self, level: int, reward: float, tools: Toolbox) -> None:
        """One step of REINFORCE: ``∇ log p = 1[drawn] − p``."""
        selector = self._selector(tools)
        gain = self.selector_rate * (reward - selector["mean"])
        drawn = [float(i == level) for i in range(len(self.levels))]
        pairs = zip(selector["logits"], drawn, self.probabilities(selector["logits"]), strict=True)
        selector["logits"] = [logit + gain * (d - p) for logit, d, p in pairs]
        selector["mean"] += 0.1 * (reward - selector["mean"])
