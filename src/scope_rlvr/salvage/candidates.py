"""Choose the failures to salvage: those of marked groups, and the best of each group."""

from __future__ import annotations

import random
from collections.abc import Sequence

from scope_rlvr.core.groups import Group, SalvageOutcome
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Outcome
from scope_rlvr.salvage.failure import Failure
from scope_rlvr.salvage.settings import SalvageSettings


def collect(groups: Sequence[Group], settings: SalvageSettings) -> list[Failure]:
    """All wrong rollouts; each that must not be salvaged already has its outcome."""
    failures = []
    for number, group in enumerate(groups):
        known = [member.verdict for member in group.members if member.verdict.is_known]
        marked = settings.group_rule.marks(sum(verdict.is_right for verdict in known), len(known))
        for index, member in enumerate(group.members):
            if member.verdict.outcome is not Outcome.WRONG:
                continue
            failure = Failure(number, group, index)
            if not marked:
                failure.outcome = SalvageOutcome.GROUP_NOT_MARKED
            elif member.rollout.is_truncated and not settings.include_truncated:
                failure.outcome = SalvageOutcome.TRUNCATED
            failures.append(failure)
    return failures


def choose(failures: list[Failure], settings: SalvageSettings, seed: int) -> None:
    """Leave the ``max_salvages`` failures of each group that rank first; all others are ``NOT_CHOSEN``."""
    rng = random.Random(derive_seed(seed, "ranking"))
    by_group: dict[int, list[Failure]] = {}
    for failure in failures:
        by_group.setdefault(failure.group_index, []).append(failure)
    for rivals in by_group.values():
        keys = {id(failure): settings.ranking.key(failure, rng) for failure in rivals}
        for failure in sorted(rivals, key=lambda f: keys[id(f)])[settings.max_salvages :]:
            failure.outcome = SalvageOutcome.NOT_CHOSEN
