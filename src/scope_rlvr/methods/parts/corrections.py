"""A buffer of corrections: what a teacher mended once is practised until the policy has learned it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import accumulate
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role, Streams
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Outcome, Rollout, Verdict
from scope_rlvr.methods.memory import problem_from_json, problem_to_json, rollout_from_json, rollout_to_json
from scope_rlvr.methods.parts.base import GroupEdit, Status
from scope_rlvr.methods.reading import Reading, Text

_NUMBER, _LOGPROB = "correction_number", "correction_logprob"


class Draw(StrEnum):
    """Which corrections are practised. ``UNIFORM``: each as likely as another. ``IMPROBABLE``: in proportion to ``1 − p``,
    where ``p`` is the probability that the policy last gave to the teacher's tokens; before the first reading ``p`` is 0."""

    UNIFORM = "uniform"
    IMPROBABLE = "improbable"


class CorrectionBuffer(GroupEdit):
    """Admitted corrections are kept, and ``per_group`` of them train again in reserved rows of every group.

    A correction is a prompt, the policy's own prefix ``u`` and the teacher's step ``z``; what came after it is not kept. In a
    practised correction only the tokens of ``z`` train, with advantage ``weight``: under SCOPE's default teacher term that is
    ``−weight · log π(z | x, u)``. It takes no part in the baseline of the group that lends it a row, and its prompt is its own.

    The policy reads every practised correction once a step, before the update. ``p = Π_t π(z_t)`` decides how likely it is to be
    drawn again (``draw``), and at ``p ≥ learned_at`` it is retired. The prefix was sampled by an older policy. Its drift is the
    mean over its tokens of ``log π_old − log π``, in nats, and a correction that has drifted by more than ``max_drift`` is retired
    too. The buffer holds ``capacity`` corrections, the newest ones. It has no paper.

    Figures: ``method/corrections`` (how many are kept), ``method/correction_probability`` (mean ``p`` of those that were
    practised), ``method/correction_drift`` and ``method/corrections_retired``.

    >>> buffer = CorrectionBuffer(learned_at=0.9)
    >>> [round(buffer.chance(p), 2) for p in (0.0, 0.4)]
    [1.0, 0.6]
    >>> [buffer.is_done(p, drift=0.0) for p in (0.4, 0.95)]
    [False, True]
    """

    title: ClassVar[str] = "Correction buffer"
    source: ClassVar[str] = "of this project, an extension of arXiv 2602.24110"
    status: ClassVar[Status] = Status.OWN
    changes: ClassVar[str] = "corrections of earlier steps are practised until they are learned"
    formula: ClassVar[str] = "`+ Σ −w·log π(z | x, u)` over corrections drawn in proportion to `1 − p`"

    kind: Literal["correction_buffer"] = "correction_buffer"
    capacity: int = Field(256, ge=1, description="corrections that are kept, the newest ones")
    per_group: int = Field(1, ge=1, description="corrections practised in each group, in reserved rows")
    weight: float = Field(1.0, gt=0, description="advantage of the teacher's tokens in a practised correction")
    draw: Draw = Field(
        Draw.IMPROBABLE,
        description="which corrections are practised: each as likely as another (`uniform`), or the less probable ones more "
        "often (`improbable`)",
    )
    learned_at: float | None = Field(
        0.9,
        gt=0,
        le=1,
        description="probability of the teacher's step at which a correction is retired; none keeps all",
    )
    max_drift: float | None = Field(
        None, gt=0, description="drift of the prefix, in nats a token, at which a correction is retired; none keeps all"
    )

    @property
    def num_reserved_rows(self) -> int:
        return self.per_group

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading(_LOGPROB, text=_practised_text),)

    def edit(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """Corrections join the groups. None is of this step: those of this step train in their own groups."""
        kept = _memory(tools)["corrections"]
        rng = random.Random(derive_seed(tools.seed, "corrections"))
        return [
            replace(group, members=(*group.members, *(self._practised(one) for one in self._drawn(kept, rng))))
            for group in groups
        ]

    def _drawn(self, kept: Sequence[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
        """Some corrections for one group, no one twice."""
        left, drawn = list(kept), list[dict[str, Any]]()
        while left and len(drawn) < self.per_group:
            limits = list(accumulate(self.chance(one["probability"]) for one in left))
            point = rng.random() * limits[-1]
            index = next((i for i, limit in enumerate(limits) if point < limit), len(left) - 1)
            drawn.append(left.pop(index))
        return drawn

    def chance(self, probability: float) -> float:
        """How likely a correction is to be drawn, compared with one of probability 0. It is never zero."""
        return 1.0 if self.draw is Draw.UNIFORM else max(1e-3, 1.0 - probability)

    def is_done(self, probability: float, drift: float) -> bool:
        """Whether a correction is learned, or its prefix no longer the policy's."""
        is_learned = self.learned_at is not None and probability >= self.learned_at
        return is_learned or (self.max_drift is not None and drift > self.max_drift)

    @staticmethod
    def _practised(kept: dict[str, Any]) -> Member:
        rollout, problem = rollout_from_json(kept["rollout"]), problem_from_json(kept["problem"])
        verdict = Verdict(Outcome.UNKNOWN, reason="a correction of an earlier step, practised again")
        return Member(rollout, verdict, Role.REPLAYED, problem=problem, extras={_NUMBER: kept["number"]})

    def credit_aside(self, member: Member) -> Streams | None:
        if _NUMBER not in member.extras:
            return None
        is_teacher_T = [origin is Origin.TEACHER for origin in member.rollout.origin_T]
        return Streams.of(member.rollout, [self.weight * t for t in is_teacher_T], [float(t) for t in is_teacher_T])

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        memory = _memory(tools)
        kept = {one["number"]: one for one in memory["corrections"]}
        read = {m.extras[_NUMBER]: _judged(m) for g in groups for m in g.members if _LOGPROB in m.extras}
        for number, (probability, _) in read.items():
            kept[number]["probability"] = probability
        done = [number for number, judged in read.items() if self.is_done(*judged)]
        left = [one for number, one in kept.items() if number not in set(done)]
        for group in groups:
            for member in group.members:
                if _is_correction(member):
                    left.append(_correction(group, member, memory["next"]))
                    memory["next"] += 1
        memory["corrections"] = left[-self.capacity :]
        tools.told["corrections"] = float(len(memory["corrections"]))
        tools.told["corrections_retired"] = float(len(done))
        if read:
            tools.told["correction_probability"] = fmean(probability for probability, _ in read.values())
            tools.told["correction_drift"] = fmean(drift for _, drift in read.values())


def _memory(tools: Toolbox) -> dict[str, Any]:
    memory: dict[str, Any] = tools.memory.setdefault("correction_buffer", {"next": 0, "corrections": []})
    return memory


def _practised_text(group: Group, member: Member, tools: Toolbox) -> Text | None:
    return (member.rollout.prompt_ids, member.rollout.token_ids) if _NUMBER in member.extras else None


def _judged(member: Member) -> tuple[float, float]:
    """The probability that the policy gives to the teacher's tokens, and the drift of the prefix, in nats a token."""
    rollout, logprob_T = member.rollout, member.extras[_LOGPROB]
    rows = list(zip(rollout.origin_T, rollout.logprob_T, logprob_T, strict=True))
    probability = math.exp(sum(now for origin, _, now in rows if origin is Origin.TEACHER))
    drifts = [then - now for origin, then, now in rows if origin is Origin.POLICY and then is not None]
    return probability, fmean(drifts) if drifts else 0.0


def _is_correction(member: Member) -> bool:
    """Whether a teacher's step made a failure right."""
    is_right = member.role is Role.SALVAGED and member.verdict.is_right
    return is_right and Origin.TEACHER in member.rollout.origin_T


def _correction(group: Group, member: Member, number: int) -> dict[str, Any]:
    """A salvaged rollout up to the end of the teacher's last step."""
    segments = member.rollout.segments
    last = max(i for i, segment in enumerate(segments) if segment.origin is Origin.TEACHER)
    rollout = Rollout(member.rollout.prompt_ids, segments[: last + 1])
    return {
        "number": number,
        "probability": 0.0,
        "problem": problem_to_json(group.problem),
        "rollout": rollout_to_json(rollout),
    }
