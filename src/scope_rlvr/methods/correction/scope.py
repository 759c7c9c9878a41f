"""SCOPE: step-wise correction for on-policy exploration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role, Streams
from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.losses import NegativeLogLikelihood, TeacherTerm
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.parts.base import Need, Status
from scope_rlvr.salvage.salvage import salvage
from scope_rlvr.salvage.settings import Insertion, SalvageSettings


class FullPrefix(Settings):
    """The kept prefix gets the rollout's advantage, like every token that led to success."""

    kind: Literal["full"] = "full"

    def credit(self, advantage: float) -> tuple[float, float]:
        """Advantage and weight of a token of the prefix."""
        return advantage, 1.0


class MaskedPrefix(Settings):
    """The kept prefix does not train and is not counted in a normaliser (PrefixRL, CURE, R3L)."""

    kind: Literal["masked"] = "masked"

    def credit(self, advantage: float) -> tuple[float, float]:
        return 0.0, 0.0


class FractionOfPrefix(Settings):
    """The kept prefix gets a share of the advantage, because it led to success only with help (VPPO uses 0.5)."""

    kind: Literal["fraction"] = "fraction"
    share: float = Field(0.5, ge=0, le=1)

    def credit(self, advantage: float) -> tuple[float, float]:
        return self.share * advantage, 1.0


class PositivePrefix(Settings):
    """The kept prefix gets the advantage if that is positive, and otherwise 0."""

    kind: Literal["positive_only"] = "positive_only"

    def credit(self, advantage: float) -> tuple[float, float]:
        return max(0.0, advantage), 1.0


PrefixCredit = Annotated[FullPrefix | MaskedPrefix | FractionOfPrefix | PositivePrefix, BY_KIND, BARE_NAME]


class FailureCredit(StrEnum):
    """Which tokens of a failure that was not salvaged get its negative advantage.

    ``UNIFORM``: all. ``SPARE_PREFIX``: those from the first wrong step on, if the step scorer found one.
    """

    UNIFORM = "uniform"
    SPARE_PREFIX = "spare_prefix"


class Scope(SalvageSettings, GuidedMethod):
    """Salvage failures at their first wrong step, then train on the edited groups.

    A salvaged rollout is a prefix u, a teacher step z and a continuation v. The advantage is ``Â_i = r_i − mean(r)`` over
    the edited group. Tokens of u and v get the clipped on-policy surrogate, those of u with their ``prefix_credit``.
    Tokens of z get the ``teacher_term``, by default ``−teacher_weight · Â · log π``, only if ``Â > 0`` and without a clip.
    If nothing is salvaged, this is exactly GRPO. Source: arXiv 2602.24110 (abstract). Every open point is an option;
    docs/method.md gives the reasons.

    >>> Scope(max_salvages=2, teacher_term="plain", mode={"kind": "step", "max_tokens": 50}).teacher_term.kind
    'plain'
    """

    title: ClassVar[str] = "SCOPE"
    source: ClassVar[str] = "arXiv 2602.24110"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "failures corrected at their first wrong step, own prefix kept"
    formula: ClassVar[str] = "`Â = r − mean(r)` over the edited group; `S(Â)`, the teacher's step `−max(Â, 0)·log π`"
    departures: ClassVar[str] = (
        "everything that the abstract leaves open is an option; `docs/method.md` argues the defaults"
    )

    without_helpers: ClassVar[str] = "set max_salvages=0"

    name: Literal["scope"] = "scope"
    prefix_credit: PrefixCredit = Field(FullPrefix(), description="the credit of the kept prefix of a salvaged rollout")
    failure_credit: FailureCredit = Field(
        FailureCredit.UNIFORM,
        description="which tokens of a failure that was not salvaged get its negative advantage: all (`uniform`), or those "
        "from the first wrong step on, if the step scorer found one (`spare_prefix`)",
    )
    teacher_term: TeacherTerm = NegativeLogLikelihood()

    @property
    def own_needs(self) -> frozenset[Need]:
        uses = {
            Need.STEP_SCORER: self.uses_step_scorer,
            Need.TEACHER: self.teacher_writes,
            Need.TEACHER_SCORES: self.teacher_scores,
        }
        return frozenset(need for need, is_needed in uses.items() if is_needed)

    @property
    def num_reserved_rows(self) -> int:
        return super().num_reserved_rows + (0 if self.insertion is Insertion.REPLACE else self.max_salvages)

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return salvage(groups, self, tools)

    def credit_tokens(self, member: Member, advantage_T: Sequence[float]) -> Streams:
        """The advantages over kept prefix, teacher step and continuation, as the options say."""
        streams = super().credit_tokens(member, advantage_T)
        if member.role is Role.SALVAGED:
            return _with_start(
                streams, member, [self.prefix_credit.credit(a) for a in advantage_T[: _num_kept(member)]]
            )
        if self.failure_credit is FailureCredit.SPARE_PREFIX:
            return _with_start(streams, member, [(max(0.0, a), 1.0) for a in advantage_T[: _num_right(member)]])
        return streams


def _num_kept(member: Member) -> int:
    """Tokens of a salvaged rollout that it shares with the failure."""
    return 0 if member.salvage is None else member.salvage.num_kept_tokens


def _num_right(member: Member) -> int:
    """Tokens of a failure before its first wrong step; 0 if the step scorer found none or was not asked."""
    record = member.salvage
    return 0 if record is None or record.first_wrong_step is None else record.steps[record.first_wrong_step].start


def _with_start(streams: Streams, member: Member, start: Sequence[tuple[float, float]]) -> Streams:
    """Other credit, advantage and weight, for the first tokens, those aside that do not train here at all."""
    own = range(member.num_shared_tokens, len(start))
    return replace(
        streams,
        advantage_T=tuple(start[t][0] if t in own else a for t, a in enumerate(streams.advantage_T)),
        weight_T=tuple(start[t][1] if t in own else w for t, w in enumerate(streams.weight_T)),
    )
