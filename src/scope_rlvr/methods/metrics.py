"""Figures of a training step; docs/metrics.md says how to read each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import SupportsFloat

from scope_rlvr.core.groups import Group, GroupClass, Member, Role, SalvageOutcome, SalvageRecord, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome


@dataclass(slots=True)
class Tally:
    """Numerators and denominators of figures, added up over micro-batches until a logging step reads them.

    >>> tally = Tally()
    >>> tally.ratio("accuracy", 1, 4); tally.ratio("accuracy", 3, 4); tally.total("salvage/admitted", 2)
    >>> tally.flush()
    {'accuracy': 0.5, 'salvage/admitted': 2.0}
    """

    ratios: dict[str, tuple[float, float]] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)
    minima: dict[str, float] = field(default_factory=dict)

    def ratio(self, name: str, part: SupportsFloat, whole: SupportsFloat) -> None:
        """Part over whole, both added up; not reported while the whole is zero."""
        old_part, old_whole = self.ratios.get(name, (0.0, 0.0))
        self.ratios[name] = (old_part + float(part), old_whole + float(whole))

    def total(self, name: str, value: SupportsFloat) -> None:
        self.totals[name] = self.totals.get(name, 0.0) + float(value)

    def largest(self, name: str, value: SupportsFloat) -> None:
        self.maxima[name] = max(self.maxima.get(name, float("-inf")), float(value))

    def smallest(self, name: str, value: SupportsFloat) -> None:
        self.minima[name] = min(self.minima.get(name, float("inf")), float(value))

    def __iadd__(self, other: Tally) -> Tally:
        for name, (part, whole) in other.ratios.items():
            self.ratio(name, part, whole)
        for name, value in other.totals.items():
            self.total(name, value)
        for name, value in other.maxima.items():
            self.largest(name, value)
        for name, value in other.minima.items():
            self.smallest(name, value)
        return self

    def flush(self) -> dict[str, float]:
        """The figures so far; starts anew."""
        figures = {name: part / whole for name, (part, whole) in self.ratios.items() if whole}
        figures |= self.totals | self.maxima | self.minima
        self.ratios, self.totals, self.maxima, self.minima = {}, {}, {}, {}
        return figures


def batch_tally(groups: Sequence[Group], streams_PG: Sequence[Sequence[Streams]], tools: Toolbox) -> Tally:
    """Figures of one batch of rollouts: of its groups, and of what was spent on it."""
    tally = group_tally(groups, streams_PG)
    for phase, seconds in tools.clock.seconds.items():
        tally.total(f"seconds/{phase}", seconds)
    for kind in ("sampled", "continuation", "teacher", "scored"):
        tally.total(f"tokens/{kind}", tools.tokens[kind])
    for name, count in tools.teacher_log.counts.items():
        tally.total(name, count)
    tally.ratio("teacher/aligned", tools.teacher_log.num_aligned, tools.teacher_log.num_to_align)
    for name, value in tools.told.items():
        tally.ratio(f"method/{name}", value, 1)
    return tally


def group_tally(groups: Sequence[Group], streams_PG: Sequence[Sequence[Streams]]) -> Tally:
    """Figures of the groups of one step: what the policy did unaided, and what became of its failures."""
    tally = Tally()
    sampled = [member for group in groups for member in group.sampled]
    known = [member for member in sampled if member.verdict.is_known]
    tally.ratio("accuracy", sum(m.verdict.is_right for m in known), len(known))
    tally.ratio("verdicts/unknown", len(sampled) - len(known), len(sampled))
    tally.ratio("rollouts/truncated", sum(m.rollout.is_truncated for m in sampled), len(sampled))
    tally.ratio("rollouts/tokens", sum(len(m.rollout) for m in sampled), len(sampled))
    tried = [group for group in groups if group.sampled]
    tally.ratio("pass_at_group", sum(any(m.verdict.is_right for m in g.sampled) for g in tried), len(tried))
    tally.ratio("diversity/distinct_right", sum(_num_distinct_right(g) for g in tried), len(tried))
    classes = Counter(group.group_class for group in groups)
    for group_class in GroupClass:
        tally.ratio(f"groups/{group_class.value.replace(' ', '_')}", classes[group_class], len(groups))
    is_flat = [not any(any(s.advantage_T) for s in streams_G) for streams_G in streams_PG]
    tally.ratio("groups/zero_advantage", sum(is_flat), len(groups))
    failures = [m for m in sampled if m.verdict.outcome is Outcome.WRONG]
    tally.total("salvage/failures", len(failures))
    _tally_salvage(tally, [m.salvage for m in failures if m.salvage is not None])
    return tally


def _num_distinct_right(group: Group) -> int:
    """Different right responses among the rollouts that the policy wrote unaided."""
    return len({m.rollout.token_ids for m in group.sampled if m.verdict.is_right})


def _tally_salvage(tally: Tally, records: Sequence[SalvageRecord]) -> None:
    located = [r for r in records if r.is_located]
    attempted = [r for r in records if r.was_attempted]
    admitted = [r for r in records if r.is_admitted]
    not_eligible = {SalvageOutcome.PREFIX_TOO_SHORT, SalvageOutcome.NO_ROOM}
    tally.total("salvage/scored", sum(bool(r.step_scores_S) for r in records))
    tally.total("salvage/located", len(located))
    tally.total("salvage/eligible", sum(r.was_attempted or r.outcome not in not_eligible for r in records if r.is_cut))
    tally.total("salvage/attempted", len(attempted))
    tally.total("salvage/passed_guards", sum(r.passed_guards for r in attempted))
    tally.total("salvage/admitted", len(admitted))
    tally.ratio("salvage/rate", len(admitted), len(attempted))
    lengths = [r.steps[-1].end for r in attempted]
    shares = [r.num_kept_tokens / n for r, n in zip(attempted, lengths, strict=True) if n]
    tally.ratio("salvage/prefix_ratio", sum(shares), len(shares))
    if shares:
        tally.smallest("salvage/prefix_ratio_min", min(shares))
        tally.largest("salvage/prefix_ratio_max", max(shares))
    tally.ratio("salvage/rounds", sum(len(r.corrections) for r in attempted), len(attempted))
    tally.total("salvage/kept_tokens", sum(r.num_kept_tokens for r in attempted))
    tally.total("salvage/teacher_tokens", sum(c.num_tokens for r in attempted for c in r.corrections))
    tally.total("salvage/continuation_tokens", sum(r.num_continuation_tokens for r in attempted))
    split = [r for r in records if r.steps]
    tally.ratio("rollouts/steps", sum(len(r.steps) for r in split), len(split))


def _unread(members: Sequence[Member]) -> str:
    """A hint where the verifier found no answer in most responses that ended: the pattern may be wrong, not they."""
    ended = [m for m in members if m.verdict.outcome is Outcome.WRONG and not m.rollout.is_truncated]
    # A verifier that pays its own reward does not say which answer it read.
    unread = [m.verdict.reason for m in ended if m.verdict.answer is None and m.verdict.reward is None]
    if 2 * len(unread) <= len(ended):
        return ""
    return f"; no answer was read in {len(unread)} of {len(ended)} responses that ended ({unread[0]}): check the section [verifier]"


def why_no_gradient(groups: Sequence[Group], streams_PG: Sequence[Sequence[Streams]]) -> str | None:
    """``None`` where some token can learn something, else the reason why the whole step teaches nothing."""
    if any(
        a and w for streams_G in streams_PG for s in streams_G for a, w in zip(s.advantage_T, s.weight_T, strict=True)
    ):
        return None
    members = [member for group in groups for member in group.members]
    unknown = sum(not m.verdict.is_known for m in members)
    truncated = sum(m.rollout.is_truncated for m in members)
    right = sum(m.verdict.is_right for m in members)
    counts = f"{right} right, {len(members) - right - unknown} wrong ({truncated} truncated), {unknown} unknown"
    if unknown == len(members):
        return f"no verdict is known ({counts}): look at the verifier and the references"
    if right == len(members):
        return f"every rollout is right ({counts}): the problems are too easy"
    if truncated == len(members):
        return f"every rollout is truncated ({counts}): raise max_response_tokens"
    if right == 0:
        salvaged = any(m.role is Role.SALVAGED for m in members)
        outcomes = Counter(m.salvage.outcome.value for m in members if m.salvage is not None)
        tried = f"; salvage said: {dict(outcomes)}" if outcomes and not salvaged else ""
        return f"every rollout is wrong and none could be salvaged ({counts}){_unread(members)}{tried}"
    return f"every group is all right or all wrong ({counts}): no group tells right from wrong"
