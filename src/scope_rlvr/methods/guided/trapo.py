"""TRAPO: longer and longer starts of a teacher's trace, as long as a group fails, learned inside a trust region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import TeacherTerm, Trust
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.traces import first_part, teacher_traces
from scope_rlvr.methods.parts.base import Status


@dataclass(frozen=True)
class MicroGroup:
    """A part of a group: its share of the rollouts, the share of the trace that they begin with, and below which share of right
    rollouts so far they are given it."""

    rollouts: float
    trace: float
    below: float


LATER = (MicroGroup(0.25, 0.25, 0.5), MicroGroup(0.125, 0.5, 2 / 3), MicroGroup(0.125, 1.0, 1.0))
"""What follows the first half of a group, which is sampled unaided."""


class Trapo(GuidedMethod):
    """A group is sampled in parts, and a part begins with the more of a teacher's trace the worse the parts before it did.

    Of 8 rollouts 4 are unaided. The next 2 begin with a quarter of a verified trace if fewer than half are right so far, the next
    one with half of it if fewer than two thirds are, and the last is the whole trace unless all are right; else they are
    unaided, too. ``Â = r − mean(r)`` over all of them on what the policy wrote. What the teacher wrote is imitated with advantage
    1 whatever came of it, inside a trust region: ``−π/max(sg π, floor)``, plain maximum likelihood where ``π ≥ floor`` and fading out below; of
    rollouts that begin with the same start only one imitates it. Source: TRAPO (2512.17636), and its released code,
    github.com/Su-my/TRAPO at 982cb8f: ``luffy/verl/verl/trapo_src/mix_trainer.py`` 452-526, ``mix_vllm_rollout.py`` 196-236,
    ``mix_core_alg.py`` 235.

    >>> Trapo().teacher_term.floor, [part.trace for part in LATER]
    (0.1, [0.25, 0.5, 1.0])
    """

    title: ClassVar[str] = "TRAPO"
    source: ClassVar[str] = "arXiv 2512.17636"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the worse a group does, the more of a teacher's trace its later rollouts begin with"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, the teacher's tokens `−π/max(sg π, 0.1)`"
    departures: ClassVar[str] = (
        "the clip stays; no entropy bonus of 0.001; one joint mean over tokens; traces are those that the verifier calls right"
    )

    name: Literal["trapo"] = "trapo"
    normalisation: Normalisation | None = Normalisation.NONE
    teacher_term: TeacherTerm = Field(Trust(), description="the loss of the teacher's tokens")

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        counts = [max(1, round(part.rollouts * num_rollouts)) for part in LATER] if num_rollouts > len(LATER) else []
        sampled = tools.sample(groups, num_rollouts - sum(counts))
        traces: dict[int, Rollout | None] = {}
        for number, (part, count) in enumerate(zip(LATER, counts, strict=False)):
            behind = {p for p, group in enumerate(sampled) if _share_right(group) < part.below}
            asked = sorted(behind - traces.keys())
            for p, found in zip(asked, teacher_traces([groups[p] for p in asked], tools, number), strict=True):
                traces[p] = None if found is None else found.rollout
            starts = [
                self._start(trace, part.trace)
                if p in behind and (trace := traces[p]) is not None
                else Rollout(group.prompt_ids, ())
                for p, group in enumerate(sampled)
            ]
            newcomers = self._grown([start for start in starts for _ in range(count)], sampled, count, tools, number)
            sampled = [
                replace(g, members=(*g.members, *newcomers[p * count : (p + 1) * count])) for p, g in enumerate(sampled)
            ]
        return sampled

    @staticmethod
    def _start(trace: Rollout, share: float) -> Rollout:
        return trace if share >= 1 else first_part(trace, share) if len(trace) > 1 else trace

    def _grown(
        self, starts: Sequence[Rollout], groups: Sequence[Group], count: int, tools: Toolbox, number: int
    ) -> list[Member]:
        """Verified members from these starts, ``count`` for each group; a whole trace is finished already."""
        open_ = [
            i for i, start in enumerate(starts) if not start.segments or start.token_ids[-1] not in tools.codec.end_ids
        ]
        grown = dict(zip(open_, tools.extend([starts[i] for i in open_], "sampling", "part", number), strict=True))
        rollouts = [grown.get(i, start) for i, start in enumerate(starts)]
        judged = tools.verified([(groups[i // count].problem, rollout) for i, rollout in enumerate(rollouts)])
        return [
            replace(m, role=Role.GUIDED, extras={"imitates": float(i % count == 0)}) if start.segments else m
            for i, (start, m) in enumerate(zip(starts, judged, strict=True))
        ]

    def credit_tokens(self, member: Member, advantage_T: Sequence[float]) -> Streams:
        """The advantage on what the policy wrote; 1 on the teacher's start where this rollout imitates it."""
        streams = super().credit_tokens(member, advantage_T)
        imitates = float(member.extras.get("imitates", 1.0))
        is_teacher_T = [origin is Origin.TEACHER for origin in streams.origin_T]
        return replace(
            streams,
            advantage_T=tuple(
                self.teacher_weight * imitates if t and w else a
                for t, w, a in zip(is_teacher_T, streams.weight_T, streams.advantage_T, strict=True)
            ),
            weight_T=tuple(w * imitates if t else w for t, w in zip(is_teacher_T, streams.weight_T, strict=True)),
        )


def _share_right(group: Group) -> float:
    """The share of right ones among the known verdicts; 1 without any, for nothing says that the group needs help."""
    known = [m.verdict.is_right for m in group.members if m.verdict.is_known]
    return sum(known) / len(known) if known else 1.0
