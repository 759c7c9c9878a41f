"""Salvage: turn a failed rollout into a right one while keeping what was right about it.

For a wrong rollout ``y = s_1 ... s_K`` the step scorer gives ``p_k``; the first wrong step is ``k*``. The policy's own
prefix ``u = s_1 ... s_{k*-1}`` is kept token for token, a teacher writes ``z`` (one step, or the rest), the policy
continues with ``v``, and ``u + z + v`` joins the group only if the verifier says that it is right. Otherwise the
original failure stays. Nothing here knows a model library, an engine or a loss.

Every batch of questions to the scorer, the teacher, the policy and the verifier spans all groups of a step.
"""

from __future__ import annotations

from collections.abc import Sequence

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.salvage.candidates import choose, collect
from scope_rlvr.salvage.correct import correct
from scope_rlvr.salvage.failure import still_open
from scope_rlvr.salvage.insert import insert
from scope_rlvr.salvage.locate import locate
from scope_rlvr.salvage.settings import SalvageSettings


def salvage(groups: Sequence[Group], settings: SalvageSettings, tools: Toolbox) -> list[Group]:
    """Salvage what can be salvaged of each group's failures; groups without failures come back as they are.

    Raises ``ValueError`` when a salvage is wanted but the toolbox has no step scorer or no teacher.
    """
    if settings.max_salvages == 0:
        return list(groups)
    for what, is_missing in (
        ("step scorer", settings.needs_step_scorer and tools.step_scorer is None),
        ("teacher", settings.needs_teacher and tools.teacher is None),
    ):
        if is_missing:
            raise ValueError(f"salvaging needs a {what}, and none was given; name one, or set max_salvages to 0")
    failures = collect(groups, settings)
    locate(still_open(failures), settings, tools)
    choose(still_open(failures), settings, tools.seed)
    correct(still_open(failures), settings, tools)
    return insert(groups, failures, settings)
