"""Insert salvaged rollouts into their groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scope_rlvr.core.groups import Group, Member, Role, SalvageOutcome
from scope_rlvr.salvage.failure import Failure
from scope_rlvr.salvage.settings import Insertion


def insert(groups: Sequence[Group], failures: list[Failure], insertion: Insertion) -> list[Group]:
    """The groups with the admitted rollouts in them, and the record of its salvage on every failure."""
    by_group: dict[int, list[Failure]] = {}
    for failure in failures:
        by_group.setdefault(failure.group_index, []).append(failure)
    return [_edit(group, by_group.get(i, []), insertion) for i, group in enumerate(groups)]


def _edit(group: Group, failures: list[Failure], insertion: Insertion) -> Group:
    if not failures:
        return group
    members, replaced, added = list(group.members), list(group.replaced), []
    for failure in failures:
        record = failure.record()
        original = replace(failure.member, salvage=record)
        members[failure.index] = original
        if failure.outcome is not SalvageOutcome.ADMITTED or record.attempt is None or record.verdict is None:
            continue
        salvaged = Member(record.attempt, record.verdict, Role.SALVAGED, record)
        if insertion is Insertion.REPLACE:
            members[failure.index] = salvaged
            replaced.append(original)
        elif insertion is Insertion.PAIR:
            shared = record.num_kept_tokens
            members[failure.index] = replace(original, num_shared_tokens=shared)
            added.append(replace(salvaged, num_shared_tokens=shared))
        else:
            added.append(salvaged)
    return replace(group, members=tuple(members + added), replaced=tuple(replaced))
