"""From advantages to the token streams of one rollout: what all credit ends in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from scope_rlvr.core.groups import Group, Member, Role, Streams
from scope_rlvr.core.steps import Step
from scope_rlvr.formulas.advantages import Baseline, Normalisation, centred_rewards, normalise, returns_to_go

_Result = TypeVar("_Result")


def own_tokens(member: Member, advantage_T: Sequence[float]) -> Streams:
    """Streams with these advantages; tokens that the rollout shares with another one are left out."""
    shared_T, own = [0.0] * member.num_shared_tokens, len(member.rollout) - member.num_shared_tokens
    return Streams.of(member.rollout, [*shared_T, *advantage_T[member.num_shared_tokens :]], [*shared_T, *[1.0] * own])


def silent(member: Member) -> Streams:
    """Streams that train nothing and count nowhere: for unknown verdicts and dropped groups."""
    num_tokens = len(member.rollout)
    return Streams.of(member.rollout, [0.0] * num_tokens, [0.0] * num_tokens)


def paid_from_here(paid_S: Sequence[float], steps: Sequence[Step], num_tokens: int) -> list[float]:
    """For each of ``num_tokens`` tokens what is paid from its step on; nothing after the last of ``steps``."""
    paid_T = returns_to_go(paid_S, steps)
    return paid_T + [0.0] * (num_tokens - len(paid_T))


def sampled_rewards(group: Group, rewards_G: Sequence[float | None]) -> list[float | None]:
    """Rewards of what the policy wrote unaided; a replaced failure has the verifier's alone."""
    own = [reward for member, reward in zip(group.members, rewards_G, strict=True) if member.role is Role.SAMPLED]
    return own + [member.verdict.pay for member in group.replaced if member.role is Role.SAMPLED]


def outcome_advantages(
    groups: Sequence[Group],
    rewards_PG: Sequence[Sequence[float | None]],
    baseline: Baseline,
    normalisation: Normalisation,
) -> list[tuple[float, ...]]:
    """Reward minus baseline, divided as the normalisation says, for every member of every group: GRPO's advantages."""
    centred_PG = [
        centred_rewards(rewards_G, baseline, sampled_rewards(group, rewards_G))
        for group, rewards_G in zip(groups, rewards_PG, strict=True)
    ]
    return normalise(centred_PG, rewards_PG, normalisation)


def carrying(streams: Streams, member: Member, names: Iterable[str]) -> Streams:
    """The streams with some of the member's extras as further streams; a single number becomes one for every token.

    A member without the extra, because nobody could compute it, carries zeros.

    >>> from scope_rlvr.core.types import *
    >>> from scope_rlvr.core.groups import *
    >>> member = Member(Rollout((), (Segment((5, 6), Origin.POLICY),)), Verdict(Outcome.RIGHT)).having(novelty=0.5)
    >>> carrying(silent(member), member, ["novelty"]).extras
    {'novelty': (0.5, 0.5)}
    """
    num_tokens = len(member.rollout)
    found: dict[str, tuple[float, ...]] = {}
    for name in names:
        value = member.extras.get(name, 0.0)
        found[name] = tuple(value) if isinstance(value, Sequence) else (float(value),) * num_tokens
    return replace(streams, extras={**streams.extras, **found}) if found else streams


def over_members(
    groups: Sequence[Group], streams_PG: Sequence[Sequence[Streams]], of: Callable[[Group, Member, Streams], _Result]
) -> list[list[_Result]]:
    """``(P, G)``: something of every member and its streams, for what is computed of a whole batch."""
    return [
        [of(group, member, streams) for member, streams in zip(group.members, streams_G, strict=True)]
        for group, streams_G in zip(groups, streams_PG, strict=True)
    ]


def counted(value_PGT: Sequence[Sequence[Sequence[float]]], streams_PG: Sequence[Sequence[Streams]]) -> list[float]:
    """The values of all tokens of the batch that count, in order; a rollout without values is left out."""
    return [
        value
        for value_GT, streams_G in zip(value_PGT, streams_PG, strict=True)
        for value_T, streams in zip(value_GT, streams_G, strict=True)
        for value, weight in zip(value_T, streams.weight_T, strict=False)
        if weight > 0
    ]


def scaled(streams: Streams, factor_T: Sequence[float]) -> Streams:
    """The streams with each advantage times a factor; without factors, as nobody could compute them, they stay.

    >>> from scope_rlvr.core.types import *
    >>> streams = Streams.of(Rollout((), (Segment((5, 6), Origin.POLICY),)), [1.0, -1.0], [1.0, 1.0])
    >>> scaled(streams, [0.5, 0.25]).advantage_T, scaled(streams, []).advantage_T
    ((0.5, -0.25), (1.0, -1.0))
    """
    if not factor_T:
        return streams
    return replace(streams, advantage_T=tuple(a * f for a, f in zip(streams.advantage_T, factor_T, strict=True)))
