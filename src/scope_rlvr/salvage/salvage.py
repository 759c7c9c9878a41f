"""Salvage: turn a failed rollout into a right one and keep what was right about it.

The step scorer scores the steps of a wrong rollout ``y = s_1 ... s_K``; the first wrong step is ``k*``. The policy's own
prefix ``u = s_1 ... s_{k*-1}`` is kept token for token. A teacher writes ``z`` after it, one step or the rest, and the
policy continues with ``v``. The result ``u + z + v`` joins the group only if the verifier calls it right; otherwise the
failure stays.

Nothing here knows a model library, an engine or a loss. The scorer, the teacher, the policy and the verifier are each
asked for all groups of a step in one batch.
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
    """The groups with their failures salvaged where that succeeds; a group without a failure is returned as it is.

    Raises ``ValueError`` if the settings need a step scorer or a teacher and the toolbox has none.
    """
    if settings.max_salvages == 0:
        return list(groups)
    _require_helpers(settings, tools)
    failures = collect(groups, settings)
    locate(still_open(failures), settings, tools)
    choose(still_open(failures), settings, tools.seed)
    correct(still_open(failures), settings, tools)
    return insert(groups, failures, settings.insertion)


def _require_helpers(settings: SalvageSettings, tools: Toolbox) -> None:
    for what, is_missing in (
        ("step scorer", settings.uses_step_scorer and tools.step_scorer is None),
        ("teacher", settings.uses_teacher and tools.teacher is None),
    ):
        if is_missing:
            raise ValueError(f"salvaging needs a {what}, and none was given; name one, or set max_salvages to 0")
